/* The three processes: how they come to be, wait for each other, and end together. */
#include <poll.h>
#include <sys/prctl.h>

#include "report.h"

static void close_channel(int *fd)
{
    if (*fd > 0)
        (void)sys(close, *fd);
    *fd = 0;
}

static int make_channel(const struct actor *me, int *ours, int *theirs)
{
    int pair[2];
    int rc = (int)sys(socketpair, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair);
    if (rc < 0)
        return rc;
    *ours = keep_off_program(me, pair[0]);
    *theirs = keep_off_program(me, pair[1]);
    return *ours < 0 ? *ours : *theirs < 0 ? *theirs : 0;
}

static void become(struct actor *me, enum actor_number self)
{
    me->self = self;
    me->todo = me->plan.actors[self];
    me->index = 0;
}

static void announce(struct actor *me, enum actor_number actor, enum report_kind kind, pid_t pid)
{
    report_or_end(me, kind, pid);
    __atomic_store_n(&me->shared->announced[actor], 1, __ATOMIC_RELEASE);
}

static void start_joiner(struct actor *me, int channel)
{
    close_channel(&me->channels[JOINER]);
    close_channel(&me->channels[INIT]);
    me->channels[OUTER] = channel;
    become(me, JOINER);
}

int do_ForkJoiner(struct actor *me, const struct ForkJoiner *op)
{
    (void)op;
    int theirs = 0;
    int rc = make_channel(me, &me->channels[JOINER], &theirs);
    if (rc == 0)
        rc = make_channel(me, &me->channels[INIT], &me->init_end);
    if (rc < 0)
        return rc;
    /* With CLONE_PARENT the exit signal is our own one, and none may be given. */
    struct clone3_args args = {.flags = CLONE_PARENT | CLONE_PIDFD, .pidfd = (uintptr_t)&me->joiner_pidfd};
    pid_t pid = (pid_t)sys_clone3(&args);
    if (pid < 0)
        return pid;
    if (pid == 0) {
        start_joiner(me, theirs);
        return 0;
    }
    close_channel(&theirs);
    close_channel(&me->init_end);
    me->joiner_pid = pid;
    announce(me, JOINER, JOINER_PID, pid);
    return 0;
}

static void start_init(struct actor *me)
{
    close_channel(&me->channels[OUTER]);
    close_channel(&me->channels[INIT]);
    close_channel(&me->joiner_pidfd);
    me->channels[OUTER] = me->init_end;
    me->init_end = 0;
    become(me, INIT);
}

int do_Clone(struct actor *me, const struct Clone *op)
{
    struct clone3_args args = {
        .flags = (uint64_t)op->flags | CLONE_PARENT | CLONE_PARENT_SETTID | CLONE_PIDFD,
        .pidfd = (uintptr_t)&me->init_pidfd,
        .parent_tid = (uintptr_t)&me->shared->init,
    };
    if (op->cgroup != NO_SLOT) {
        int cgroup = slot_fd(me, op->cgroup);
        if (cgroup < 0)
            return cgroup;
        args.flags |= CLONE_INTO_CGROUP_FLAG;
        args.cgroup = (uint64_t)cgroup;
    }
    int rc = me->init_end ? 0 : make_channel(me, &me->channels[INIT], &me->init_end);
    if (rc < 0)
        return rc;
    pid_t pid = (pid_t)sys_clone3(&args);
    if (pid < 0)
        return pid;
    if (pid == 0) {
        start_init(me);
        return 0;
    }
    close_channel(&me->init_end);
    announce(me, INIT, CHILD_PID, pid);
    if (me->self == JOINER)
        sys_exit(0);
    return 0;
}

/* Wait until the other end of the joiner's channel is closed: it has ended, so it has cloned or never will. */
static void await_joiner_end(const struct actor *me)
{
    struct pollfd joiner = {.fd = me->channels[JOINER], .events = 0};
    while (sys(ppoll, &joiner, 1, NULL, NULL, 0) <= 0)
        continue;
}

pid_t child_pid(struct actor *me)
{
    if (__atomic_load_n(&me->shared->init, __ATOMIC_ACQUIRE) == 0 && me->self == OUTER && me->joiner_pidfd)
        await_joiner_end(me);
    return __atomic_load_n(&me->shared->init, __ATOMIC_ACQUIRE);
}

