"""The table behind the default seccomp profile: every system call of x86-64, x86, aarch64 and arm stands in it once.

Plain strings, split when the profile is made: this module is loaded only where no compiled profile is cached.
"""

# Newer calls of the kernel are missing here on purpose until somebody has looked at them: they give ENOSYS.

ALLOWED = """
read write readv writev pread64 pwrite64 preadv pwritev preadv2 pwritev2 lseek _llseek
sendfile sendfile64 splice tee vmsplice copy_file_range
open openat openat2 creat close close_range dup dup2 dup3 fcntl fcntl64 flock pipe pipe2
stat stat64 lstat lstat64 fstat fstat64 fstatat64 newfstatat statx oldstat oldlstat oldfstat
statfs statfs64 fstatfs fstatfs64 access faccessat faccessat2 readlink readlinkat
getdents getdents64 readdir getcwd chdir fchdir
mkdir mkdirat rmdir mknod mknodat link linkat symlink symlinkat unlink unlinkat rename renameat renameat2
chmod fchmod fchmodat fchmodat2 umask
chown chown32 fchown fchown32 lchown lchown32 fchownat
truncate truncate64 ftruncate ftruncate64 fallocate
fadvise64 fadvise64_64 arm_fadvise64_64 readahead cachestat
sync syncfs fsync fdatasync sync_file_range sync_file_range2 arm_sync_file_range msync
utime utimes futimesat utimensat utimensat_time64
setxattr lsetxattr fsetxattr setxattrat getxattr lgetxattr fgetxattr getxattrat
listxattr llistxattr flistxattr listxattrat removexattr lremovexattr fremovexattr removexattrat
file_getattr file_setattr name_to_handle_at
inotify_init inotify_init1 inotify_add_watch inotify_rm_watch fanotify_mark
statmount listmount

mmap mmap2 munmap mremap mprotect madvise mincore brk mlock mlock2 munlock mlockall munlockall remap_file_pages
mseal map_shadow_stack memfd_create memfd_secret pkey_alloc pkey_free pkey_mprotect membarrier process_mrelease

fork vfork execve execveat exit exit_group wait4 waitid waitpid kill tkill tgkill
getpid getppid gettid getpgid setpgid getpgrp getsid setsid set_tid_address
getuid getuid32 geteuid geteuid32 getgid getgid32 getegid getegid32
getresuid getresuid32 getresgid getresgid32 getgroups getgroups32
setuid setuid32 setgid setgid32 setreuid setreuid32 setregid setregid32 setresuid setresuid32 setresgid setresgid32
setfsuid setfsuid32 setfsgid setfsgid32 setgroups setgroups32
capget capset prctl arch_prctl set_thread_area get_thread_area set_tls get_tls cacheflush breakpoint
set_robust_list get_robust_list rseq seccomp
landlock_create_ruleset landlock_add_rule landlock_restrict_self
lsm_get_self_attr lsm_set_self_attr lsm_list_modules
getrlimit ugetrlimit setrlimit prlimit64 getrusage times sysinfo uname olduname oldolduname getcpu
getpriority setpriority nice ioprio_get ioprio_set
sched_yield sched_getaffinity sched_setaffinity sched_getparam sched_setparam sched_getscheduler sched_setscheduler
sched_getattr sched_setattr sched_get_priority_max sched_get_priority_min
sched_rr_get_interval sched_rr_get_interval_time64
ptrace process_vm_readv process_vm_writev pidfd_open pidfd_send_signal
uretprobe uprobe usr26 usr32 restart_syscall pause

signal sigaction sigpending sigprocmask sigreturn sigsuspend sgetmask ssetmask sigaltstack
rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_tgsigqueueinfo rt_sigreturn rt_sigsuspend
rt_sigtimedwait rt_sigtimedwait_time64 signalfd signalfd4
futex futex_time64 futex_wait futex_wake futex_requeue futex_waitv
poll ppoll ppoll_time64 select _newselect pselect6 pselect6_time64
epoll_create epoll_create1 epoll_ctl epoll_wait epoll_pwait epoll_pwait2 eventfd eventfd2
io_setup io_destroy io_submit io_cancel io_getevents io_pgetevents io_pgetevents_time64

time gettimeofday clock_gettime clock_gettime64 clock_getres clock_getres_time64
clock_nanosleep clock_nanosleep_time64 nanosleep alarm getitimer setitimer
adjtimex clock_adjtime clock_adjtime64
timer_create timer_delete timer_getoverrun timer_gettime timer_gettime64 timer_settime timer_settime64
timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime timerfd_settime64
getrandom

bind connect listen accept accept4 getsockname getpeername getsockopt setsockopt shutdown
send sendto sendmsg sendmmsg recv recvfrom recvmsg recvmmsg recvmmsg_time64
semget semop semctl semtimedop semtimedop_time64 shmget shmat shmdt shmctl msgget msgsnd msgrcv msgctl
mq_open mq_unlink mq_notify mq_getsetattr mq_timedsend mq_timedsend_time64 mq_timedreceive mq_timedreceive_time64
"""

