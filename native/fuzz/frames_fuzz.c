/* libFuzzer target: whatever comes over a port or a client's socket, reading it stays inside of it.
 *
 * The first byte is the direction, and how the rest is cut into reads. What is taken is put into a ring and taken out
 * again. The packet of a client is a block of its exact size, so that the address sanitizer sees the first step too
 * far.
 */
#include <stdlib.h>
#include <string.h>

#include "frames.h"

static volatile uint64_t sink;

static void touch(const struct frame *frame)
{
    for (uint32_t i = 0; i < frame->length; i++)
        sink += frame->payload[i];
    if (frame->length > FRAME_PAYLOAD_MAX)
        abort();
}

/* The same bytes come out that were put in. */
static void pass_through_ring(const struct frame *frame)
{
    static uint8_t memory[FRAME_HEADER_BYTES + FRAME_PAYLOAD_MAX + 7], out[sizeof memory];
    static struct ring ring = {.bytes = memory, .size = sizeof memory};
    struct frame again;
    if (!ring_put_frame(&ring, frame))
        abort();
    ring_peek(&ring, out, FRAME_HEADER_BYTES + frame->length);
    enum direction direction = frame->type >= FRAME_HELLO ? FROM_GUEST : TO_GUEST;
    if (frame_take(&again, out, ring.used, direction) != FRAME_HEADER_BYTES + (long)frame->length)
        abort();
    if (again.channel != frame->channel || memcmp(again.payload, frame->payload, frame->length) != 0)
        abort();
    size_t piece;
    while (ring.used) {
        (void)ring_piece(&ring, &piece);
        ring_drop(&ring, piece < 5 ? piece : 5);
        ring.begin = ring.used ? ring.begin : (ring.begin + frame->channel) % ring.size;
    }
}

static void read_stream(const uint8_t *data, size_t size, size_t step, enum direction direction)
{
    struct intake *intake = malloc(sizeof *intake);
    struct frame frame;
    long taken = 0;
    if (!intake)
        return;
    intake->begin = intake->end = 0;
    while (size && taken >= 0) {
        size_t room;
        uint8_t *at = intake_room(intake, &room);
        if (room == 0)
            abort();
        size_t count = size < step ? size : step;
        count = count < room ? count : room;
        memcpy(at, data, count);
        intake->end += count;
        data += count;
        size -= count;
        while ((taken = intake_next(intake, &frame, direction)) > 0) {
            touch(&frame);
            pass_through_ring(&frame);
        }
    }
    free(intake);
}

static void read_packet(const uint8_t *data, size_t size, enum direction direction)
{
    struct frame frame;
    uint8_t *packet = malloc(size ? size : 1);
    if (!packet)
        return;
    memcpy(packet, data, size);
    if (frame_take(&frame, packet, size, direction) > 0)
        touch(&frame);
    free(packet);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    enum direction direction = data[0] & 1 ? FROM_GUEST : TO_GUEST;
    size_t step = (size_t)(data[0] >> 1) * 97 + 1;
    read_stream(data + 1, size - 1, step, direction);
    read_packet(data + 1, size - 1, direction);
    return 0;
}
