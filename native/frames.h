/* The frames between a machine's keeper, its clients, and the agent in the guest (docs/decisions/0050-vm-box.md).
 *
 * `src/boxwright/boxes/vm/frames.py` has the same numbers. Nothing here trusts what it reads.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum frame_limits {
    FRAME_VERSION = 1,
    FRAME_HEADER_BYTES = 12,
    FRAME_PAYLOAD_MAX = 32768,
    FRAME_WINDOW_BYTES = 65536, /* of each stream */
    FRAME_PLAN_MAX = 4 << 20,
    FRAME_CONTENT_MAX = 1 << 20,
    FRAME_PATH_MAX = 4095,
    FRAME_REPORT_MIN = 24,
    FRAME_REPORT_MAX = 24 + 1024,
    FRAME_RUN_BYTES = 8,
    FRAME_SIGNAL_BYTES = 8,
    FRAME_SEED_MIN = 16,
    FRAME_SEED_MAX = 16 + 256,
    FRAME_EXIT_BYTES = 44,
};

enum frame_type {
    FRAME_PLAN = 1,
    FRAME_RUN = 2,
    FRAME_DATA = 3,
    FRAME_EOF = 4,
    FRAME_CREDIT = 5,
    FRAME_SIGNAL = 6,
    FRAME_WINSIZE = 7,
    FRAME_ANSWER = 8,
    FRAME_START = 9,
    FRAME_READ = 10,
    FRAME_SEED = 11,
    FRAME_CLOSE = 12,
    FRAME_STOP = 13,
    FRAME_GREET = 14,
    FRAME_HELLO = 64,
    FRAME_REPORT = 65,
    FRAME_REPORTED = 66,
    FRAME_GUEST_DATA = 67,
    FRAME_GUEST_EOF = 68,
    FRAME_GUEST_CREDIT = 69,
    FRAME_EXIT = 70,
    FRAME_CONTENT = 71,
    FRAME_DONE = 72,
};

enum run_flags { RUN_INIT = 1, RUN_GATE = 2, RUN_JOIN = 4, RUN_TERMINAL = 8, RUN_STDIN = 16, RUN_FLAGS = 31 };
enum signal_flags { SIGNAL_EVERY = 1, SIGNAL_INIT = 2, SIGNAL_SESSION = 4, SIGNAL_FLAGS = 7 };
enum stream { STREAM_IN, STREAM_OUT, STREAM_ERROR, STREAMS };

enum direction { TO_GUEST, FROM_GUEST };

struct frame {
    uint32_t length; /* of the payload */
    uint32_t channel;
    uint16_t type;
    uint16_t stream;
    const uint8_t *payload;
};

/* Take the frame at the beginning of `size` bytes. How many bytes it has with its header; 0 if more are needed; -1 if
 * these can never become a frame that may go in `direction`. */
long frame_take(struct frame *frame, const uint8_t *bytes, size_t size, enum direction direction);

/* Write a header. */
void frame_head(uint8_t out[FRAME_HEADER_BYTES], const struct frame *frame);

/* A number in a payload that is known to be long enough. */
uint16_t payload_u16(const struct frame *frame, size_t at);
uint32_t payload_u32(const struct frame *frame, size_t at);
int64_t payload_i64(const struct frame *frame, size_t at);

/* What frames are collected in from a byte stream. */
struct intake {
    size_t begin, end;
    uint8_t bytes[2 * (FRAME_HEADER_BYTES + FRAME_PAYLOAD_MAX)];
};

/* Where to read more to, and how much of it: never nothing. */
uint8_t *intake_room(struct intake *intake, size_t *room);

/* The next frame, as `frame_take`; its bytes stay until the next `intake_room`. */
long intake_next(struct intake *intake, struct frame *frame, enum direction direction);

/* Bytes that wait, first in first out, in memory that somebody else gave. */
struct ring {
    uint8_t *bytes;
    uint32_t size;
    uint32_t begin;
    uint32_t used;
};

/* All of `length` bytes, or false if they do not fit. */
bool ring_put(struct ring *ring, const void *bytes, size_t length);

/* The first of the bytes that lie in one piece. */
const uint8_t *ring_piece(const struct ring *ring, size_t *length);

/* Copy `length` bytes, which must be there, without taking them. */
void ring_peek(const struct ring *ring, void *out, size_t length);

/* Forget `length` bytes, which must be there. */
void ring_drop(struct ring *ring, size_t length);

static inline uint32_t ring_free(const struct ring *ring)
{
    return ring->size - ring->used;
}

/* Put a frame into a ring; false if it does not fit. */
bool ring_put_frame(struct ring *ring, const struct frame *frame);