# allowed for some arguments: `plan.default_profile` says for which
BY_ARGUMENT = "clone unshare personality socket socketpair ioctl"

# socketcall(2) and ipc(2): the compiler gives each of their operations the answer of the call it stands for
MULTIPLEXERS = "socketcall ipc"

# allowed with the capability that the kernel asks for anyway, EPERM without: what a process may not do should not
# reach the kernel's code at all
WITH_CAPABILITY = {
    "CAP_SYS_ADMIN": """
        mount umount umount2 pivot_root fsopen fsconfig fsmount fspick move_mount open_tree open_tree_attr mount_setattr
        setns clone3 sethostname setdomainname fanotify_init quotactl quotactl_fd bpf perf_event_open syslog listns
    """,
    "CAP_BPF": "bpf",
    "CAP_DAC_READ_SEARCH": "open_by_handle_at",
    "CAP_PERFMON": "perf_event_open",
    "CAP_SYSLOG": "syslog",
    "CAP_SYS_BOOT": "reboot",
    "CAP_SYS_CHROOT": "chroot",
    "CAP_SYS_MODULE": "init_module finit_module delete_module",
    "CAP_SYS_NICE": "mbind get_mempolicy set_mempolicy set_mempolicy_home_node migrate_pages move_pages",
    "CAP_SYS_PACCT": "acct",
    "CAP_SYS_PTRACE": "kcmp pidfd_getfd process_madvise",
    "CAP_SYS_RAWIO": "iopl ioperm",
    "CAP_SYS_TIME": "settimeofday stime clock_settime clock_settime64",
    "CAP_SYS_TTY_CONFIG": "vhangup",
}

# EPERM whatever the capabilities, each group with the reason
REFUSED = (
    ("keyrings belong to the user, not to the container", "add_key request_key keyctl"),
    ("a filter cannot see what is queued there", "io_uring_setup io_uring_enter io_uring_register"),
    ("handling page faults in user space widens races in the kernel", "userfaultfd"),
    ("replaces the host's kernel", "kexec_load kexec_file_load"),
    ("changes the host's swap", "swapon swapoff"),
    ("16-bit segments and virtual 8086 mode: rarely used code with a record of escalations", "modify_ldt vm86 vm86old"),
    ("reaches into the host's PCI devices", "pciconfig_iobase pciconfig_read pciconfig_write"),
)

# ENOSYS on purpose, each group with the reason
UNAVAILABLE = (
    (
        "the kernel does not have them any more, or never had",
        """
        afs_syscall bdflush break create_module epoll_ctl_old epoll_wait_old ftime get_kernel_syms getpmsg gtty idle
        lock lookup_dcookie mpx nfsservctl prof profil putpmsg query_module security stty _sysctl tuxcall ulimit vserver
        """,
    ),
    ("for a.out programs, and questions that statfs and /proc/filesystems answer", "uselib ustat sysfs"),
)

# Calls whose flags lie in memory, where a filter cannot look: the C libraries fall back on the older call.
UNSEEN_WITHOUT_SYS_ADMIN = "clone3"
