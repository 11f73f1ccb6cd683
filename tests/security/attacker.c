/* What hostile code in a box tries: one verb a run, one finding a line. Static, so that it runs in any root.
 *
 *   fds                     numbers of the open descriptors
 *   exchange A B SECONDS    exchange two names all the time
 *   watch SECONDS           attack every process of the runtime that shows up: what was got is told
 *   terminal                push input to the terminal at descriptor 0
 *   escapes                 calls that only an escape needs, and what came of them
 *   keyring-add KEY [NAME] [-- COMMAND]
 *                           a key in the session keyring, in a new one of that name for all who are the same user if
 *                           there is one; then wait, or become the command
 *   keyring-try KEY RING SERIAL
 *                           get at a key of another's keyring
 *   foreign ABI NUMBER      a system call with no arguments as an x32 or i386 program makes it, on x86-64
 *   mounts N                as many mounts
 *   fuse-serve DIR          a FUSE filesystem that answers nothing; tells once somebody waits for it
 *   fuse-wait DIR           wait for a file of such a filesystem, which is in itself if it is not there already
 *   fork-bomb, memory-bomb, zombies N, flood BYTES, files DIR N, cgroups DIR DEPTH, stop-init
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double now(void)
{
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return (double)at.tv_sec + (double)at.tv_nsec / 1e9;
}

static void tell(const char *what, long result)
{
    printf("%s %s\n", what, result < 0 ? strerrorname_np(errno) : "ok");
    fflush(stdout);
}

static int fds(void)
{
    struct stat found;
    for (int fd = 0; fd < 4096; fd++)
        if (fstat(fd, &found) == 0)
            printf("%d\n", fd);
    return 0;
}

static int exchange(const char *a, const char *b, double seconds)
{
    long turns = 0;
    for (double end = now() + seconds; now() < end; turns++)
        /* the victim may have made a name busy for a moment */
        if (syscall(SYS_renameat2, AT_FDCWD, a, AT_FDCWD, b, 2) < 0 && errno != EBUSY)
            return perror("renameat2"), 1;
    printf("turns %ld\n", turns);
    return 0;
}

/* --- watch: whoever runs the runtime's program in our process namespace is attacked --- */

static bool is_runtime(const char *pid)
{
    char path[64], text[32] = "";
    snprintf(path, sizeof path, "/proc/%s/cmdline", pid);
    int fd = open(path, O_RDONLY);
    if (fd < 0)
        return false;
    ssize_t got = read(fd, text, sizeof text - 1);
    close(fd);
    return got > 0 && strncmp(text, "boxwright", 9) == 0;
}

static void try_open(const char *pid, const char *name, int flags, const char *what)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%s/%s", pid, name);
    int fd = open(path, flags);
    if (fd >= 0) {
        if (is_runtime(pid)) /* still: it has not become a program of the box meanwhile */
            tell(what, fd);
        if (strcmp(name, "exe") == 0 && is_runtime(pid)) {
            snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
            int again = open(path, O_WRONLY);
            tell("write-exe", again);
            if (again >= 0)
                tell("overwrite-exe", write(again, "x", 1));
        }
        close(fd);
    }
}

static void attack(const char *pid)
{
    char path[64], target[256];
    try_open(pid, "exe", O_PATH, "exe");
    try_open(pid, "mem", O_RDWR, "mem");
    try_open(pid, "root", O_PATH | O_DIRECTORY, "root");
    try_open(pid, "cwd", O_PATH | O_DIRECTORY, "cwd");
    try_open(pid, "environ", O_RDONLY, "environ");
    try_open(pid, "maps", O_RDONLY, "maps");
    snprintf(path, sizeof path, "/proc/%s/fd/3", pid);
    if (readlink(path, target, sizeof target) >= 0 && is_runtime(pid))
        tell("fd-link", 0);
    if (ptrace(PTRACE_SEIZE, atoi(pid), 0, 0) == 0) {
        if (is_runtime(pid))
            tell("ptrace", 0);
        ptrace(PTRACE_INTERRUPT, atoi(pid), 0, 0);
        waitpid(atoi(pid), NULL, __WALL);
        ptrace(PTRACE_DETACH, atoi(pid), 0, 0);
    }
    int pidfd = (int)syscall(SYS_pidfd_open, atoi(pid), 0);
    for (int fd = 3; pidfd >= 0 && fd < 16; fd++)
        if (syscall(SYS_pidfd_getfd, pidfd, fd, 0) >= 0 && is_runtime(pid))
            tell("getfd", 0);
    if (pidfd >= 0)
        close(pidfd);
}

