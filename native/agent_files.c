/* What the agent does with files of the guest's kernel. */
#include <sys/ioctl.h>
#include <sys/utsname.h>

#include "agent.h"
#include "resolve.h"

#define GROUP "/sys/fs/cgroup/boxwright"

enum { DEEPEST_GROUP = 32, TEXT_FILE_BYTES = 4096 };

/* linux/random.h */
#define ADD_ENTROPY 0x40085203UL
#define RESEED 0x5207UL

/* --- READ --- */

/* A path below /proc or /sys that leads nowhere else, opened so that nothing is waited for. */
static int open_readable(const struct frame *frame)
{
    static const char *const trees[] = {"/proc/", "/sys/"};
    char path[FRAME_PATH_MAX + 1];
    memcpy(path, frame->payload, frame->length);
    path[frame->length] = 0;
    if (strlen(path) != frame->length)
        return -EINVAL;
    for (size_t i = 0; i < sizeof trees / sizeof *trees; i++) {
        size_t length = strlen(trees[i]);
        if (strncmp(path, trees[i], length) != 0)
            continue;
        _cleanup_close_ int tree = sys_openat(AT_FDCWD, trees[i], O_PATH | O_DIRECTORY);
        return tree < 0 ? tree
                        : open_how(tree, path + length, O_RDONLY | O_NONBLOCK | O_NOFOLLOW,
                                   RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS);
    }
    return -EACCES;
}

struct entry {
    uint64_t inode, offset;
    uint16_t length;
    uint8_t type;
    char name[];
};

/* The next directories below a directory, a name and a newline each; 0 at its end. */
static long read_names(int directory, char *out)
{
    enum { DIRECTORY_TYPE = 4 };
    char listing[2048] __attribute__((aligned(8))); /* fits a piece: an entry is longer than its line */
    long got, filled = 0;
    while (filled == 0 && (got = sys(getdents64, directory, listing, sizeof listing)) != 0) {
        if (got < 0)
            return got;
        for (long at = 0; at < got;) {
            const struct entry *entry = (const struct entry *)(void *)(listing + at);
            at += entry->length;
            if (entry->type != DIRECTORY_TYPE || entry->name[0] == '.')
                continue;
            size_t length = strlen(entry->name);
            memcpy(out + filled, entry->name, length);
            out[filled + (long)length] = '\n';
            filled += (long)length + 1;
        }
    }
    return filled;
}

void answer_read(struct agent *me, const struct frame *frame)
{
    static char piece[FRAME_PAYLOAD_MAX];
    uint32_t number = frame->channel;
    _cleanup_close_ int fd = open_readable(frame);
    long got = fd < 0 ? fd : 1;
    bool names = false;
    for (size_t total = 0; got > 0 && total < FRAME_CONTENT_MAX; total += (size_t)got) {
        size_t left = FRAME_CONTENT_MAX - total;
        got = names ? -EISDIR : sys(read, fd, piece, left < sizeof piece ? left : sizeof piece);
        if (got == -EISDIR) {
            names = true;
            got = read_names(fd, piece);
        }
        if (got > 0)
            send_frame(me, number, FRAME_CONTENT, 0, piece, (size_t)got);
    }
    send_done(me, number, got < 0 ? (int)-got : 0);
}

/* --- what the container has taken --- */

static void read_group_file(const char *path, char *text, size_t size)
{
    _cleanup_close_ int fd = sys_openat(AT_FDCWD, path, O_RDONLY);
    long got = fd < 0 ? 0 : sys(read, fd, text, size - 1);
    text[got > 0 ? got : 0] = 0;
}

static uint64_t parse_number(const char *text)
{
    uint64_t number = 0;
    for (; *text >= '0' && *text <= '9'; text++)
        number = number * 10 + (uint64_t)(*text - '0');
    return number;
}

uint64_t count_oom_kills(void)
{
    static const char key[] = "oom_kill ";
    char text[TEXT_FILE_BYTES];
    read_group_file(GROUP "/memory.events", text, sizeof text);
    for (const char *line = text; *line; line += strcspn(line, "\n"), line += *line != 0)
        if (strncmp(line, key, sizeof key - 1) == 0)
            return parse_number(line + sizeof key - 1);
    return 0;
}

uint64_t memory_peak_bytes(void)
{
    char text[TEXT_FILE_BYTES];
    read_group_file(GROUP "/memory.peak", text, sizeof text);
    return parse_number(text);
}

/* --- SEED --- */

int seed(const struct frame *frame)
{
    struct timespec now = {.tv_sec = payload_i64(frame, 0), .tv_nsec = (long)payload_i64(frame, 8)};
    struct {
        int32_t bits, bytes;
        uint8_t data[FRAME_SEED_MAX - FRAME_SEED_MIN];
    } pool = {.bytes = (int32_t)(frame->length - FRAME_SEED_MIN)};
    long rc = sys(clock_settime, CLOCK_REALTIME, &now);
    if (rc < 0 || pool.bytes == 0)
        return (int)rc;
    pool.bits = pool.bytes * 8;
    memcpy(pool.data, frame->payload + FRAME_SEED_MIN, (size_t)pool.bytes);
    _cleanup_close_ int random = sys_openat(AT_FDCWD, "/dev/urandom", O_RDWR);
    if (random < 0)
        return random;
    rc = sys(ioctl, random, ADD_ENTROPY, &pool);
    if (rc == 0)
        rc = sys(ioctl, random, RESEED, 0);
    return (int)rc;
}

/* --- SIGNAL to all --- */

