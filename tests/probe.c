/* The program of containers under test: does one small thing after the other and prints a line for each.
 *
 * usage: probe VERB [WORD…] [, VERB [WORD…]]…
 *
 * It is linked statically and calls the kernel where a C library would hide what is to be seen.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

enum { MAX_FDS = 1024, MAX_GROUPS = 256, WHO_PROCESS = 1, WHO_GROUP = 2 };

struct sched_words {
    uint32_t size, policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime, deadline, period;
    uint32_t util_min, util_max;
};

/* An error is told as the negative number. */
static int print_result(const char *what, long result)
{
    printf("%s %ld\n", what, result < 0 ? -errno : result);
    return 0;
}

static int do_args(int count, char **words)
{
    for (int i = 0; i < count; i++)
        printf("%s%s", i ? " " : "", words[i]);
    putchar('\n');
    return 0;
}

static int do_env(int count, char **words)
{
    (void)count, (void)words;
    for (char **entry = environ; *entry; entry++)
        puts(*entry);
    return 0;
}

static int do_cwd(int count, char **words)
{
    char path[4096];
    (void)count, (void)words;
    return getcwd(path, sizeof path) ? puts(path) == EOF : print_result("cwd", -1);
}

/* Open descriptors with what they are; found without opening one. */
static int do_fds(int count, char **words)
{
    (void)count, (void)words;
    for (int fd = 0; fd < MAX_FDS; fd++) {
        char link[64], target[4096];
        if (fcntl(fd, F_GETFD) < 0)
            continue;
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        ssize_t length = readlink(link, target, sizeof target - 1);
        target[length < 0 ? 0 : length] = 0;
        printf("%d %s\n", fd, target);
    }
    return 0;
}

static int do_ids(int count, char **words)
{
    uid_t r, e, s;
    gid_t groups[MAX_GROUPS];
    (void)count, (void)words;
    getresuid(&r, &e, &s);
    printf("uid %u %u %u\n", r, e, s);
    getresgid(&r, &e, &s);
    printf("gid %u %u %u\ngroups", r, e, s);
    int found = getgroups(MAX_GROUPS, groups);
    for (int i = 0; i < found; i++)
        printf(" %u", groups[i]);
    putchar('\n');
    return 0;
}

static int do_umask(int count, char **words)
{
    (void)count, (void)words;
    printf("%04o\n", umask(0));
    return 0;
}

static int do_rlimit(int count, char **words)
{
    for (int i = 0; i < count; i++) {
        struct rlimit limit;
        if (getrlimit(atoi(words[i]), &limit))
            return print_result(words[i], -1);
        printf("%s %lu %lu\n", words[i], (unsigned long)limit.rlim_cur, (unsigned long)limit.rlim_max);
    }
    return 0;
}

static int do_sched(int count, char **words)
{
    struct sched_words s = {.size = sizeof s};
    (void)count, (void)words;
    if (syscall(SYS_sched_getattr, 0, &s, sizeof s, 0))
        return print_result("sched", -1);
    printf("policy %u flags %lu nice %d priority %u runtime %lu deadline %lu period %lu\n", s.policy,
           (unsigned long)s.flags, s.nice, s.priority, (unsigned long)s.runtime, (unsigned long)s.deadline,
           (unsigned long)s.period);
    return 0;
}

static int do_ioprio(int count, char **words)
{
    (void)count, (void)words;
    long own = syscall(SYS_ioprio_get, WHO_PROCESS, 0), group = syscall(SYS_ioprio_get, WHO_GROUP, 0);
    printf("class %ld priority %ld group %s\n", own >> 13, own & 7, own == group ? "same" : "other");
    return 0;
}

static int do_affinity(int count, char **words)
{
    cpu_set_t set;
    (void)count, (void)words;
    if (sched_getaffinity(0, sizeof set, &set))
        return print_result("affinity", -1);
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
        if (CPU_ISSET(cpu, &set))
            printf("%d ", cpu);
    putchar('\n');
    return 0;
}

static int do_mempolicy(int count, char **words)
{
    int mode = 0;
    unsigned long nodes[16] = {0};
    (void)count, (void)words;
    if (syscall(SYS_get_mempolicy, &mode, nodes, sizeof nodes * 8, 0, 0))
        return print_result("mempolicy", -1);
    printf("mode %d flags %#x nodes %#lx\n", mode & 0xfff, mode & ~0xfff, nodes[0]);
    return 0;
}

static int do_personality(int count, char **words)
{
    struct utsname names;
    (void)count, (void)words;
    uname(&names);
    printf("%#lx %s\n", (unsigned long)syscall(SYS_personality, 0xffffffffUL), names.machine);
    return 0;
}

static int do_uname(int count, char **words)
{
    struct utsname names;
    (void)count, (void)words;
    uname(&names);
    printf("%s %s\n", names.nodename, names.domainname);
    return 0;
}

