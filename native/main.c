/* boxwright-helper: performs one encoded plan, then is the container's program, or ends.
 *
 *   boxwright-helper BASE        descriptors BASE: plan, BASE+1: report socket, BASE+2…: inherited ones
 *   boxwright-helper --check FD  is the plan in FD well-formed? status 0 or 2
 *   boxwright-helper --ops       the operations it knows, one a line: code, name, signature, fields
 *   boxwright-helper --version   the protocol's version
 */
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

enum { USAGE = 2, LARGEST_FD = 1 << 20 };

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

/* Map all of the file; NULL if it is empty or cannot be. */
static const uint8_t *map_plan(int fd, size_t *size)
{
    struct stat found;
    if (sys_fstat(fd, &found) < 0 || found.st_size <= 0 || found.st_size > UINT32_MAX)
        return NULL;
    *size = (size_t)found.st_size;
    long at = sys(mmap, NULL, *size, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, 0);
    return at < 0 && at > -4096 ? NULL : (const uint8_t *)at;
}

static bool open_plan(struct plan *plan, int fd)
{
    size_t size;
    const uint8_t *bytes = map_plan(fd, &size);
    return bytes && plan_open(plan, bytes, size);
}

static int map_shared(struct actor *me)
{
    long at = sys(mmap, NULL, sizeof *me->shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (at < 0 && at > -4096)
        return (int)at;
    me->shared = (struct shared *)at;
    return 0;
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

static int run(int base)
{
    struct actor *me = &actor;
    me->base = base;
    me->report = base + 1;
    if (!open_plan(&me->plan, base))
        return USAGE;
    take_inherited(me);
    /* Also what somebody who started the runtime has left open: the program gets what is below `base`. */
    long rc = sys(close_range, base, EVERY_FD, CLOSE_RANGE_CLOEXEC_FLAG);
    if (rc == 0)
        rc = map_shared(me);
    if (rc < 0) {
        report_failure(me, -(int)rc);
        return 1;
    }
    (void)sys(close, base);
    set_signals();
    me->umask = (mode_t)sys(umask, 0);
    me->todo = me->plan.actors[OUTER];
    fault_open(me);
    perform_steps(me);
}

/* A descriptor number: decimal digits and nothing else. -1 if it is none. */
static int parse_fd(const char *text)
{
    int number = 0;
    if (*text == 0)
        return -1;
    for (; *text; text++) {
        if (*text < '0' || *text > '9')
            return -1;
        number = number * 10 + (*text - '0');
        if (number > LARGEST_FD)
            return -1;
    }
    return number;
}

static void print(const char *text)
{
    (void)sys(write, 1, text, strlen(text));
}

static void print_number(int64_t number)
{
    char digits[NUMBER_BYTES];
    (void)format_number(digits, number);
    print(digits);
}

#define INT(name) "," #name
#define TEXT(name) INT(name)
#define DATA(name) INT(name)
#define TEXTS(name) INT(name)
#define INTS(name) INT(name)
#define NO_FIELDS ""
static const char *field_names(uint32_t code)
{
    switch (code) {
#define OP(number, name, fields)                                                                                       \
    case number:                                                                                                       \
        return fields;
        OPERATIONS(OP)
#undef OP
    default:
        return "";
    }
}

static int print_operations(void)
{
    for (uint32_t code = 0; code <= LAST_CODE; code++) {
        const struct description *known = describe(code);
        if (!known->name)
            continue;
        print_number(code);
        print(" ");
        print(known->name);
        print(" ");
        print(*known->signature ? known->signature : "-");
        print(" ");
        print(*known->signature ? field_names(code) + 1 : "-");
        print("\n");
    }
    return 0;
}

static int check(const char *text)
{
    int fd = parse_fd(text);
    struct plan plan;
    return fd >= 0 && open_plan(&plan, fd) ? 0 : USAGE;
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "--check") == 0)
        return check(argv[2]);
    if (argc != 2)
        return USAGE;
    if (strcmp(argv[1], "--ops") == 0)
        return print_operations();
    if (strcmp(argv[1], "--version") == 0) {
        print_number(PROTOCOL);
        print("\n");
        return 0;
    }
    int base = parse_fd(argv[1]);
    return base < 3 ? USAGE : run(base);
}
