#include "frames.h"

#include <string.h>

enum { ANY_CHANNEL, GUEST_ONLY, CHANNEL_ONLY };
enum { NO_STREAM, TO_INPUT, OF_OUTPUT, OF_ANY };

/* What a frame of each type may be. */
struct rule {
    uint8_t known, channel, stream;
    uint32_t shortest, longest;
};

static const struct rule rules[] = {
    [FRAME_PLAN] = {1, CHANNEL_ONLY, NO_STREAM, 1, FRAME_PAYLOAD_MAX},
    [FRAME_RUN] = {1, CHANNEL_ONLY, NO_STREAM, FRAME_RUN_BYTES, FRAME_RUN_BYTES},
    [FRAME_DATA] = {1, CHANNEL_ONLY, TO_INPUT, 1, FRAME_PAYLOAD_MAX},
    [FRAME_EOF] = {1, CHANNEL_ONLY, OF_ANY, 0, 0},
    [FRAME_CREDIT] = {1, CHANNEL_ONLY, OF_OUTPUT, 4, 4},
    [FRAME_SIGNAL] = {1, CHANNEL_ONLY, NO_STREAM, FRAME_SIGNAL_BYTES, FRAME_SIGNAL_BYTES},
    [FRAME_WINSIZE] = {1, CHANNEL_ONLY, NO_STREAM, 4, 4},
    [FRAME_ANSWER] = {1, CHANNEL_ONLY, NO_STREAM, 8, 8},
    [FRAME_START] = {1, CHANNEL_ONLY, NO_STREAM, 0, 0},
    [FRAME_READ] = {1, CHANNEL_ONLY, NO_STREAM, 1, FRAME_PATH_MAX},
    [FRAME_SEED] = {1, CHANNEL_ONLY, NO_STREAM, FRAME_SEED_MIN, FRAME_SEED_MAX},
    [FRAME_CLOSE] = {1, CHANNEL_ONLY, NO_STREAM, 0, 0},
    [FRAME_STOP] = {1, ANY_CHANNEL, NO_STREAM, 0, 0},
    [FRAME_GREET] = {1, GUEST_ONLY, NO_STREAM, 0, 0},
    [FRAME_HELLO] = {1, GUEST_ONLY, NO_STREAM, 4, FRAME_PAYLOAD_MAX},
    [FRAME_REPORT] = {1, CHANNEL_ONLY, NO_STREAM, FRAME_REPORT_MIN, FRAME_REPORT_MAX},
    [FRAME_REPORTED] = {1, CHANNEL_ONLY, NO_STREAM, 0, 0},
    [FRAME_GUEST_DATA] = {1, CHANNEL_ONLY, OF_OUTPUT, 1, FRAME_PAYLOAD_MAX},
    [FRAME_GUEST_EOF] = {1, CHANNEL_ONLY, OF_OUTPUT, 0, 0},
    [FRAME_GUEST_CREDIT] = {1, CHANNEL_ONLY, TO_INPUT, 4, 4},
    [FRAME_EXIT] = {1, CHANNEL_ONLY, NO_STREAM, FRAME_EXIT_BYTES, FRAME_EXIT_BYTES},
    [FRAME_CONTENT] = {1, CHANNEL_ONLY, NO_STREAM, 1, FRAME_PAYLOAD_MAX},
    [FRAME_DONE] = {1, CHANNEL_ONLY, NO_STREAM, 4, 4},
};

static bool stream_is_sound(const struct rule *rule, uint16_t stream)
{
    if (rule->stream == OF_ANY)
        return stream < STREAMS;
    if (rule->stream == OF_OUTPUT)
        return stream == STREAM_OUT || stream == STREAM_ERROR;
    return stream == 0;
}

static bool head_is_sound(const struct frame *frame, enum direction direction)
{
    if (frame->type >= sizeof rules / sizeof *rules || (frame->type >= FRAME_HELLO) != (direction == FROM_GUEST))
        return false;
    const struct rule *rule = &rules[frame->type];
    if (!rule->known || frame->length < rule->shortest || frame->length > rule->longest)
        return false;
    if (rule->channel != ANY_CHANNEL && (frame->channel == 0) != (rule->channel == GUEST_ONLY))
        return false;
    return stream_is_sound(rule, frame->stream);
}

