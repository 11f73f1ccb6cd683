/* System calls as the kernel defines them: a result or -errno, no errno variable, no libc wrapper in between.
 *
 * musl's headers know neither the new mount calls nor linux/…, and its wrappers cache what a raw clone makes stale.
 * So numbers and structures stand here, by hand, for the two architectures that we support.
 */
#pragma once

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <time.h>

#if defined(__x86_64__)
static inline long sys_raw(long number, long a, long b, long c, long d, long e, long f)
{
    long result;
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = f;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return result;
}
#elif defined(__aarch64__)
static inline long sys_raw(long number, long a, long b, long c, long d, long e, long f)
{
    register long x8 __asm__("x8") = number;
    register long x0 __asm__("x0") = a;
    register long x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d;
    register long x4 __asm__("x4") = e;
    register long x5 __asm__("x5") = f;
    __asm__ volatile("svc 0"
                     : "+r"(x0)
                     : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5)
                     : "memory", "cc");
    return x0;
}
#else
#error "the helper knows the system calls of x86_64 and aarch64 only"
#endif

/* sys(openat, dir, path, flags, 0): any integer or pointer as an argument; what is not given is 0. */
#define SYS_SIX(a, b, c, d, e, f, ...) (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f)
#define sys(name, ...) sys_raw(SYS_##name, SYS_SIX(__VA_ARGS__, 0, 0, 0, 0, 0, 0, 0))

/* The same numbers on every architecture since Linux 5.1. */
#ifndef SYS_open_tree
#define SYS_open_tree 428
#define SYS_move_mount 429
#define SYS_fsopen 430
#define SYS_fsconfig 431
#define SYS_fsmount 432
#define SYS_fspick 433
#endif
#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif
#ifndef SYS_pidfd_send_signal
#define SYS_pidfd_send_signal 424
#endif
#ifndef SYS_clone3
#define SYS_clone3 435
#endif
#ifndef SYS_close_range
#define SYS_close_range 436
#endif
#ifndef SYS_openat2
#define SYS_openat2 437
#endif
#ifndef SYS_faccessat2
#define SYS_faccessat2 439
#endif
#ifndef SYS_mount_setattr
#define SYS_mount_setattr 442
#endif

#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x00000080
#endif
#ifndef CLONE_PIDFD
#define CLONE_PIDFD 0x00001000
#endif
#define CLONE_INTO_CGROUP_FLAG 0x200000000ULL

struct clone3_args {
    uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid, set_tid_size, cgroup;
};

/* openat2(2) */
#define RESOLVE_NO_XDEV 0x01
#define RESOLVE_NO_MAGICLINKS 0x02
#define RESOLVE_NO_SYMLINKS 0x04
#define RESOLVE_BENEATH 0x08
#define RESOLVE_IN_ROOT 0x10

struct how {
    uint64_t flags, mode, resolve;
};

/* mount(2) and the calls that came after it */
#define MS_RDONLY 1UL
#define MS_NOSUID 2UL
#define MS_NODEV 4UL
#define MS_NOEXEC 8UL
#define MS_MOVE 8192UL
#define MS_REC 16384UL
#define MS_SLAVE (1UL << 19)
#define MNT_DETACH 2
#define OPEN_TREE_CLONE 1
#define OPEN_TREE_CLOEXEC O_CLOEXEC
#define AT_RECURSIVE 0x8000
#define FSOPEN_CLOEXEC 1
#define FSPICK_CLOEXEC 1
#define FSPICK_EMPTY_PATH 8
#define FSMOUNT_CLOEXEC 1
#define FSCONFIG_SET_FLAG 0
#define FSCONFIG_SET_STRING 1
#define FSCONFIG_CMD_CREATE 6
#define FSCONFIG_CMD_RECONFIGURE 7
#define MOVE_MOUNT_F_EMPTY_PATH 0x04
#define MOVE_MOUNT_T_EMPTY_PATH 0x40
#define MOUNT_ATTR_RDONLY 0x01
#define MOUNT_ATTR_NOSUID 0x02
#define MOUNT_ATTR_NODEV 0x04
#define MOUNT_ATTR_NOEXEC 0x08
#define MOUNT_ATTR_IDMAP 0x100000

struct mount_attributes {
    uint64_t set, clear, propagation, userns;
};

#define DEVPTS_MAGIC 0x1cd1
#define PROC_MAGIC 0x9fa0
#define SYSFS_MAGIC 0x62656572

#define CLOSE_RANGE_CLOEXEC_FLAG 4U
#define EVERY_FD (~0U)

#define _cleanup_close_ __attribute__((cleanup(close_at_scope_end)))

/* Close `*fd` if it is one: the destructor of `_cleanup_close_`. */
static inline void close_at_scope_end(const int *fd)
{
    if (*fd >= 0)
        (void)sys(close, *fd);
}

/* Give the descriptor away: the caller's variable no longer owns it. */
static inline int take_fd(int *fd)
{
    int taken = *fd;
    *fd = -1;
    return taken;
}

static inline int sys_openat(int directory, const char *path, int flags)
{
    return (int)sys(openat, directory, path, flags | O_CLOEXEC, 0);
}

static inline int sys_fstat(int fd, struct stat *found)
{
    return (int)sys(fstat, fd, found);
}

static inline int sys_fstatat(int directory, const char *name, struct stat *found, int flags)
{
    return (int)sys(newfstatat, directory, name, found, flags);
}

static inline int sys_move_mount(int tree, int target)
{
    return (int)sys(move_mount, tree, "", target, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH);
}

/* A detached copy of the mount that `fd` is on, from there downwards; `flags` may add AT_RECURSIVE. */
static inline int sys_clone_tree(int fd, unsigned flags)
{
    return (int)sys(open_tree, fd, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH | flags);
}

static inline int sys_mount_setattr(int fd, unsigned flags, const struct mount_attributes *attributes)
{
    return (int)sys(mount_setattr, fd, "", AT_EMPTY_PATH | flags, attributes, sizeof *attributes);
}

static inline long sys_clone3(const struct clone3_args *args)
{
    return sys(clone3, args, sizeof *args);
}

static inline int sys_prctl(int option, unsigned long value)
{
    return (int)sys(prctl, option, value);
}

static inline void sys_sleep_ns(long nanoseconds)
{
    struct timespec pause = {.tv_nsec = nanoseconds};
    (void)sys(nanosleep, &pause, 0);
}

_Noreturn static inline void sys_exit(int status)
{
    for (;;)
        (void)sys(exit_group, status);
}

/* The program's end of one: its majors are those of UNIX98 (admin-guide/devices.txt). */
static inline bool is_pseudoterminal(const struct stat *found)
{
    unsigned major_number = (unsigned)(found->st_rdev >> 8) & 0xfff;
    return S_ISCHR(found->st_mode) && major_number >= 136 && major_number <= 143;
}

static inline bool is_character_device(const struct stat *found, unsigned major_number, unsigned minor_number)
{
    return S_ISCHR(found->st_mode) && found->st_rdev == (((dev_t)major_number << 8) | minor_number);
}
