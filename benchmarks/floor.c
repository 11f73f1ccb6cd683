/* The floor: what a default container costs where nothing has to be decided.
 *
 *   floor ROOT ID GROUP…     GROUP: a writable directory of each cgroup hierarchy
 *
 * Makes the groups, clones into new pid, mount, network, uts, ipc and cgroup namespaces, makes the default mounts,
 * devices, links and masks, pivots, drops the capabilities, executes ROOT's /bin/true, waits, and removes the groups.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/sched.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PATH_BYTES = 4096, LAST_CAPABILITY = 40 };

static const char *root;
static const char *id;
static char **groups;

static void check(long rc, const char *what)
{
    if (rc >= 0)
        return;
    perror(what);
    exit(1);
}

static const char *join(const char *directory, const char *name)
{
    static char path[PATH_BYTES];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    return path;
}

static void put(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    check(fd, path);
    check(write(fd, text, strlen(text)), path);
    close(fd);
}

/* A new cpuset is empty, and takes no process before it has what its parent has. */
static void copy_down(const char *group, const char *name)
{
    char text[PATH_BYTES] = "";
    int fd = open(join(group, name), O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    check(read(fd, text, sizeof text - 1), group);
    close(fd);
    char below[PATH_BYTES];
    snprintf(below, sizeof below, "%s/%s/%s", group, id, name);
    put(below, text);
}

static void make_groups(void)
{
    for (char **group = groups; *group; group++) {
        check(mkdir(join(*group, id), 0755), *group);
        if (strstr(*group, "/cpuset")) {
            copy_down(*group, "cpuset.cpus");
            copy_down(*group, "cpuset.mems");
        }
    }
}

static void remove_groups(void)
{
    for (char **group = groups; *group; group++)
        while (rmdir(join(*group, id)) < 0 && errno == EBUSY)
            usleep(200);
}

/* Into v1 groups by `tasks`: `cgroup.procs` makes the kernel wait for all CPUs, which takes longer than all the rest. */
static void enter_groups(void)
{
    char path[PATH_BYTES];
    for (char **group = groups; *group; group++) {
        snprintf(path, sizeof path, "%s/%s/tasks", *group, id);
        if (access(path, F_OK) == 0)
            put(path, "0");
    }
}

/* The v2 group to be born in, or -1. */
static int open_unified(void)
{
    char path[PATH_BYTES];
    for (char **group = groups; *group; group++) {
        snprintf(path, sizeof path, "%s/%s/tasks", *group, id);
        if (access(path, F_OK) < 0)
            return open(join(*group, id), O_PATH | O_DIRECTORY | O_CLOEXEC);
    }
    return -1;
}

struct entry {
    const char *path, *type, *data;
    unsigned long flags;
};

static const struct entry mounts[] = {
    {"proc", "proc", NULL, MS_NOSUID | MS_NOEXEC | MS_NODEV},
    {"dev", "tmpfs", "mode=755,size=65536k", MS_NOSUID | MS_STRICTATIME},
    {"dev/pts", "devpts", "newinstance,ptmxmode=0666,mode=0620,gid=5", MS_NOSUID | MS_NOEXEC},
    {"dev/shm", "tmpfs", "mode=1777,size=65536k", MS_NOSUID | MS_NOEXEC | MS_NODEV},
    {"dev/mqueue", "mqueue", NULL, MS_NOSUID | MS_NOEXEC | MS_NODEV},
    {"sys", "sysfs", NULL, MS_NOSUID | MS_NOEXEC | MS_NODEV | MS_RDONLY},
    {"sys/fs/cgroup", "tmpfs", "mode=755", MS_NOSUID | MS_NOEXEC | MS_NODEV},
};

static void make_mounts(void)
{
    for (size_t i = 0; i < sizeof mounts / sizeof *mounts; i++) {
        const struct entry *one = &mounts[i];
        if (strncmp(one->path, "dev/", 4) == 0)
            check(mkdir(one->path, 0755), one->path);
        check(mount(one->type, one->path, one->type, one->flags, one->data), one->path);
    }
}

static void show_groups(void)
{
    char shown[PATH_BYTES];
    for (char **group = groups; *group; group++) {
        snprintf(shown, sizeof shown, "sys/fs/cgroup/%zu", (size_t)(group - groups));
        check(mkdir(shown, 0755), shown);
        check(mount(join(*group, id), shown, NULL, MS_BIND, NULL), shown);
        check(mount(NULL, shown, NULL, MS_BIND | MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL),
              shown);
    }
    check(mount(NULL, "sys/fs/cgroup", NULL, MS_BIND | MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL),
          "sys/fs/cgroup");
}

static void make_devices(void)
{
    static const struct {
        const char *path;
        unsigned major, minor;
    } nodes[] = {{"dev/null", 1, 3},   {"dev/zero", 1, 5},    {"dev/full", 1, 7},
                 {"dev/random", 1, 8}, {"dev/urandom", 1, 9}, {"dev/tty", 5, 0}};
    static const char *const links[][2] = {{"/proc/self/fd", "dev/fd"},
                                           {"/proc/self/fd/0", "dev/stdin"},
                                           {"/proc/self/fd/1", "dev/stdout"},
                                           {"/proc/self/fd/2", "dev/stderr"},
                                           {"pts/ptmx", "dev/ptmx"}};
    for (size_t i = 0; i < sizeof nodes / sizeof *nodes; i++)
        check(mknod(nodes[i].path, S_IFCHR | 0666, makedev(nodes[i].major, nodes[i].minor)), nodes[i].path);
    for (size_t i = 0; i < sizeof links / sizeof *links; i++)
        check(symlink(links[i][0], links[i][1]), links[i][1]);
}

static void hide(void)
{
    static const char *const masked[] = {"proc/acpi",        "proc/asound",     "proc/interrupts",
                                         "proc/kcore",       "proc/keys",       "proc/latency_stats",
                                         "proc/sched_debug", "proc/scsi",       "proc/timer_list",
                                         "proc/timer_stats", "sys/devices/virtual/powercap", "sys/firmware"};
    static const char *const fixed[] = {"proc/bus", "proc/fs", "proc/irq", "proc/sys", "proc/sysrq-trigger"};
    for (size_t i = 0; i < sizeof fixed / sizeof *fixed; i++) {
        if (mount(fixed[i], fixed[i], NULL, MS_BIND | MS_REC, NULL) == 0)
            check(mount(NULL, fixed[i], NULL, MS_BIND | MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL),
                  fixed[i]);
    }
    for (size_t i = 0; i < sizeof masked / sizeof *masked; i++)
        if (mount("dev/null", masked[i], NULL, MS_BIND, NULL) < 0 && errno == ENOTDIR)
            check(mount("tmpfs", masked[i], "tmpfs", MS_RDONLY, "size=4k"), masked[i]);
}

static void loopback_up(void)
{
    struct ifreq request = {.ifr_name = "lo", .ifr_flags = IFF_UP};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    check(fd, "socket");
    check(ioctl(fd, SIOCSIFFLAGS, &request), "lo");
    close(fd);
}

static void drop_capabilities(void)
{
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct none[2] = {{0, 0, 0}, {0, 0, 0}};
    for (int capability = 0; capability <= LAST_CAPABILITY; capability++)
        (void)prctl(PR_CAPBSET_DROP, capability, 0, 0, 0);
    check(syscall(SYS_capset, &header, none), "capset");
    check(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs");
}

static void contain(void)
{
    char *const argv[] = {"/bin/true", NULL};
    char *const env[] = {"PATH=/bin", NULL};
    enter_groups();
    check(unshare(CLONE_NEWCGROUP), "cgroup namespace");
    check(setsid(), "setsid");
    check(sethostname("floor", 5), "sethostname");
    loopback_up();
    check(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), "/");
    check(mount(root, root, NULL, MS_BIND | MS_REC, NULL), root);
    check(chdir(root), root);
    make_mounts();
    show_groups();
    make_devices();
    hide();
    check(syscall(SYS_pivot_root, ".", "."), "pivot_root");
    check(umount2(".", MNT_DETACH), "old root");
    check(chdir("/"), "/");
    drop_capabilities();
    check(execve(argv[0], argv, env), argv[0]);
}

int main(int argc, char **argv)
{
    struct clone_args args = {
        .flags = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWUTS | CLONE_NEWIPC,
        .exit_signal = SIGCHLD,
    };
    int status = 0;
    if (argc < 3)
        return 2;
    root = argv[1];
    id = argv[2];
    groups = argv + 3;
    umask(0);
    make_groups();
    int unified = open_unified();
    if (unified >= 0) {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = (uint64_t)unified;
    }
    pid_t pid = (pid_t)syscall(SYS_clone3, &args, sizeof args);
    check(pid, "clone3");
    if (pid == 0)
        contain();
    check(waitpid(pid, &status, 0), "waitpid");
    remove_groups();
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}
