/* A system out of a bare kernel, as far as plans need one. */
#include <poll.h>

#include "agent.h"

enum { PORT_NAME_BYTES = 64, WAIT_MS = 10000, STEP_MS = 1, LIST_BYTES = 16384 };

#define POWER_OFF 0x4321fedcUL

static bool is_system;

void power_off(void)
{
    (void)sys(sync, 0);
    (void)sys(reboot, 0xfee1dead, 672274793, POWER_OFF, NULL);
    sys_exit(1);
}

/* Not stdio: the console of a system without one is the kernel's log. */
static void say(const char *what, int error)
{
    char digits[NUMBER_BYTES] = "";
    char line[256] = "boxwright: ";
    size_t length = strlen(line), more = strnlen(what, sizeof line - length - 2 - NUMBER_BYTES - 8);
    memcpy(line + length, what, more);
    length += more;
    if (error) {
        memcpy(line + length, ": errno ", 8);
        size_t width = format_number(digits, error);
        memcpy(line + length + 8, digits, width);
        length += 8 + width;
    }
    line[length++] = '\n';
    _cleanup_close_ int log = is_system ? sys_openat(AT_FDCWD, "/dev/kmsg", O_WRONLY) : -1;
    (void)sys(write, log < 0 ? 2 : log, line, length);
}

void die(const char *why, int error)
{
    say(why, error);
    if (is_system)
        power_off();
    sys_exit(1);
}

static void mount_at(const char *place, const char *type, unsigned long flags)
{
    (void)sys(mkdirat, AT_FDCWD, place, 0755);
    long rc = sys(mount, type, place, type, flags, NULL);
    if (rc < 0 && rc != -EBUSY)
        say(place, (int)-rc);
}

/* The kernel's first filesystem cannot be left by pivot_root(2): go to one that can. What was in the first one is still
 * there beneath the descriptor. */
static int leave_first_root(void)
{
    int first = sys_openat(AT_FDCWD, "/", O_RDONLY | O_DIRECTORY);
    (void)sys(mkdirat, AT_FDCWD, "/root", 0755);
    long rc = sys(mount, "root", "/root", "tmpfs", 0, "mode=755");
    if (rc == 0)
        rc = sys(chdir, "/root");
    if (rc == 0)
        rc = sys(mount, ".", "/", NULL, MS_MOVE, NULL);
    if (rc == 0)
        rc = sys(chroot, ".");
    if (rc == 0)
        rc = sys(chdir, "/");
    if (rc < 0 || first < 0)
        die("no root filesystem", rc < 0 ? (int)-rc : -first);
    return first;
}

static void mount_all(void)
{
    mount_at("/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC);
    mount_at("/sys", "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC);
    mount_at("/dev", "devtmpfs", MS_NOSUID);
    mount_at("/run", "tmpfs", MS_NOSUID | MS_NODEV);
    mount_at("/sys/fs/cgroup", "cgroup2", MS_NOSUID | MS_NODEV | MS_NOEXEC);
    (void)sys(mount, "securityfs", "/sys/kernel/security", "securityfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
}

/* A kernel without a console leaves these closed, and what is opened next would be taken for them. */
static void open_stdio(void)
{
    int fd;
    while ((fd = (int)sys(openat, AT_FDCWD, "/dev/null", O_RDWR, 0)) >= 0 && fd <= 2)
        continue;
    if (fd > 2)
        (void)sys(close, fd);
}

/* The memory of its file is not needed any more. */
static void load_module(int root, const char *path)
{
    path += strspn(path, "/");
    _cleanup_close_ int file = sys_openat(root, path, O_RDONLY);
    long rc = file < 0 ? file : sys(finit_module, file, "", 0);
    if (rc < 0 && rc != -EEXIST)
        say(path, (int)-rc);
    (void)sys(unlinkat, root, path, 0);
}

static void load_modules(int root)
{
    static char list[LIST_BYTES];
    _cleanup_close_ int file = sys_openat(root, "modules", O_RDONLY);
    long got = file < 0 ? 0 : sys(read, file, list, sizeof list - 1);
    list[got > 0 ? got : 0] = 0;
    for (char *line = list; *line;) {
        char *next = line + strcspn(line, "\n");
        if (*next)
            *next++ = 0;
        if (*line)
            load_module(root, line);
        line = next;
    }
}

struct entry {
    uint64_t inode, offset;
    uint16_t length;
    uint8_t type;
    char name[];
};

static bool is_ours(int ports, const char *name)
{
    static const char wanted[] = "boxwright";
    char text[PORT_NAME_BYTES];
    _cleanup_close_ int port = sys_openat(ports, name, O_PATH | O_DIRECTORY);
    _cleanup_close_ int file = port < 0 ? -1 : sys_openat(port, "name", O_RDONLY);
    long got = file < 0 ? 0 : sys(read, file, text, sizeof text);
    return got >= (long)sizeof wanted - 1 && memcmp(text, wanted, sizeof wanted - 1) == 0 &&
           (got == (long)sizeof wanted - 1 || text[sizeof wanted - 1] == '\n');
}

/* The port's device, or a negative number if it is not there yet. */
static int open_port(void)
{
    char listing[2048] __attribute__((aligned(8)));
    long got;
    _cleanup_close_ int ports = sys_openat(AT_FDCWD, "/sys/class/virtio-ports", O_RDONLY | O_DIRECTORY);
    if (ports < 0)
        return ports;
    while ((got = sys(getdents64, ports, listing, sizeof listing)) > 0)
        for (long at = 0; at < got;) {
            const struct entry *entry = (const struct entry *)(void *)(listing + at);
            at += entry->length;
            if (entry->name[0] == '.' || !is_ours(ports, entry->name))
                continue;
            _cleanup_close_ int devices = sys_openat(AT_FDCWD, "/dev", O_PATH | O_DIRECTORY);
            return sys_openat(devices, entry->name, O_RDWR);
        }
    return -ENODEV;
}

/* What is written before the host has connected is lost. */
static bool is_connected(int port)
{
    struct pollfd asked = {.fd = port, .events = POLLOUT};
    struct timespec now = {0};
    return sys(ppoll, &asked, 1, &now, NULL, 0) > 0 && asked.revents & POLLOUT && !(asked.revents & POLLHUP);
}

static int wait_for_port(void)
{
    int port = -1;
    for (int waited_ms = 0; waited_ms < WAIT_MS; waited_ms += STEP_MS) {
        if (port < 0)
            port = open_port();
        if (port >= 0 && is_connected(port))
            return port;
        sys_sleep_ns(STEP_MS * 1000000L);
    }
    die("no port `boxwright` whose other end is open", port < 0 ? -port : 0);
}

static void raise_limits(void)
{
    enum { NOFILE = 7 };
    struct {
        uint64_t soft, hard;
    } files = {1024, 524288};
    (void)sys(prlimit64, 0, NOFILE, &files, NULL);
}

int make_system(void)
{
    is_system = true;
    _cleanup_close_ int root = leave_first_root();
    mount_all();
    open_stdio();
    load_modules(root);
    raise_limits();
    return wait_for_port();
}