static int do_clocks(int count, char **words)
{
    struct timespec monotonic, boottime;
    (void)count, (void)words;
    clock_gettime(CLOCK_MONOTONIC, &monotonic);
    clock_gettime(CLOCK_BOOTTIME, &boottime);
    printf("%ld.%09ld %ld.%09ld\n", (long)monotonic.tv_sec, monotonic.tv_nsec, (long)boottime.tv_sec,
           boottime.tv_nsec);
    return 0;
}

static int do_session(int count, char **words)
{
    (void)count, (void)words;
    printf("pid %d ppid %d sid %d pgrp %d\n", getpid(), getppid(), getsid(0), getpgrp());
    return 0;
}

/* Terminals among 0 to 2, the size, and whether it controls the session. */
static int do_tty(int count, char **words)
{
    struct winsize size = {0};
    (void)count, (void)words;
    int control = open("/dev/tty", O_RDWR | O_CLOEXEC | O_NOCTTY), error = errno;
    printf("tty %d%d%d", isatty(0), isatty(1), isatty(2));
    if (!ioctl(0, TIOCGWINSZ, &size))
        printf(" rows %d columns %d", size.ws_row, size.ws_col);
    printf(" control %d\n", control < 0 ? -error : 0);
    if (control >= 0)
        close(control);
    return 0;
}

/* type major:minor mode uid:gid of each path, links not followed */
static int do_stat(int count, char **words)
{
    for (int i = 0; i < count; i++) {
        struct stat s;
        if (lstat(words[i], &s)) {
            print_result(words[i], -1);
            continue;
        }
        const char *kind = S_ISCHR(s.st_mode)    ? "c"
                           : S_ISBLK(s.st_mode)  ? "b"
                           : S_ISFIFO(s.st_mode) ? "p"
                           : S_ISDIR(s.st_mode)  ? "d"
                           : S_ISLNK(s.st_mode)  ? "l"
                                                 : "-";
        printf("%s %s %u:%u %04o %u:%u", words[i], kind, major(s.st_rdev), minor(s.st_rdev), s.st_mode & 07777,
               s.st_uid, s.st_gid);
        char target[4096] = "";
        if (S_ISLNK(s.st_mode) && readlink(words[i], target, sizeof target - 1) > 0)
            printf(" %s", target);
        putchar('\n');
    }
    return 0;
}

static int do_list(int count, char **words)
{
    for (int i = 0; i < count; i++) {
        struct dirent **entries;
        int found = scandir(words[i], &entries, NULL, alphasort);
        if (found < 0)
            print_result(words[i], -1);
        for (int j = 0; j < found; j++)
            if (strcmp(entries[j]->d_name, ".") && strcmp(entries[j]->d_name, ".."))
                puts(entries[j]->d_name);
    }
    return 0;
}

static int do_cat(int count, char **words)
{
    for (int i = 0; i < count; i++) {
        char chunk[65536];
        ssize_t got;
        int fd = open(words[i], O_RDONLY | O_CLOEXEC);
        if (fd < 0) {
            print_result(words[i], -1);
            continue;
        }
        fflush(stdout);
        while ((got = read(fd, chunk, sizeof chunk)) > 0)
            if (write(1, chunk, (size_t)got) != got)
                return 1;
        if (got < 0)
            print_result(words[i], -1);
        close(fd);
    }
    return 0;
}