long frame_take(struct frame *frame, const uint8_t *bytes, size_t size, enum direction direction)
{
    if (size < FRAME_HEADER_BYTES)
        return 0;
    memcpy(&frame->length, bytes, 4);
    memcpy(&frame->channel, bytes + 4, 4);
    memcpy(&frame->type, bytes + 8, 2);
    memcpy(&frame->stream, bytes + 10, 2);
    frame->payload = bytes + FRAME_HEADER_BYTES;
    if (!head_is_sound(frame, direction))
        return -1;
    if (size - FRAME_HEADER_BYTES < frame->length)
        return 0;
    return FRAME_HEADER_BYTES + (long)frame->length;
}

void frame_head(uint8_t out[FRAME_HEADER_BYTES], const struct frame *frame)
{
    memcpy(out, &frame->length, 4);
    memcpy(out + 4, &frame->channel, 4);
    memcpy(out + 8, &frame->type, 2);
    memcpy(out + 10, &frame->stream, 2);
}

uint16_t payload_u16(const struct frame *frame, size_t at)
{
    uint16_t value;
    memcpy(&value, frame->payload + at, sizeof value);
    return value;
}

uint32_t payload_u32(const struct frame *frame, size_t at)
{
    uint32_t value;
    memcpy(&value, frame->payload + at, sizeof value);
    return value;
}

int64_t payload_i64(const struct frame *frame, size_t at)
{
    int64_t value;
    memcpy(&value, frame->payload + at, sizeof value);
    return value;
}

/* After `intake_next` has said 0, what is left is less than one frame, so half of the bytes are free. */
uint8_t *intake_room(struct intake *intake, size_t *room)
{
    memmove(intake->bytes, intake->bytes + intake->begin, intake->end - intake->begin);
    intake->end -= intake->begin;
    intake->begin = 0;
    *room = sizeof intake->bytes - intake->end;
    return intake->bytes + intake->end;
}

long intake_next(struct intake *intake, struct frame *frame, enum direction direction)
{
    long size = frame_take(frame, intake->bytes + intake->begin, intake->end - intake->begin, direction);
    if (size > 0)
        intake->begin += (size_t)size;
    return size;
}

bool ring_put(struct ring *ring, const void *bytes, size_t length)
{
    if (length > ring_free(ring))
        return false;
    size_t at = (ring->begin + ring->used) % ring->size;
    size_t first = length < ring->size - at ? length : ring->size - at;
    memcpy(ring->bytes + at, bytes, first);
    memcpy(ring->bytes, (const uint8_t *)bytes + first, length - first);
    ring->used += (uint32_t)length;
    return true;
}

const uint8_t *ring_piece(const struct ring *ring, size_t *length)
{
    size_t straight = ring->size - ring->begin;
    *length = ring->used < straight ? ring->used : straight;
    return ring->bytes + ring->begin;
}

void ring_peek(const struct ring *ring, void *out, size_t length)
{
    size_t straight = ring->size - ring->begin;
    size_t first = length < straight ? length : straight;
    memcpy(out, ring->bytes + ring->begin, first);
    memcpy((uint8_t *)out + first, ring->bytes, length - first);
}

void ring_drop(struct ring *ring, size_t length)
{
    ring->used -= (uint32_t)length;
    ring->begin = ring->used ? (uint32_t)((ring->begin + length) % ring->size) : 0;
}

bool ring_put_frame(struct ring *ring, const struct frame *frame)
{
    uint8_t head[FRAME_HEADER_BYTES];
    if (ring_free(ring) < FRAME_HEADER_BYTES + frame->length)
        return false;
    frame_head(head, frame);
    (void)ring_put(ring, head, sizeof head);
    return frame->length == 0 || ring_put(ring, frame->payload, frame->length);
}
