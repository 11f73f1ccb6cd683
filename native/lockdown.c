/* What the keeper and the proxy give up before they talk to a guest. */
#include <sys/prctl.h>

#include "keeper.h"

enum { NOBODY = 65534, CAP_COUNT = 64, TIMER = 33 };

/* linux/filter.h and linux/seccomp.h */
struct instruction {
    uint16_t code;
    uint8_t if_true, if_false;
    uint32_t value;
};

enum {
    LOAD = 0x20,
    JUMP_IF_EQUAL = 0x15,
    RETURN = 0x06,
    AT_NUMBER = 0,
    AT_ARCHITECTURE = 4,
    AT_SECOND_ARGUMENT = 24,
    MOST_INSTRUCTIONS = 64,
};
#define ALLOW 0x7fff0000U
#define KILL 0x80000000U
#if defined(__x86_64__)
#define ARCHITECTURE 0xc000003eU
#else
#define ARCHITECTURE 0xc00000b7U
#endif

/* What the loop does; the last ones are what the kernel or musl does on its own. */
static const uint32_t allowed[] = {
    SYS_read,    SYS_write,         SYS_ppoll,         SYS_accept4,      SYS_close,
    SYS_sendto,  SYS_recvfrom,      SYS_wait4,         SYS_timer_settime, SYS_clock_gettime,
    SYS_madvise, SYS_exit_group,    SYS_rt_sigreturn,  SYS_restart_syscall,
};

/* Size and attributes of a terminal: nothing that puts bytes into its input. */
static const uint32_t allowed_ioctls[] = {0x5401, 0x5402, 0x5413};

static void load_filter(void)
{
    static struct instruction program[MOST_INSTRUCTIONS];
    struct {
        uint16_t length;
        const struct instruction *instructions;
    } filter = {0, program};
    struct instruction *at = program;
    *at++ = (struct instruction){LOAD, 0, 0, AT_ARCHITECTURE};
    *at++ = (struct instruction){JUMP_IF_EQUAL, 1, 0, ARCHITECTURE};
    *at++ = (struct instruction){RETURN, 0, 0, KILL};
    *at++ = (struct instruction){LOAD, 0, 0, AT_NUMBER};
    for (size_t i = 0; i < sizeof allowed / sizeof *allowed; i++) {
        *at++ = (struct instruction){JUMP_IF_EQUAL, 0, 1, allowed[i]};
        *at++ = (struct instruction){RETURN, 0, 0, ALLOW};
    }
    *at++ = (struct instruction){JUMP_IF_EQUAL, 1, 0, SYS_ioctl};
    *at++ = (struct instruction){RETURN, 0, 0, KILL};
    *at++ = (struct instruction){LOAD, 0, 0, AT_SECOND_ARGUMENT};
    for (size_t i = 0; i < sizeof allowed_ioctls / sizeof *allowed_ioctls; i++) {
        *at++ = (struct instruction){JUMP_IF_EQUAL, 0, 1, allowed_ioctls[i]};
        *at++ = (struct instruction){RETURN, 0, 0, ALLOW};
    }
    *at++ = (struct instruction){RETURN, 0, 0, KILL};
    filter.length = (uint16_t)(at - program);
    enum { MODE_FILTER = 1 };
    if (sys(seccomp, MODE_FILTER, 0, &filter) < 0)
        sys_exit(1);
}

static uint32_t own_id = NOBODY;

void lock_down_as(uint32_t id)
{
    own_id = id;
}

static void drop_capabilities(void)
{
    struct {
        uint32_t version;
        int32_t pid;
    } header = {.version = 0x20080522};
    uint32_t none[6] = {0};
    for (int cap = 0; cap < CAP_COUNT; cap++)
        (void)sys_prctl(PR_CAPBSET_DROP, (unsigned long)cap);
    /* What a root of a namespace without other ids cannot leave, it keeps: it has no capabilities anyway. */
    if (sys(geteuid, 0) == 0) {
        (void)sys(setgroups, 0, NULL);
        (void)sys(setresgid, own_id, own_id, own_id);
        (void)sys(setresuid, own_id, own_id, own_id);
    }
    (void)sys(prctl, PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    if (sys(capset, &header, none) < 0)
        sys_exit(1);
}

void lock_down(void)
{
    drop_capabilities();
    (void)sys_prctl(PR_SET_DUMPABLE, 0);
    if (sys(prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        sys_exit(1);
    load_filter();
}

/* --- signals --- */

int catch_signals(void)
{
    uint64_t mask = ~(1ULL << (TIMER - 1));
    (void)sys(rt_sigprocmask, SIG_SETMASK, &mask, NULL, sizeof mask);
    return (int)sys(signalfd4, -1, &mask, sizeof mask, SOCK_CLOEXEC | SOCK_NONBLOCK);
}

int next_signal(int signals)
{
    uint32_t information[32];
    long got = sys(read, signals, information, sizeof information);
    return got == sizeof information ? (int)information[0] : 0;
}

bool is_passed_on(int signal)
{
    return signal != SIGCHLD && signal != SIGWINCH && signal != SIGPIPE;
}

int64_t now_ms(void)
{
    struct timespec now;
    (void)sys(clock_gettime, CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}