/* 0, or the last failure that was not for a process which had ended. */
static int signal_processes(int group, int number)
{
    char text[TEXT_FILE_BYTES];
    _cleanup_close_ int list = sys_openat(group, "cgroup.procs", O_RDONLY);
    long got, rc = 0;
    pid_t pid = 0;
    if (list < 0)
        return list;
    while ((got = sys(read, list, text, sizeof text)) > 0)
        for (long i = 0; i < got; i++) {
            if (text[i] >= '0' && text[i] <= '9') {
                pid = pid * 10 + (text[i] - '0');
                continue;
            }
            long sent = pid > 1 ? sys(kill, pid, number) : 0;
            rc = sent < 0 && sent != -ESRCH ? sent : rc;
            pid = 0;
        }
    return got < 0 ? (int)got : (int)rc;
}

static int signal_below(int group, int number, int depth)
{
    enum { DIRECTORY_TYPE = 4 };
    char listing[2048] __attribute__((aligned(8)));
    long got;
    int rc = signal_processes(group, number);
    while (depth < DEEPEST_GROUP && (got = sys(getdents64, group, listing, sizeof listing)) > 0)
        for (long at = 0; at < got;) {
            const struct entry *entry = (const struct entry *)(void *)(listing + at);
            at += entry->length;
            if (entry->type != DIRECTORY_TYPE || entry->name[0] == '.')
                continue;
            _cleanup_close_ int child = sys_openat(group, entry->name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
            int below = child < 0 ? 0 : signal_below(child, number, depth + 1);
            rc = rc < 0 ? rc : below;
        }
    return rc;
}

int signal_group(int number)
{
    _cleanup_close_ int group = sys_openat(AT_FDCWD, GROUP, O_RDONLY | O_DIRECTORY);
    if (group < 0)
        return group == -ENOENT ? -ESRCH : group;
    _cleanup_close_ int killer = number == SIGKILL ? sys_openat(group, "cgroup.kill", O_WRONLY) : -1;
    if (killer >= 0 && sys(write, killer, "1", 1) == 1)
        return 0;
    return signal_below(group, number, 0);
}

/* --- HELLO --- */

struct writer {
    char *at;
    size_t left;
};

static void add(struct writer *out, const char *text, size_t length)
{
    length = length < out->left ? length : out->left;
    memcpy(out->at, text, length);
    out->at += length;
    out->left -= length;
}

static void add_line(struct writer *out, const char *name, const char *value)
{
    add(out, name, strlen(name));
    add(out, "=", 1);
    add(out, value, strlen(value));
    add(out, "\n", 1);
}

static void add_number(struct writer *out, const char *name, uint64_t value)
{
    char digits[NUMBER_BYTES];
    (void)format_number(digits, (int64_t)value);
    add_line(out, name, digits);
}

/* The first line of a file, or nothing. */
static void read_line(const char *path, char text[TEXT_FILE_BYTES])
{
    _cleanup_close_ int fd = sys_openat(AT_FDCWD, path, O_RDONLY);
    long got = fd < 0 ? 0 : sys(read, fd, text, TEXT_FILE_BYTES - 1);
    text[got > 0 ? got : 0] = 0;
    text[strcspn(text, "\n")] = 0;
}

static void add_file(struct writer *out, const char *name, const char *path)
{
    char text[TEXT_FILE_BYTES];
    read_line(path, text);
    add_line(out, name, text);
}

/* Lines are `nodev<tab>name` or `<tab>name`. */
static void add_filesystems(struct writer *out)
{
    char text[TEXT_FILE_BYTES];
    _cleanup_close_ int fd = sys_openat(AT_FDCWD, "/proc/filesystems", O_RDONLY);
    long got = fd < 0 ? 0 : sys(read, fd, text, sizeof text - 1);
    text[got > 0 ? got : 0] = 0;
    add(out, "filesystems=", 12);
    bool first = true;
    for (const char *tab = strchr(text, '\t'); tab; tab = strchr(tab + 1, '\t')) {
        if (!first)
            add(out, " ", 1);
        first = false;
        add(out, tab + 1, strcspn(tab + 1, "\n"));
    }
    add(out, "\n", 1);
}

/* `MemTotal:  262144 kB` */
static uint64_t memory_bytes(void)
{
    char text[TEXT_FILE_BYTES];
    uint64_t number = 0;
    read_line("/proc/meminfo", text);
    for (const char *at = text; *at; at++)
        if (*at >= '0' && *at <= '9')
            number = number * 10 + (uint64_t)(*at - '0');
    return number * 1024;
}

static uint64_t count_cpus(void)
{
    uint8_t mask[1024];
    uint64_t count = 0;
    long got = sys(sched_getaffinity, 0, sizeof mask, mask);
    for (long i = 0; i < got; i++)
        count += (uint64_t)__builtin_popcount(mask[i]);
    return count;
}

size_t describe_guest(char *out, size_t size)
{
    struct utsname names;
    struct writer writer = {out, size};
    (void)sys(uname, &names);
    add_line(&writer, "kernel", names.release);
    add_line(&writer, "machine", names.machine);
    add_file(&writer, "controllers", "/sys/fs/cgroup/cgroup.controllers");
    add_file(&writer, "last_cap", "/proc/sys/kernel/cap_last_cap");
    add_file(&writer, "lsm", "/sys/kernel/security/lsm");
    add_filesystems(&writer);
    add_number(&writer, "memory_bytes", memory_bytes());
    add_number(&writer, "cpus", count_cpus());
    return size - writer.left;
}
