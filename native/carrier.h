/* Carries our own standard input, output and error to a channel and back: the keeper's for the container's init, the
 * proxy's for what `exec` started.
 *
 * The descriptors may be anything: a terminal, a pipe, a socket, a file. Other processes may hold them too, so they are
 * never made non-blocking; a write that would block after all is interrupted by a timer.
 */
#pragma once

#include <poll.h>

#include "frames.h"
#include "sys.h"

enum { CARRIER_EVENTS = STREAMS };

struct carrier;

/* Send a frame to the guest. False if there is no room now: then it is tried again. */
typedef bool (*carrier_send)(struct carrier *me, enum frame_type type, enum stream stream, const void *payload,
                             size_t length);

struct carrier {
    carrier_send send;
    uint8_t *piece;          /* FRAME_PAYLOAD_MAX bytes */
    struct ring output[STREAMS]; /* [1] and [2] */
    uint32_t promised[STREAMS];  /* credit that the guest has not used up */
    uint32_t owed[STREAMS];      /* credit that is not given yet */
    bool socket[STREAMS];
    bool broken[STREAMS]; /* nobody reads it any more */
    bool told[STREAMS];   /* the guest knows that */
    bool ended[STREAMS]; /* the guest's EOF came; for the input: ours is sent */
    uint32_t credit;     /* of the input */
    bool wants_input, is_terminal, size_changed, is_raw, timer_runs;
    uint8_t terminal_before[64];
    int timer;
};

/* Memory for `piece` and both rings. */
enum { CARRIER_BYTES = FRAME_PAYLOAD_MAX + 2 * FRAME_WINDOW_BYTES };

void carrier_init(struct carrier *me, carrier_send send, uint8_t *memory);

/* The channel's program runs: give the first credit; take the terminal, if it is one, into raw mode. */
void carrier_begin(struct carrier *me, bool wants_input, bool is_terminal);

/* What to wait for: CARRIER_EVENTS of them. */
void carrier_want(struct carrier *me, struct pollfd *events);
void carrier_serve(struct carrier *me, const struct pollfd *events);

/* A frame of the channel. False if the guest broke the rules. */
bool carrier_data(struct carrier *me, const struct frame *frame);
bool carrier_eof(struct carrier *me, const struct frame *frame);
bool carrier_credit(struct carrier *me, const struct frame *frame);

/* Nothing that came is left to be written. */
bool carrier_is_empty(const struct carrier *me);

/* Give the terminal back as it was. */
void carrier_end(struct carrier *me);
