/* The processes of a machine: started in order, watched until one ends that it cannot be without. */
#include "hook.h"
#include "keeper.h"
#include "report.h"

static const char MAGIC[4] = {'B', 'X', 'M', '1'};

enum { VITAL = 1, FIRST_BASE = 3 };

/* What is left of the file; `failed` sticks. */
struct reader {
    const uint8_t *at, *end;
    bool failed;
};

static const uint8_t *take(struct reader *reader, size_t count)
{
    const uint8_t *taken = reader->at;
    if (reader->failed || (size_t)(reader->end - reader->at) < count) {
        reader->failed = true;
        return NULL;
    }
    reader->at += count;
    return taken;
}

static uint32_t take_u32(struct reader *reader)
{
    uint32_t value = 0;
    const uint8_t *at = take(reader, sizeof value);
    if (at)
        memcpy(&value, at, sizeof value);
    return value;
}

static struct text take_text(struct reader *reader)
{
    uint32_t length = take_u32(reader);
    const uint8_t *at = take(reader, (size_t)length + 1);
    if (at && (at[length] != 0 || memchr(at, 0, length)))
        reader->failed = true;
    return (struct text){(const char *)at, length};
}

/* One entry of the file. */
struct entry {
    uint32_t flags;
    struct text name;
    uint32_t descriptors;
    struct placement places[MOST_DESCRIPTORS + 1]; /* the last is the report socket */
    struct task task;
};

static bool take_entry(struct reader *reader, struct entry *entry)
{
    entry->flags = take_u32(reader);
    entry->name = take_text(reader);
    entry->descriptors = take_u32(reader);
    entry->task.base = FIRST_BASE;
    if (entry->descriptors > MOST_DESCRIPTORS || entry->flags & ~(uint32_t)VITAL)
        return false;
    for (uint32_t i = 0; i < entry->descriptors; i++) {
        uint32_t from = take_u32(reader), to = take_u32(reader);
        if (from > INT16_MAX || to > INT16_MAX)
            return false;
        entry->places[i] = (struct placement){(int)from, (int)to};
        if ((int)to >= entry->task.base)
            entry->task.base = (int)to + 1;
    }
    entry->task.size = take_u32(reader);
    entry->task.plan = take(reader, entry->task.size);
    return !reader->failed;
}

/* --- why not --- */

static void add_text(char detail[DETAIL_BYTES], const char *text, size_t length)
{
    size_t at = strlen(detail);
    if (length > DETAIL_BYTES - 1 - at)
        length = DETAIL_BYTES - 1 - at;
    memcpy(detail + at, text, length);
    detail[at + length] = 0;
}

static void add_number(char detail[DETAIL_BYTES], const char *before, int64_t number)
{
    char digits[NUMBER_BYTES];
    (void)format_number(digits, number);
    add_text(detail, before, strlen(before));
    add_text(detail, digits, strlen(digits));
}

static char *begin_detail(struct text name)
{
    static char detail[DETAIL_BYTES];
    detail[0] = 0;
    add_text(detail, name.data, name.length);
    return detail;
}

_Noreturn static void refuse(struct keeper *me, struct text name, int error)
{
    char *detail = begin_detail(name);
    add_number(detail, " errno ", error);
    end_machine(me, CHILD_FAILED, detail);
}

/* NAME actor A op N errno E value V TEXT */
_Noreturn static void refuse_by_report(struct keeper *me, struct text name, const struct record *record, struct text text)
{
    char *detail = begin_detail(name);
    add_number(detail, " actor ", record->actor);
    add_number(detail, " op ", record->op);
    add_number(detail, " errno ", record->error);
    add_number(detail, " value ", record->value);
    add_text(detail, " ", text.length ? 1 : 0);
    add_text(detail, text.data, text.length);
    end_machine(me, CHILD_FAILED, detail);
}

/* --- starting --- */

/* Until every actor has ended or executed its program. */
static void follow(struct keeper *me, const struct child *child, int reports)
{
    static struct {
        struct record record;
        char text[TEXT_BYTES];
    } message;
    for (;;) {
        long got = sys(recvfrom, reports, &message, sizeof message, 0, NULL, NULL);
        if (got == -EINTR || got == -ECONNRESET)
            continue;
        if (got < (long)sizeof message.record)
            return;
        struct text text = {message.text, (uint64_t)got - sizeof message.record};
        if (message.record.kind == ERROR || message.record.kind == HOOK_FAILED)
            refuse_by_report(me, child->name, &message.record, text);
        int64_t refused = ENOSYS;
        if (message.record.kind == UPCALL)
            (void)sys(sendto, reports, &refused, sizeof refused, MSG_NOSIGNAL, NULL, 0);
    }
}