/* Path and the result of an open for reading, of which one byte is read. */
static int do_read(int count, char **words)
{
    for (int i = 0; i < count; i++) {
        char byte;
        int fd = open(words[i], O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
        print_result(words[i], fd < 0 ? -1 : read(fd, &byte, 1));
        if (fd >= 0)
            close(fd);
    }
    return 0;
}

/* Path and the result of an open for writing, to which one byte is written. */
static int do_write(int count, char **words)
{
    for (int i = 0; i < count; i++) {
        int fd = open(words[i], O_WRONLY | O_CREAT | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0666);
        print_result(words[i], fd < 0 ? -1 : write(fd, "x", 1));
        if (fd >= 0)
            close(fd);
    }
    return 0;
}

/* Path and 0, or why it cannot be opened for reading. */
static int do_open(int count, char **words)
{
    for (int i = 0; i < count; i++) {
        int fd = open(words[i], O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
        print_result(words[i], fd < 0 ? -1 : 0);
        if (fd >= 0)
            close(fd);
    }
    return 0;
}

static int do_mkdir(int count, char **words)
{
    for (int i = 0; i < count; i++)
        print_result(words[i], mkdir(words[i], 0777));
    return 0;
}

static int do_mknod(int count, char **words)
{
    if (count != 3)
        return 2;
    dev_t number = makedev((unsigned)atoi(words[1]), (unsigned)atoi(words[2]));
    return print_result(words[0], mknod(words[0], S_IFCHR | 0666, number));
}

static int do_mount(int count, char **words)
{
    if (count != 3)
        return 2;
    return print_result(words[1], mount(words[0], words[1], words[2], 0, NULL));
}

static int do_bind(int count, char **words)
{
    if (count != 2)
        return 2;
    return print_result(words[1], mount(words[0], words[1], NULL, MS_BIND, NULL));
}

static int do_setuid(int count, char **words)
{
    return count == 1 ? print_result("setuid", setuid((uid_t)atoi(words[0]))) : 2;
}

/* A system call by number, with up to six numbers; what it gives. */
static int do_syscall(int count, char **words)
{
    long number[7] = {0};
    for (int i = 0; i < count && i < 7; i++)
        number[i] = strtol(words[i], NULL, 0);
    errno = 0;
    long result = syscall(number[0], number[1], number[2], number[3], number[4], number[5], number[6]);
    return print_result("syscall", result);
}

static void on_trap(int signal, siginfo_t *info, void *context)
{
    char line[64];
    (void)context;
    int length = snprintf(line, sizeof line, "signal %d code %d call %d\n", signal, info->si_code, info->si_syscall);
    if (write(1, line, (size_t)length) < 0)
        _exit(1);
    _exit(0);
}

/* SIGSYS is caught and told. */
static int do_catch(int count, char **words)
{
    struct sigaction action = {.sa_sigaction = on_trap, .sa_flags = SA_SIGINFO};
    (void)count, (void)words;
    return sigaction(SIGSYS, &action, NULL);
}

static void *thread_stack(void)
{
    return (char *)malloc(65536) + 65536;
}

static int call_getppid(void *unused)
{
    (void)unused;
    syscall(SYS_getppid);
    syscall(SYS_exit, 0);
    return 0;
}

/* The call in a thread of its own: does the process live on? */
static int do_thread(int count, char **words)
{
    (void)count, (void)words;
    int flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM;
    int thread = clone(call_getppid, thread_stack(), flags, NULL);
    if (thread < 0)
        return print_result("thread", -1);
    while (!syscall(SYS_tkill, thread, 0))
        sched_yield();
    puts("alive");
    return 0;
}

/* Say ready, wait for the signal and name it. */
static int do_await(int count, char **words)
{
    sigset_t set;
    sigfillset(&set);
    sigprocmask(SIG_BLOCK, &set, NULL);
    puts("ready");
    fflush(stdout);
    int signal = sigwaitinfo(&set, NULL);
    printf("signal %d\n", signal);
    return count == 1 ? atoi(words[0]) : 0;
}

static int do_signals(int count, char **words)
{
    (void)count, (void)words;
    sigset_t blocked;
    sigprocmask(SIG_BLOCK, NULL, &blocked);
    for (int number = 1; number < 65; number++) {
        struct sigaction action;
        if (sigismember(&blocked, number) == 1)
            printf("blocked %d\n", number);
        if (!sigaction(number, NULL, &action) && action.sa_handler == SIG_IGN)
            printf("ignored %d\n", number);
    }
    return 0;
}

static int do_pause(int count, char **words)
{
    (void)count, (void)words;
    fflush(stdout);
    while (pause() < 0)
        continue;
    return 0;
}

static int do_exit(int count, char **words)
{
    fflush(stdout);
    _exit(count == 1 ? atoi(words[0]) : 0);
}

static const struct {
    const char *name;
    int (*run)(int count, char **words);
} VERBS[] = {
    {"affinity", do_affinity}, {"args", do_args},     {"await", do_await},     {"bind", do_bind},
    {"cat", do_cat},           {"catch", do_catch},   {"clocks", do_clocks},   {"cwd", do_cwd},
    {"env", do_env},           {"exit", do_exit},     {"fds", do_fds},         {"ids", do_ids},
    {"ioprio", do_ioprio},     {"list", do_list},     {"mempolicy", do_mempolicy},
    {"mkdir", do_mkdir},       {"mknod", do_mknod},   {"mount", do_mount},     {"open", do_open},         {"pause", do_pause},
    {"personality", do_personality}, {"read", do_read}, {"rlimit", do_rlimit}, {"sched", do_sched},
    {"session", do_session},   {"setuid", do_setuid}, {"signals", do_signals}, {"stat", do_stat},
    {"syscall", do_syscall},   {"thread", do_thread}, {"tty", do_tty},         {"umask", do_umask},
    {"uname", do_uname},       {"write", do_write},
};

static int run_verb(int count, char **words)
{
    for (size_t i = 0; i < sizeof VERBS / sizeof *VERBS; i++)
        if (!strcmp(VERBS[i].name, words[0]))
            return VERBS[i].run(count - 1, words + 1);
    fprintf(stderr, "probe: no verb %s\n", words[0]);
    return 2;
}

int main(int argc, char **argv)
{
    int status = 0;
    for (int start = 1; start < argc && status == 0;) {
        int end = start;
        while (end < argc && strcmp(argv[end], ","))
            end++;
        status = end > start ? run_verb(end - start, argv + start) : 2;
        start = end + 1;
    }
    fflush(stdout);
    return status;
}