static void kill_by(int pidfd)
{
    if (pidfd > 0)
        (void)sys(pidfd_send_signal, pidfd, SIGKILL, NULL, 0);
}

void kill_others(struct actor *me)
{
    if (me->self != OUTER)
        return;
    kill_by(me->joiner_pidfd);
    pid_t pid = me->init_pidfd ? 0 : child_pid(me);
    if (pid > 0)
        me->init_pidfd = (int)sys(pidfd_open, pid, 0);
    kill_by(me->init_pidfd);
}

void end_quietly(struct actor *me)
{
    kill_others(me);
    sys_exit(1);
}

static int channel_to(const struct actor *me, int64_t actor)
{
    if (actor < OUTER || actor >= ACTORS || me->channels[actor] <= 0)
        return -ESRCH;
    return me->channels[actor];
}

int do_Post(struct actor *me, const struct Post *op)
{
    int channel = channel_to(me, op->actor);
    if (channel < 0)
        return channel;
    char go = 1;
    long sent;
    do
        sent = sys(sendto, channel, &go, sizeof go, MSG_NOSIGNAL, NULL, 0);
    while (sent == -EINTR);
    if (sent == -EPIPE || sent == -ECONNRESET)
        end_quietly(me); /* it ended, and has reported why */
    return sent < 0 ? (int)sent : 0;
}

/* recv(2) of exactly `size` bytes; the peer's end is ours too. */
static int receive_or_end(struct actor *me, int socket, void *buffer, size_t size)
{
    long got;
    do
        got = sys(recvfrom, socket, buffer, size, 0, NULL, NULL);
    while (got == -EINTR);
    if (got == 0 || got == -ECONNRESET)
        end_quietly(me);
    if (got > 0 && (size_t)got != size)
        return -EPROTO;
    return got < 0 ? (int)got : 0;
}

int do_Await(struct actor *me, const struct Await *op)
{
    int channel = channel_to(me, op->actor);
    char go;
    return channel < 0 ? channel : receive_or_end(me, channel, &go, sizeof go);
}

int do_Ready(struct actor *me, const struct Ready *op)
{
    (void)op;
    me->dies_with_parent = false;
    int rc = sys_prctl(PR_SET_PDEATHSIG, 0);
    if (rc < 0)
        return rc;
    report_or_end(me, READY, 0);
    return 0;
}

int do_Upcall(struct actor *me, const struct Upcall *op)
{
    (void)op; /* Python knows the token by the index of the step */
    report_or_end(me, UPCALL, child_pid(me));
    int64_t answer;
    int rc = receive_or_end(me, me->report, &answer, sizeof answer);
    if (rc < 0)
        return rc;
    return answer < 0 || answer > 4095 ? -EPROTO : -(int)answer;
}

int do_Gate(struct actor *me, const struct Gate *op)
{
    int listener = slot_fd(me, op->slot);
    if (listener < 0)
        return listener;
    int connection;
    do
        connection = (int)sys(accept4, listener, NULL, NULL, SOCK_CLOEXEC);
    while (connection == -EINTR || connection == -ECONNABORTED);
    if (connection < 0)
        return connection;
    int rc = (int)sys(dup3, connection, me->report, O_CLOEXEC);
    (void)sys(close, connection);
    return rc < 0 ? rc : 0;
}

/* The parent may have ended before we asked: then nobody holds the other end of the report socket. */
int do_DieWithParent(struct actor *me, const struct DieWithParent *op)
{
    struct pollfd reader = {.fd = me->report, .events = 0};
    struct timespec now = {0};
    (void)op;
    me->dies_with_parent = true;
    int rc = sys_prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (rc == 0 && sys(ppoll, &reader, 1, &now, NULL, 0) > 0)
        end_quietly(me);
    return rc;
}

int do_SetDumpable(struct actor *me, const struct SetDumpable *op)
{
    (void)me;
    return sys_prctl(PR_SET_DUMPABLE, (unsigned long)op->value);
}

bool pid_of(struct actor *me, int64_t actor, pid_t *pid)
{
    if (actor == JOINER)
        *pid = me->joiner_pid;
    else if (actor == INIT)
        *pid = child_pid(me);
    else
        *pid = 0;
    return *pid > 0;
}
