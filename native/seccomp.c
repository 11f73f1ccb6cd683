/* Loading the filter, and handing its notify descriptor to the agent that listens.
 *
 * From the moment the filter is loaded, our own system calls are subject to it: sendmsg(2) may be forbidden, or wait
 * for a listener that nobody has got yet. So a second thread, started before, sends the descriptor: a filter binds
 * only the thread that loads it. A thread and not a process: it shares our descriptors and memory, so that it learns
 * the number from a variable, execve(2) ends it whatever it does, and no zombie is left to the program. We wait for it
 * by looking at a variable, which is no system call.
 */
#include "hook.h"
#include "report.h"

#define SECCOMP_MODE_FILTER 1
#define SECCOMP_TSYNC 1UL
#define SECCOMP_NEW_LISTENER 8UL

enum { PENDING = -1, CALLED_OFF = -2, STACK_BYTES = 16384, POLL_NS = 20000 };

struct filter {
    uint16_t length;
    const char *instructions;
};

/* What the two threads tell each other. */
static struct {
    int notify; /* written by the loader */
    int result; /* written by the sender: 0 or an errno */
    int socket;
    struct memory state;
} handoff;

static void store(int *where, int value)
{
    __atomic_store_n(where, value, __ATOMIC_RELEASE);
}

static int load(const int *where)
{
    return __atomic_load_n(where, __ATOMIC_ACQUIRE);
}

/* The sender: only raw system calls, as it has no thread-local storage of its own. */
static void send_notify(void)
{
    int notify;
    while ((notify = load(&handoff.notify)) == PENDING)
        sys_sleep_ns(POLL_NS);
    int rc = 0;
    if (notify >= 0) {
        struct iovec part = {.iov_base = handoff.state.data, .iov_len = handoff.state.length};
        rc = send_with_fd(handoff.socket, &part, 1, notify);
        (void)sys(close, handoff.socket);
        (void)sys(close, notify);
    }
    store(&handoff.result, -rc);
    for (;;)
        (void)sys(exit, 0);
}

/* clone(2) of a thread that runs `entry` on its own stack and never returns here. Its id or -errno. */
static long start_thread(char *stack_end, void (*entry)(void))
{
    long flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM;
#if defined(__x86_64__)
    long result;
    register long r10 __asm__("r10") = 0;
    register long r8 __asm__("r8") = 0;
    __asm__ volatile("syscall\n\t"
                     "test %%rax, %%rax\n\t"
                     "jnz 1f\n\t"
                     "xor %%ebp, %%ebp\n\t"
                     "call *%[entry]\n\t"
                     "hlt\n"
                     "1:"
                     : "=a"(result)
                     : "a"((long)SYS_clone), "D"(flags), "S"(stack_end), "d"(0L), "r"(r10), "r"(r8), [entry] "r"(entry)
                     : "rcx", "r11", "memory", "cc");
    return result;
#else
    register long x8 __asm__("x8") = SYS_clone;
    register long x0 __asm__("x0") = flags;
    register char *x1 __asm__("x1") = stack_end;
    register long x2 __asm__("x2") = 0;
    register long x3 __asm__("x3") = 0;
    register long x4 __asm__("x4") = 0;
    __asm__ volatile("svc 0\n\t"
                     "cbnz x0, 1f\n\t"
                     "mov x29, xzr\n\t"
                     "blr %[entry]\n\t"
                     "brk 0\n"
                     "1:"
                     : "+r"(x0)
                     : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), [entry] "r"(entry)
                     : "memory", "cc");
    return x0;
#endif
}

static int load_filter(const struct LoadSeccomp *op, unsigned long flags)
{
    enum { INSTRUCTION_BYTES = 8 };
    uint64_t length = op->program.length / INSTRUCTION_BYTES;
    if (op->program.length % INSTRUCTION_BYTES || length == 0 || length > UINT16_MAX)
        return -EINVAL;
    struct filter filter = {(uint16_t)length, op->program.data};
    return (int)sys(seccomp, SECCOMP_MODE_FILTER, flags, &filter);
}

/* Do now what `Exec` would do before execve(2): once the filter holds, each of its system calls would need to be
 * allowed. A hook in between needs our signal dispositions as they are. */
static int prepare_ahead(struct actor *me, int keep)
{
    enum { HOOK = 8, EXEC = 77 };
    struct steps ahead = me->todo;
    struct step step;
    union arguments arguments;
    while (steps_next(&ahead, &step) && step.code != HOOK)
        if (step.code == EXEC && step_arguments(&step, &arguments))
            return prepare_exec(me, &arguments.Exec, keep);
    return 0;
}

static int load_with_listener(struct actor *me, const struct LoadSeccomp *op)
{
    static char stack[STACK_BYTES] __attribute__((aligned(16)));
    int rc = join_by_pid(&handoff.state, op->state, child_pid(me));
    if (rc < 0)
        return rc;
    handoff.notify = PENDING;
    handoff.result = PENDING;
    long thread = start_thread(stack + sizeof stack, send_notify);
    if (thread < 0)
        return (int)thread;
    /* The other thread must stay free of the filter, and it is gone before the program runs: TSYNC would do harm. */
    rc = load_filter(op, ((unsigned long)op->flags & ~SECCOMP_TSYNC) | SECCOMP_NEW_LISTENER);
    store(&handoff.notify, rc < 0 ? CALLED_OFF : rc);
    int sent;
    while ((sent = load(&handoff.result)) == PENDING)
        continue;
    if (rc >= 0)
        me->slots[op->listener] = 0; /* the sender closed it */
    return rc < 0 ? rc : -sent;
}

int do_LoadSeccomp(struct actor *me, const struct LoadSeccomp *op)
{
    handoff.socket = op->listener == NO_SLOT ? NO_SLOT : slot_fd(me, op->listener);
    if (op->listener != NO_SLOT && handoff.socket < 0)
        return handoff.socket;
    int rc = prepare_ahead(me, handoff.socket);
    if (rc < 0)
        return rc;
    return op->listener == NO_SLOT ? load_filter(op, (unsigned long)op->flags) : load_with_listener(me, op);
}
