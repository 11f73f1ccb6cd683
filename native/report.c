#include "report.h"

#include <sys/uio.h>

int send_with_fd(int socket, struct iovec *parts, size_t count, int fd)
{
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = {.bytes = {0}};
    struct msghdr message = {.msg_iov = parts};
    message.msg_iovlen = (__typeof__(message.msg_iovlen))count;
    if (fd >= 0) {
        control.header.cmsg_len = CMSG_LEN(sizeof fd);
        control.header.cmsg_level = SOL_SOCKET;
        control.header.cmsg_type = SCM_RIGHTS;
        memcpy(CMSG_DATA(&control.header), &fd, sizeof fd);
        message.msg_control = &control;
        message.msg_controllen = sizeof control.bytes;
    }
    long sent;
    do
        sent = sys(sendmsg, socket, &message, MSG_NOSIGNAL);
    while (sent == -EINTR);
    return sent < 0 ? (int)sent : 0;
}

/* The child may overtake its maker. Python is to learn of a process before it hears of it. */
static void wait_until_announced(const struct actor *me)
{
    if (me->self == OUTER)
        return;
    for (int tries = 0; tries < 20000 && !__atomic_load_n(&me->shared->announced[me->self], __ATOMIC_ACQUIRE); tries++)
        sys_sleep_ns(50000);
}

int report(struct actor *me, enum report_kind kind, int error, int64_t value, struct text text, int fd)
{
    struct record record = {(uint32_t)kind, me->self, me->index, error, value};
    struct iovec parts[2] = {
        {.iov_base = &record, .iov_len = sizeof record},
        {.iov_base = (void *)(uintptr_t)text.data, .iov_len = text.length},
    };
    wait_until_announced(me);
    return send_with_fd(me->report, parts, text.length ? 2 : 1, fd);
}

void report_or_end(struct actor *me, enum report_kind kind, int64_t value)
{
    if (report(me, kind, 0, value, (struct text){0}, -1) < 0)
        end_quietly(me);
}

void report_warning(struct actor *me, int error, int64_t value)
{
    (void)report(me, WARNING, error, value, (struct text){0}, -1);
}

static void report_failing(struct actor *me, uint32_t kind, int error)
{
    const struct failure *failure = &me->failure;
    struct text text = {failure->text, failure->length};
    (void)report(me, kind, error, failure->value, text, -1);
}

void report_failure(struct actor *me, int error)
{
    report_failing(me, me->failure.kind ? me->failure.kind : ERROR, error);
}

void report_soft_failure(struct actor *me, int error)
{
    report_failing(me, WARNING, error);
}

void failure_clear(struct failure *failure)
{
    failure->kind = 0;
    failure->value = 0;
    failure->length = 0;
}

void failure_add(struct failure *failure, const char *data, size_t length)
{
    if (length >= TEXT_BYTES) {
        memcpy(failure->text, data + length - TEXT_BYTES, TEXT_BYTES);
        failure->length = TEXT_BYTES;
        return;
    }
    if (failure->length + length > TEXT_BYTES) {
        size_t surplus = failure->length + length - TEXT_BYTES;
        memmove(failure->text, failure->text + surplus, failure->length - surplus);
        failure->length -= surplus;
    }
    memcpy(failure->text + failure->length, data, length);
    failure->length += length;
}