static int watch(double seconds)
{
    long seen = 0;
    printf("watching\n");
    fflush(stdout);
    for (double end = now() + seconds; now() < end;) {
        DIR *proc = opendir("/proc");
        for (struct dirent *entry; (entry = readdir(proc));)
            if (entry->d_name[0] >= '2' && entry->d_name[0] <= '9' ? is_runtime(entry->d_name)
                : entry->d_name[0] == '1' && entry->d_name[1] && is_runtime(entry->d_name)) {
                seen++;
                attack(entry->d_name);
            }
        closedir(proc);
    }
    printf("seen %ld\n", seen);
    return 0;
}

/* --- what should be refused --- */

static int terminal(void)
{
    char letter = '!';
    struct { char kind; short area[5]; } paste = {3, {0}};
    tell("TIOCSTI", ioctl(0, TIOCSTI, &letter));
    tell("TIOCSTI-high", syscall(SYS_ioctl, 0, (1UL << 32) | TIOCSTI, &letter));
    tell("TIOCSCTTY", ioctl(0, TIOCSCTTY, 1));
    tell("TIOCLINUX", ioctl(0, TIOCLINUX, &paste));
    tell("TIOCLINUX-high", syscall(SYS_ioctl, 0, (1UL << 32) | TIOCLINUX, &paste));
    return 0;
}

static void try_write(const char *path, const char *data)
{
    int fd = open(path, O_WRONLY);
    long rc = fd < 0 ? fd : write(fd, data, strlen(data));
    char what[128];
    snprintf(what, sizeof what, "write:%s", path);
    tell(what, rc);
    if (fd >= 0)
        close(fd);
}

static void try_read(const char *path)
{
    char data[16], what[128];
    int fd = open(path, O_RDONLY);
    ssize_t got = fd < 0 ? fd : read(fd, data, sizeof data);
    snprintf(what, sizeof what, "read:%s", path);
    if (got == 0)
        printf("%s empty\n", what);
    else
        tell(what, got);
    if (fd >= 0)
        close(fd);
}

static int escapes(int count, char **paths)
{
    tell("mount-tmpfs", mount("tmpfs", "/mnt", "tmpfs", 0, ""));
    tell("mount-proc", mount("proc", "/mnt", "proc", 0, ""));
    tell("mount-bind", mount("/", "/mnt", NULL, MS_BIND, NULL));
    tell("remount-proc-sys", mount(NULL, "/proc/sys", NULL, MS_REMOUNT | MS_BIND, NULL));
    tell("umount-mask", umount2("/proc/kcore", MNT_DETACH));
    tell("fsopen", syscall(SYS_fsopen, "tmpfs", 0));
    tell("open_tree", syscall(SYS_open_tree, AT_FDCWD, "/", 1));
    tell("pivot_root", syscall(SYS_pivot_root, "/mnt", "/mnt"));
    tell("unshare-mount", unshare(CLONE_NEWNS));
    tell("unshare-user", unshare(CLONE_NEWUSER));
    tell("unshare-cgroup", unshare(CLONE_NEWCGROUP));
    tell("setns", setns(open("/proc/1/ns/mnt", O_RDONLY), 0));
    tell("mknod-disk", mknod("/tmp/disk", S_IFBLK | 0600, makedev(254, 0)));
    tell("mknod-mem", mknod("/tmp/mem", S_IFCHR | 0600, makedev(1, 1)));
    tell("handle", syscall(SYS_open_by_handle_at, AT_FDCWD, "\0\0\0\0\0\0\0\0\0\0", O_RDONLY));
    tell("kexec", syscall(SYS_kexec_load, 0, 0, NULL, 0));
    tell("init_module", syscall(SYS_init_module, "", 0, ""));
    tell("finit_module", syscall(SYS_finit_module, 0, "", 0));
    tell("delete_module", syscall(SYS_delete_module, "none", 0));
    tell("bpf", syscall(SYS_bpf, 0, NULL, 0));
    tell("perf", syscall(SYS_perf_event_open, NULL, 0, -1, -1, 0));
    tell("userfaultfd", syscall(SYS_userfaultfd, 0));
    tell("keyctl", syscall(SYS_keyctl, 0, -3, 0));
    tell("reboot", syscall(SYS_reboot, 0xfee1dead, 672274793, 0x89abcdef, NULL));
    tell("settime", syscall(SYS_clock_settime, 0, NULL));
    tell("sethostname", sethostname("x", 1));
    tell("swapon", syscall(SYS_swapon, "/mnt", 0));
    tell("iopl", syscall(SYS_iopl, 3));
    tell("raw-socket", socket(AF_INET, SOCK_RAW, 1));
    tell("packet-socket", socket(AF_PACKET, SOCK_RAW, 0));
    tell("io_uring", syscall(SYS_io_uring_setup, 1, NULL));
    for (int i = 0; i < count; i++)
        if (paths[i][0] == '+')
            try_write(paths[i] + 1, "1");
        else
            try_read(paths[i]);
    return 0;
}

/* --- keyrings (keyctl(2)) --- */

