/* What the helper tells Python: fixed records on a SEQPACKET socket, with text after them where there is any. */
#pragma once

#include "actor.h"

struct record {
    uint32_t kind;
    uint32_t actor;
    uint32_t op;
    int32_t error;
    int64_t value;
};

/* Send one record about the present step; `fd` goes with it unless -1. 0 or -errno. */
int report(struct actor *me, enum report_kind kind, int error, int64_t value, struct text text, int fd);

/* A WARNING about the present step. That nobody listens any more is no reason to stop. */
void report_warning(struct actor *me, int error, int64_t value);

/* The present step failed for good. */
void report_failure(struct actor *me, int error);

/* A soft step failed. */
void report_soft_failure(struct actor *me, int error);

/* A record that must arrive: without a listener there is nobody to own the container, so end. */
void report_or_end(struct actor *me, enum report_kind kind, int64_t value);

/* Keep the last TEXT_BYTES of what is added as the text of a failure. */
void failure_add(struct failure *failure, const char *data, size_t length);

/* Forget what a step before has left. */
void failure_clear(struct failure *failure);

/* sendmsg(2) of bytes with a descriptor (-1: none), never raising SIGPIPE. 0 or -errno. */
int send_with_fd(int socket, struct iovec *parts, size_t count, int fd);
