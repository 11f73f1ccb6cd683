#include "hook.h"

#include <poll.h>

#include "report.h"

static int map_memory(size_t bytes, void **memory)
{
    long rc = sys(mmap, NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (rc < 0 && rc > -4096)
        return (int)rc;
    *memory = (void *)rc;
    return 0;
}

int vector_make(struct vector *vector, struct list texts, char *more)
{
    size_t bytes = (texts.count + 2) * sizeof(char *);
    void *memory;
    int rc = map_memory(bytes, &memory);
    if (rc < 0)
        return rc;
    *vector = (struct vector){memory, bytes};
    char **item = vector->items;
    for (; texts.count; item++)
        *item = (char *)(uintptr_t)list_next_text(&texts).data;
    *item = more;
    return 0;
}

void vector_free(struct vector *vector)
{
    if (vector->items)
        (void)sys(munmap, vector->items, vector->bytes);
}

int join_by_pid(struct memory *memory, struct list pieces, pid_t pid)
{
    char digits[NUMBER_BYTES];
    size_t width = format_number(digits, pid);
    size_t bytes = 1;
    for (struct list counted = pieces; counted.count;)
        bytes += list_next_text(&counted).length + width;
    void *mapped;
    int rc = map_memory(bytes, &mapped);
    if (rc < 0)
        return rc;
    char *end = mapped;
    while (pieces.count) {
        struct text piece = list_next_text(&pieces);
        memcpy(end, piece.data, piece.length);
        end += piece.length;
        memcpy(end, digits, pieces.count ? width : 0);
        end += pieces.count ? width : 0;
    }
    *memory = (struct memory){mapped, (size_t)(end - (char *)mapped), bytes};
    return 0;
}

void memory_free(struct memory *memory)
{
    if (memory->data)
        (void)sys(munmap, memory->data, memory->bytes);
}

void reset_signals(void)
{
    struct {
        void (*handler)(int);
        unsigned long flags;
        void (*restorer)(void);
        uint64_t mask;
    } defaults = {.handler = SIG_DFL};
    uint64_t none = 0;
    for (int signal = 1; signal <= 64; signal++)
        (void)sys(rt_sigaction, signal, &defaults, NULL, sizeof defaults.mask);
    (void)sys(rt_sigprocmask, SIG_SETMASK, &none, NULL, sizeof none);
}

/* The two ends of a running program's pipes that are ours, and itself. */
struct running {
    pid_t pid;
    int pidfd;
    int input;
    int output;
    size_t written;
    int64_t deadline_ms; /* on the monotonic clock; 0: none */
};

static void close_end(int *fd)
{
    close_at_scope_end(fd);
    *fd = -1;
}

static int make_pipe(const struct actor *me, int ends[2])
{
    int rc = (int)sys(pipe2, ends, O_CLOEXEC);
    if (rc < 0)
        return rc;
    ends[0] = keep_off_program(me, ends[0]);
    ends[1] = keep_off_program(me, ends[1]);
    return ends[0] < 0 ? ends[0] : ends[1] < 0 ? ends[1] : 0;
}

/* In the child: a session of its own, our pipes as stdio, nothing else. */
_Noreturn static void become_program(const struct actor *me, const struct job *job, int input, int output)
{
    int rc = (int)sys(dup3, input, 0, 0);
    if (rc >= 0)
        rc = (int)sys(dup3, output, 1, 0);
    if (rc >= 0)
        rc = (int)sys(dup3, output, 2, 0);
    if (rc >= 0)
        rc = (int)sys(close_range, 3, EVERY_FD, 0);
    if (rc >= 0) {
        (void)sys(setsid, 0);
        (void)sys(umask, me->umask);
        reset_signals();
        rc = (int)sys(execve, job->path, job->argv, job->env);
    }
    me->shared->program_errno[me->self] = -rc;
    sys_exit(127);
}

static int64_t monotonic_ms(void)
{
    struct timespec now;
    (void)sys(clock_gettime, CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static int start_job(struct actor *me, const struct job *job, struct running *running)
{
    int input[2] = {-1, -1}, output[2] = {-1, -1};
    int rc = make_pipe(me, input);
    if (rc == 0)
        rc = make_pipe(me, output);
    if (rc == 0) {
        struct clone3_args args = {
            .flags = CLONE_PIDFD, .pidfd = (uintptr_t)&running->pidfd, .exit_signal = SIGCHLD};
        me->shared->program_errno[me->self] = 0;
        rc = running->pid = (pid_t)sys_clone3(&args);
    }
    if (rc == 0)
        become_program(me, job, input[0], output[1]);
    close_end(&input[0]);
    close_end(&output[1]);
    if (rc < 0) {
        close_end(&input[1]);
        close_end(&output[0]);
        return rc;
    }
    running->input = input[1];
    running->output = output[0];
    running->deadline_ms = job->timeout_ms ? monotonic_ms() + job->timeout_ms : 0;
    (void)sys(fcntl, running->input, F_SETFL, O_NONBLOCK);
    (void)sys(fcntl, running->output, F_SETFL, O_NONBLOCK);
    return 0;
}

/* A program that does not read its stdin is no failure: EPIPE just ends the feeding. */
static void feed(struct running *running, const struct job *job)
{
    long rc = 0;
    if (running->written < job->input_length)
        rc = sys(write, running->input, job->input + running->written, job->input_length - running->written);
    if (rc > 0)
        running->written += (size_t)rc;
    bool again = rc == -EAGAIN || rc == -EINTR;
    if (running->written == job->input_length || (rc < 0 && !again))
        close_end(&running->input);
}

static void collect(struct running *running, struct failure *failure)
{
    char chunk[TEXT_BYTES];
    long got;
    while ((got = sys(read, running->output, chunk, sizeof chunk)) > 0)
        failure_add(failure, chunk, (size_t)got);
    if (got == 0)
        close_end(&running->output);
}

/* Wait for something to do. 1: the program has ended; 0: go on; -ETIMEDOUT. */
static int wait_for_event(struct running *running, const struct job *job, struct failure *failure)
{
    struct pollfd events[3] = {
        {.fd = running->pidfd, .events = POLLIN},
        {.fd = running->output, .events = POLLIN},
        {.fd = running->input, .events = POLLOUT},
    };
    int64_t left_ms = running->deadline_ms ? running->deadline_ms - monotonic_ms() : 0;
    if (left_ms < 0)
        left_ms = 0;
    struct timespec timeout = {.tv_sec = left_ms / 1000, .tv_nsec = left_ms % 1000 * 1000000};
    long rc = sys(ppoll, events, 3, running->deadline_ms ? &timeout : NULL, NULL, 0);
    if (rc == 0)
        return -ETIMEDOUT;
    if (rc < 0)
        return rc == -EINTR ? 0 : (int)rc;
    if (events[2].revents)
        feed(running, job);
    if (events[1].revents)
        collect(running, failure);
    return events[0].revents ? 1 : 0;
}

int run_job(struct actor *me, const struct job *job, int *status)
{
    struct running running = {.pidfd = -1, .input = -1, .output = -1};
    int rc = start_job(me, job, &running);
    if (rc < 0)
        return rc;
    do
        rc = wait_for_event(&running, job, &me->failure);
    while (rc == 0);
    if (rc < 0) {
        (void)sys(kill, -running.pid, SIGKILL); /* what it has started too; ESRCH before its setsid */
        (void)sys(kill, running.pid, SIGKILL);
    }
    (void)sys(wait4, running.pid, status, 0, NULL);
    if (running.output >= 0)
        collect(&running, &me->failure);
    close_end(&running.pidfd);
    close_end(&running.input);
    close_end(&running.output);
    return rc < 0 ? rc : -me->shared->program_errno[me->self];
}

static int hook_failed(struct actor *me, int error, int64_t value)
{
    me->failure.kind = HOOK_FAILED;
    me->failure.value = value;
    return -error;
}

int do_RunHook(struct actor *me, const struct RunHook *op)
{
    enum { OF_CHILD, TIMED_OUT = -1 };
    _cleanup_vector_ struct vector argv = {0}, env = {0};
    _cleanup_memory_ struct memory state = {0};
    pid_t pid = op->pid_of == OF_CHILD ? child_pid(me) : (pid_t)sys(getpid, 0);
    int rc = join_by_pid(&state, op->state, pid);
    if (rc == 0)
        rc = vector_make(&argv, op->argv, NULL);
    if (rc == 0)
        rc = vector_make(&env, op->env, NULL);
    if (rc < 0)
        return rc;
    struct job job = {op->path.data, argv.items, env.items, state.data, state.length, op->timeout_ms};
    int status = 0;
    rc = run_job(me, &job, &status);
    if (rc == -ETIMEDOUT)
        return hook_failed(me, ETIMEDOUT, TIMED_OUT);
    return rc < 0 || status == 0 ? rc : hook_failed(me, ECANCELED, status);
}

/* `%p` among the arguments becomes the pid. */
static void put_pid(char **argv, char *digits)
{
    for (; *argv; argv++)
        if (strcmp(*argv, "%p") == 0)
            *argv = digits;
}

int do_RunTool(struct actor *me, const struct RunTool *op)
{
    static char *const no_environment[] = {NULL};
    _cleanup_vector_ struct vector argv = {0};
    char digits[NUMBER_BYTES];
    pid_t pid;
    if (op->argv.count == 0)
        return -EINVAL;
    if (!pid_of(me, op->actor, &pid))
        return -ESRCH;
    (void)format_number(digits, pid);
    int rc = vector_make(&argv, op->argv, NULL);
    if (rc < 0)
        return rc;
    put_pid(argv.items, digits);
    struct job job = {.path = argv.items[0], .argv = argv.items, .env = no_environment};
    int status = 0;
    rc = run_job(me, &job, &status);
    me->failure.value = status;
    return rc < 0 || status == 0 ? rc : -ECANCELED;
}