enum { GET_ID, JOIN_SESSION, SET_PERMISSIONS = 5, LINK = 8, SEARCH = 10, READ = 11, SESSION_RING = -3 };

static long keyctl(int what, const void *a, const void *b, const void *c)
{
    char data[64];
    if (what == READ)
        return syscall(SYS_keyctl, READ, a, data, sizeof data);
    return syscall(SYS_keyctl, what, a, b, c, 0);
}

static const void *number(long value)
{
    return (const void *)value;
}

static int keyring_add(const char *key, char **rest)
{
    enum { ALL_TO_ALL = 0x3f3f3f3f };
    const char *name = *rest && strcmp(*rest, "--") != 0 ? *rest++ : NULL;
    if (name) {
        tell("join", keyctl(JOIN_SESSION, name, NULL, NULL));
        tell("permit", keyctl(SET_PERMISSIONS, number(SESSION_RING), number(ALL_TO_ALL), NULL));
    } else if (*rest) {
        keyctl(JOIN_SESSION, NULL, NULL, NULL);
    }
    long serial = syscall(SYS_add_key, "user", key, "secret", 6, SESSION_RING);
    fprintf(stderr, "session %ld\nkey %ld\n", keyctl(GET_ID, number(SESSION_RING), NULL, NULL), serial);
    if (*rest) {
        execvp(rest[1], rest + 1);
        return perror(rest[1]), 1;
    }
    pause();
    return 0;
}

static int keyring_try(const char *key, const void *ring, const void *serial)
{
    printf("session %ld\n", keyctl(GET_ID, number(SESSION_RING), NULL, NULL));
    tell("search", keyctl(SEARCH, ring, "user", key));
    tell("list", keyctl(READ, ring, NULL, NULL));
    tell("link", keyctl(LINK, serial, number(SESSION_RING), NULL));
    /* whoever has a keyring in his own possesses all that is in it */
    tell("link-ring", keyctl(LINK, ring, number(SESSION_RING), NULL));
    tell("search-own", keyctl(SEARCH, number(SESSION_RING), "user", key));
    tell("read", keyctl(READ, serial, NULL, NULL));
    return 0;
}

/* --- system calls by the ways of other programs than 64-bit ones --- */

static int foreign(const char *abi, long call)
{
#ifdef __x86_64__
    enum { X32_BIT = 0x40000000 };
    long result = 0;
    if (strcmp(abi, "x32") == 0)
        __asm__ volatile("syscall"
                         : "=a"(result)
                         : "a"(call | X32_BIT), "D"(0), "S"(0), "d"(0)
                         : "rcx", "r11", "memory");
    else if (strcmp(abi, "i386") == 0)
        __asm__ volatile("int $0x80"
                         : "=a"(result)
                         : "a"(call), "b"(0), "c"(0), "d"(0), "S"(0), "D"(0)
                         : "r8", "r9", "r10", "r11", "memory");
    else
        return 2;
    errno = (int)-result;
    tell(abi, result);
    return 0;
#else
    (void)abi, (void)call;
    return 2;
#endif
}

/* --- floods --- */

static int mounts(long count)
{
    long made = 0;
    for (long i = 0; i < count; i++)
        made += mount("tmpfs", "/mnt", "tmpfs", 0, "size=4k") == 0;
    printf("made %ld\n", made);
    return 0;
}

_Noreturn static void fork_bomb(void)
{
    for (;;)
        if (fork() < 0)
            sched_yield();
}

_Noreturn static void memory_bomb(void)
{
    for (;;) {
        char *more = malloc(1 << 20);
        if (more)
            memset(more, 1, 1 << 20);
    }
}

static int zombies(long count)
{
    long made = 0;
    for (long i = 0; i < count; i++) {
        pid_t pid = fork();
        if (pid == 0)
            _exit(0);
        made += pid > 0;
    }
    printf("made %ld\n", made);
    fflush(stdout);
    pause();
    return 0;
}

static int flood(long bytes)
{
    static char chunk[65536];
    memset(chunk, 'x', sizeof chunk);
    for (; bytes > 0; bytes -= (long)sizeof chunk)
        if (write(1, chunk, sizeof chunk) < 0)
            return 1;
    return 0;
}

static int files(const char *directory, long count)
{
    char name[64];
    long made = 0;
    if (chdir(directory) < 0)
        return perror("chdir"), 1;
    for (; made < count; made++) {
        snprintf(name, sizeof name, "file%ld", made);
        int fd = open(name, O_CREAT | O_WRONLY, 0600);
        if (fd < 0)
            break;
        close(fd);
    }
    tell("file", made < count ? -1 : 0);
    return 0;
}

static int cgroups(const char *directory, long depth)
{
    long made = 0;
    if (chdir(directory) < 0)
        return perror("chdir"), 1;
    while (made < depth && mkdir("deep", 0755) == 0 && chdir("deep") == 0)
        made++;
    printf("made %ld\n", made);
    return 0;
}

