/* One process performs the steps of its actor, one after the other. */
#include "perform.h"

#include "report.h"

#ifdef FAULT_DIR
#include "fault.h"
#else
static void fault_open(const struct actor *me)
{
    (void)me;
}

static int fault_before(const struct actor *me)
{
    (void)me;
    return 0;
}
#endif

static struct actor actor;

static int perform(struct actor *me, uint32_t code, const union arguments *arguments)
{
    switch (code) {
#define OP(number, name, fields)                                                                                       \
    case number:                                                                                                       \
        return do_##name(me, &arguments->name);
        OPERATIONS(OP)
#undef OP
    default:
        return -ENOSYS; /* `plan_open` has seen to it that this cannot be */
    }
}

_Noreturn static void fail(struct actor *me, int rc)
{
    kill_others(me);
    report_failure(me, -rc);
    sys_exit(1);
}

/* Fork operations make `me` another actor with steps of its own: then the step just done was not one of them. */
_Noreturn static void perform_steps(struct actor *me)
{
    static union arguments arguments;
    struct step step;
    while (steps_next(&me->todo, &step)) {
        enum actor_number self = me->self;
        failure_clear(&me->failure);
        int rc = fault_before(me);
        if (rc == 0)
            rc = step_arguments(&step, &arguments) ? perform(me, step.code, &arguments) : -EBADMSG;
        if (rc < 0 && !step.soft)
            fail(me, rc);
        if (rc < 0)
            report_soft_failure(me, -rc);
        if (me->self == self)
            me->index++;
    }
    sys_exit(0);
}

struct shared *map_shared(void)
{
    long at = sys(mmap, NULL, sizeof(struct shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    return at < 0 && at > -4096 ? NULL : (struct shared *)at;
}

/* SIGPIPE ignored, as hooks may not read their stdin; SIGCHLD default, or there would be nothing to wait for. */
static void set_signals(void)
{
    struct {
        void (*handler)(int);
        unsigned long flags;
        void (*restorer)(void);
        uint64_t mask;
    } action = {.handler = SIG_IGN};
    (void)sys(rt_sigaction, SIGPIPE, &action, NULL, sizeof action.mask);
    action.handler = SIG_DFL;
    (void)sys(rt_sigaction, SIGCHLD, &action, NULL, sizeof action.mask);
}

static void take_inherited(struct actor *me)
{
    for (uint32_t i = 0; i < me->plan.inherited; i++)
        me->slots[i] = me->base + 2 + (int)i + FD_BIAS;
}

int perform_plan(const struct task *task)
{
    struct actor *me = &actor;
    me->base = task->base;
    me->report = task->base + 1;
    if (!plan_open(&me->plan, task->plan, task->size))
        return BAD_PLAN;
    take_inherited(me);
    /* Also what somebody who started the runtime has left open: the program gets what is below `base`. */
    long rc = sys(close_range, task->base, EVERY_FD, CLOSE_RANGE_CLOEXEC_FLAG);
    me->shared = task->shared ? task->shared : map_shared();
    if (rc == 0 && !me->shared)
        rc = -ENOMEM;
    if (rc < 0) {
        report_failure(me, -(int)rc);
        return 1;
    }
    (void)sys(close, task->base);
    me->dies_with_parent = task->dies_with_parent;
    (void)keep_dying_with_parent(me);
    set_signals();
    me->umask = (mode_t)sys(umask, 0);
    me->todo = me->plan.actors[OUTER];
    fault_open(me);
    perform_steps(me);
}

/* All of them out of each other's way first, above every number that is wanted. */
int place_descriptors(struct placement *places, size_t count)
{
    int above = 0;
    for (size_t i = 0; i < count; i++)
        above = places[i].to >= above ? places[i].to + 1 : above;
    for (size_t i = 0; i < count; i++) {
        places[i].from = (int)sys(fcntl, places[i].from, F_DUPFD_CLOEXEC, above);
        if (places[i].from < 0)
            return places[i].from;
    }
    (void)sys(close_range, 0, above - 1, 0);
    for (size_t i = 0; i < count; i++) {
        long rc = sys(dup3, places[i].from, places[i].to, 0);
        if (rc < 0)
            return (int)rc;
    }
    return (int)sys(close_range, above, EVERY_FD, 0);
}
