/* Performing a plan for a channel. */
#include <sys/un.h>

#include "agent.h"
#include "hook.h"

enum { CHILD_BASE = 3, CHILD_REPORT = CHILD_BASE + 1, CHILD_INHERITED = CHILD_BASE + 2 };

static void *map_bytes(size_t size)
{
    long at = sys(mmap, NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return at < 0 && at > -4096 ? NULL : (void *)at;
}

static void close_fd(int *fd)
{
    close_at_scope_end(fd);
    *fd = -1;
}

struct channel *channel_make(uint32_t number)
{
    struct channel *made = map_bytes(sizeof *made + FRAME_WINDOW_BYTES);
    if (!made)
        return NULL;
    made->number = number;
    made->report = made->gate = made->terminal = -1;
    for (int stream = 0; stream < STREAMS; stream++)
        made->streams[stream] = -1;
    made->input = (struct ring){.bytes = (uint8_t *)(made + 1), .size = FRAME_WINDOW_BYTES};
    return made;
}

static void forget_plan(struct channel *channel)
{
    if (channel->plan)
        (void)sys(munmap, channel->plan, FRAME_PLAN_MAX);
    channel->plan = NULL;
    channel->plan_length = 0;
}

void channel_free(struct channel *channel)
{
    forget_plan(channel);
    close_fd(&channel->report);
    close_fd(&channel->gate);
    close_fd(&channel->terminal);
    for (int stream = 0; stream < STREAMS; stream++)
        close_fd(&channel->streams[stream]);
    if (channel->shared)
        (void)sys(munmap, channel->shared, sizeof *channel->shared);
    (void)sys(munmap, channel, sizeof *channel + FRAME_WINDOW_BYTES);
}

void channel_add_plan(struct channel *channel, const struct frame *frame)
{
    if (!channel->plan && !channel->ran)
        channel->plan = map_bytes(FRAME_PLAN_MAX);
    channel->is_damaged |= !channel->plan || frame->length > FRAME_PLAN_MAX - channel->plan_length;
    if (channel->is_damaged)
        return;
    memcpy(channel->plan + channel->plan_length, frame->payload, frame->length);
    channel->plan_length += frame->length;
}

pid_t channel_process(const struct channel *channel)
{
    pid_t init = channel->shared ? __atomic_load_n(&channel->shared->init, __ATOMIC_ACQUIRE) : 0;
    if (init)
        return channel->init_end.known ? 0 : init;
    return channel->outer_end.known ? 0 : channel->outer;
}

/* A socket that listens, and cannot be found by anybody who does not hold `*place`: its name is gone at once. */
static int open_gate(int *place)
{
    static const struct sockaddr_un name = {.sun_family = AF_UNIX, .sun_path = "/run/boxwright.gate"};
    _cleanup_close_ int gate = (int)sys(socket, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (gate < 0)
        return gate;
    (void)sys(unlinkat, AT_FDCWD, name.sun_path, 0);
    long rc = sys(bind, gate, &name, sizeof name);
    if (rc < 0)
        return (int)rc;
    *place = sys_openat(AT_FDCWD, name.sun_path, O_PATH | O_NOFOLLOW);
    (void)sys(unlinkat, AT_FDCWD, name.sun_path, 0);
    if (*place < 0)
        return *place;
    rc = sys(listen, gate, 1);
    return rc < 0 ? (int)rc : take_fd(&gate);
}

int channel_start(struct agent *me, struct channel *channel)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX, .sun_path = "/proc/self/fd/"};
    if (channel->ran || channel->plan)
        return -EBUSY;
    if (!me->init || me->init->gate < 0)
        return -ECONNREFUSED;
    _cleanup_close_ int knock = (int)sys(socket, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (knock < 0)
        return knock;
    (void)format_number(name.sun_path + strlen(name.sun_path), me->init->gate);
    long rc = sys(connect, knock, &name, sizeof name);
    if (rc < 0)
        return (int)rc;
    close_fd(&me->init->gate);
    channel->report = take_fd(&knock);
    channel->ran = true;
    return 0;
}

/* The ends that the child gets. */
struct ends {
    int streams[STREAMS];
    int report;
    int inherited; /* -1: none */
};

static int open_stream(struct channel *channel, struct ends *ends, enum stream stream)
{
    bool is_pipe = !(channel->flags & RUN_TERMINAL) && (stream != STREAM_IN || channel->flags & RUN_STDIN);
    if (!is_pipe)
        return ends->streams[stream] = sys_openat(AT_FDCWD, "/dev/null", O_RDWR);
    int pipe[2];
    int rc = (int)sys(pipe2, pipe, O_CLOEXEC);
    if (rc < 0)
        return rc;
    int ours = stream == STREAM_IN;
    channel->streams[stream] = pipe[ours];
    ends->streams[stream] = pipe[!ours];
    return (int)sys(fcntl, pipe[ours], F_SETFL, O_NONBLOCK);
}

static int open_inherited(const struct agent *me, struct channel *channel)
{
    if (channel->flags & RUN_GATE)
        return open_gate(&channel->gate);
    if (!(channel->flags & RUN_JOIN))
        return -1;
    pid_t init = me->init ? channel_process(me->init) : 0;
    return init ? (int)sys(pidfd_open, init, 0) : -ESRCH;
}

static int open_ends(const struct agent *me, struct channel *channel, struct ends *ends)
{
    int rc = 0, pair[2];
    for (enum stream stream = STREAM_IN; stream < STREAMS && rc >= 0; stream++)
        rc = open_stream(channel, ends, stream);
    if (rc >= 0)
        rc = (int)sys(socketpair, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair);
    if (rc < 0)
        return rc;
    channel->report = pair[0];
    ends->report = pair[1];
    ends->inherited = open_inherited(me, channel);
    return ends->inherited == -1 && !(channel->flags & (RUN_GATE | RUN_JOIN)) ? 0 : ends->inherited;
}

static void close_ends(struct ends *ends)
{
    for (int stream = 0; stream < STREAMS; stream++)
        close_fd(&ends->streams[stream]);
    close_fd(&ends->report);
    close_fd(&ends->inherited);
}

_Noreturn static void become_outer(const struct channel *channel, const struct ends *ends)
{
    struct task task = {
        .plan = channel->plan, .size = channel->plan_length, .base = CHILD_BASE, .shared = channel->shared};
    struct placement places[] = {
        {ends->streams[STREAM_IN], STREAM_IN},       {ends->streams[STREAM_OUT], STREAM_OUT},
        {ends->streams[STREAM_ERROR], STREAM_ERROR}, {ends->report, CHILD_REPORT},
        {ends->inherited, CHILD_INHERITED},
    };
    size_t count = sizeof places / sizeof *places - (ends->inherited < 0);
    reset_signals();
    sys_exit(place_descriptors(places, count) < 0 ? BAD_PLAN : perform_plan(&task));
}

static int check_run(const struct agent *me, const struct channel *channel)
{
    struct plan plan;
    uint32_t slots = channel->flags & (RUN_GATE | RUN_JOIN) ? 1 : 0;
    if (channel->flags & ~(uint32_t)RUN_FLAGS || (channel->flags & RUN_GATE && channel->flags & RUN_JOIN))
        return -EINVAL;
    if (channel->flags & RUN_INIT && me->init)
        return -EBUSY;
    if (channel->is_damaged || !channel->plan || !plan_open(&plan, channel->plan, channel->plan_length))
        return -EBADMSG;
    return plan.inherited == slots ? 0 : -EINVAL;
}

static int start_outer(struct agent *me, struct channel *channel, struct ends *ends)
{
    channel->shared = map_shared();
    int rc = channel->shared ? open_ends(me, channel, ends) : -ENOMEM;
    if (rc < 0)
        return rc;
    channel->shared->rows = channel->rows;
    channel->shared->columns = channel->columns;
    struct clone3_args args = {.exit_signal = SIGCHLD};
    pid_t pid = (pid_t)sys_clone3(&args);
    if (pid == 0)
        become_outer(channel, ends);
    if (pid > 0)
        channel->outer = pid;
    return pid < 0 ? pid : 0;
}

int channel_run(struct agent *me, struct channel *channel, const struct frame *frame)
{
    struct ends ends = {.streams = {-1, -1, -1}, .report = -1, .inherited = -1};
    if (channel->ran)
        return -EBUSY;
    channel->flags = payload_u32(frame, 0);
    channel->rows = payload_u16(frame, 4);
    channel->columns = payload_u16(frame, 6);
    int rc = check_run(me, channel);
    if (rc == 0)
        rc = start_outer(me, channel, &ends);
    close_ends(&ends);
    forget_plan(channel);
    if (rc < 0)
        return rc;
    channel->ran = true;
    if (channel->flags & RUN_INIT)
        me->init = channel;
    return 0;
}