static int fuse_mount(const char *directory)
{
    char options[96];
    int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return perror("/dev/fuse"), -1;
    snprintf(options, sizeof options, "fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other", fd);
    if (mount("fuse", directory, "fuse", 0, options) < 0)
        return perror("mount"), -1;
    return fd;
}

/* Answers are to the greeting, without which nothing is asked, and to who asks what the root is, as all mounting does. */
static int fuse_serve(int fd)
{
    static _Alignas(8) char request[1 << 17];
    struct {
        struct fuse_out_header header;
        struct fuse_init_out init;
    } hello = {{sizeof hello, 0, 0}, {.major = FUSE_KERNEL_VERSION, .minor = 31, .max_write = 4096}};
    struct {
        struct fuse_out_header header;
        struct fuse_attr_out root;
    } attributes = {{sizeof attributes, 0, 0}, {.attr = {.ino = 1, .mode = S_IFDIR | 0755, .nlink = 2}}};
    printf("mounted\n");
    fflush(stdout);
    for (;;) {
        if (read(fd, request, sizeof request) < 0)
            return perror("read"), 1;
        struct fuse_in_header *header = (struct fuse_in_header *)request;
        hello.header.unique = attributes.header.unique = header->unique;
        if (header->opcode == FUSE_LOOKUP)
            break;
        ssize_t sent = 0;
        if (header->opcode == FUSE_INIT)
            sent = write(fd, &hello, sizeof hello);
        else if (header->opcode == FUSE_GETATTR)
            sent = write(fd, &attributes, sizeof attributes);
        else if (header->opcode != FUSE_FORGET) {
            struct fuse_out_header none = {sizeof none, -ENOSYS, header->unique};
            sent = write(fd, &none, sizeof none);
        }
        if (sent < 0)
            return perror("write"), 1;
    }
    printf("stuck\n");
    fflush(stdout);
    for (;;)
        pause();
}

static int fuse_wait(const char *directory)
{
    char path[128];
    struct stat found;
    if (access("/dev/fuse", F_OK) == 0) {
        int fd = fuse_mount(directory);
        if (fd < 0)
            return 1;
        if (fork() == 0)
            return fuse_serve(fd);
        close(fd);
    }
    snprintf(path, sizeof path, "%s/file", directory);
    return stat(path, &found) < 0;
}

static int stop_init(void)
{
    raise(SIGSTOP);
    return 0;
}

static double seconds(const char *text)
{
    return strtod(text, NULL);
}

int main(int argc, char **argv)
{
    const char *verb = argc > 1 ? argv[1] : "";
    if (strcmp(verb, "fds") == 0)
        return fds();
    if (strcmp(verb, "exchange") == 0 && argc == 5)
        return exchange(argv[2], argv[3], seconds(argv[4]));
    if (strcmp(verb, "watch") == 0 && argc == 3)
        return watch(seconds(argv[2]));
    if (strcmp(verb, "terminal") == 0)
        return terminal();
    if (strcmp(verb, "escapes") == 0)
        return escapes(argc - 2, argv + 2);
    if (strcmp(verb, "keyring-add") == 0 && argc >= 3)
        return keyring_add(argv[2], argv + 3);
    if (strcmp(verb, "keyring-try") == 0 && argc == 5)
        return keyring_try(argv[2], number(atol(argv[3])), number(atol(argv[4])));
    if (strcmp(verb, "foreign") == 0 && argc == 4)
        return foreign(argv[2], atol(argv[3]));
    if (strcmp(verb, "mounts") == 0 && argc == 3)
        return mounts(atol(argv[2]));
    if (strcmp(verb, "fork-bomb") == 0)
        fork_bomb();
    if (strcmp(verb, "memory-bomb") == 0)
        memory_bomb();
    if (strcmp(verb, "zombies") == 0 && argc == 3)
        return zombies(atol(argv[2]));
    if (strcmp(verb, "flood") == 0 && argc == 3)
        return flood(atol(argv[2]));
    if (strcmp(verb, "files") == 0 && argc == 4)
        return files(argv[2], atol(argv[3]));
    if (strcmp(verb, "cgroups") == 0 && argc == 4)
        return cgroups(argv[2], atol(argv[3]));
    if (strcmp(verb, "fuse-serve") == 0 && argc == 3) {
        int fd = fuse_mount(argv[2]);
        return fd < 0 ? 1 : fuse_serve(fd);
    }
    if (strcmp(verb, "fuse-wait") == 0 && argc == 3)
        return fuse_wait(argv[2]);
    if (strcmp(verb, "stop-init") == 0)
        return stop_init();
    fprintf(stderr, "attacker: no such verb, or not its arguments\n");
    return 2;
}