_Noreturn static void become_child(struct entry *entry, struct shared *shared, int reports)
{
    entry->places[entry->descriptors] = (struct placement){reports, entry->task.base + 1};
    entry->task.shared = shared;
    entry->task.dies_with_parent = true;
    reset_signals();
    if (place_descriptors(entry->places, entry->descriptors + 1) < 0)
        sys_exit(BAD_PLAN);
    sys_exit(perform_plan(&entry->task));
}

static int check_plan(const struct entry *entry)
{
    struct plan plan;
    return plan_open(&plan, entry->task.plan, entry->task.size) && plan.inherited == 0 ? 0 : -EBADMSG;
}

static int start_child(struct child *child, struct entry *entry, int reports[2])
{
    int rc = check_plan(entry);
    if (rc == 0)
        rc = (int)sys(socketpair, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, reports);
    child->shared = map_shared();
    if (rc < 0 || !child->shared)
        return rc < 0 ? rc : -ENOMEM;
    struct clone3_args args = {.exit_signal = SIGCHLD};
    pid_t pid = (pid_t)sys_clone3(&args);
    if (pid == 0)
        become_child(entry, child->shared, reports[1]);
    child->outer = pid;
    return pid < 0 ? pid : 0;
}

static void start_entry(struct keeper *me, struct entry *entry)
{
    int reports[2];
    struct child *child = &me->children[me->child_count++];
    child->name = entry->name;
    child->is_vital = entry->flags & VITAL;
    int rc = start_child(child, entry, reports);
    if (rc < 0)
        refuse(me, child->name, -rc);
    (void)sys(close, reports[1]);
    for (uint32_t i = 0; i < entry->descriptors; i++)
        if (entry->places[i].from > 2) /* our own stdio is the container's */
            (void)sys(close, entry->places[i].from);
    follow(me, child, reports[0]);
    (void)sys(close, reports[0]);
}

void start_children(struct keeper *me, int machine)
{
    static struct entry entry;
    static const struct text file = {"machine", 7};
    struct stat found;
    long at = -EBADMSG;
    if (sys_fstat(machine, &found) == 0 && found.st_size > 0 && found.st_size < UINT32_MAX)
        at = sys(mmap, NULL, found.st_size, PROT_READ, MAP_PRIVATE | MAP_POPULATE, machine, 0);
    if (at < 0 && at > -4096)
        refuse(me, file, (int)-at);
    (void)sys(close, machine);
    struct reader reader = {(const uint8_t *)at, (const uint8_t *)at + found.st_size, false};
    const uint8_t *magic = take(&reader, sizeof MAGIC);
    uint32_t count = take_u32(&reader);
    if (!magic || memcmp(magic, MAGIC, sizeof MAGIC) != 0 || count > MOST_CHILDREN)
        refuse(me, file, EBADMSG);
    for (uint32_t i = 0; i < count; i++) {
        if (!take_entry(&reader, &entry))
            refuse(me, file, EBADMSG);
        start_entry(me, &entry);
    }
    if (reader.at != reader.end)
        refuse(me, file, EBADMSG);
}

/* --- the end --- */

static bool is_of(const struct child *child, pid_t pid)
{
    pid_t init = child->shared->init;
    return !child->ended && pid == (init ? init : child->outer);
}

static void note_end(struct keeper *me, pid_t pid, int status)
{
    for (uint32_t i = 0; i < me->child_count; i++) {
        struct child *child = &me->children[i];
        if (!is_of(child, pid))
            continue;
        child->ended = true;
        if (!child->is_vital)
            continue;
        /* The others end when one has, and what made it end is told by the first that did not end well. */
        if (me->lost_child && (status == 0 || me->lost_status != 0))
            continue;
        me->lost_status = status;
        char *detail = begin_detail(child->name);
        add_number(detail, " status ", status);
        me->lost_child = detail;
        lose_guest(me);
    }
}

void reap_children(struct keeper *me)
{
    enum { NO_HANG = 1, EVERY_KIND = 0x40000000 };
    int status;
    pid_t pid;
    while ((pid = (pid_t)sys(wait4, -1, &status, NO_HANG | EVERY_KIND, NULL)) > 0)
        note_end(me, pid, status);
}
