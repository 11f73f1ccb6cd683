/* What the guest says, of which nothing is believed, and what it is told. */
#include "keeper.h"

bool has_room_for_frame(const struct keeper *me)
{
    return ring_free(&me->to_guest) >= FRAME_HEADER_BYTES + FRAME_PAYLOAD_MAX + PORT_RESERVE_BYTES;
}

bool send_to_guest(struct keeper *me, uint32_t channel, enum frame_type type, enum stream stream, const void *payload,
                   size_t length)
{
    struct frame frame = {(uint32_t)length, channel, (uint16_t)type, (uint16_t)stream, payload};
    return ring_put_frame(&me->to_guest, &frame);
}

/* The end of the port is noted when it is read: what the guest said before counts. */
void write_port(struct keeper *me)
{
    size_t length;
    const uint8_t *bytes = ring_piece(&me->to_guest, &length);
    long written = sys(write, me->port, bytes, length);
    if (written > 0)
        ring_drop(&me->to_guest, (size_t)written);
    else if (written != -EAGAIN && written != -EINTR)
        me->to_guest.used = 0;
}

/* --- frames of a channel; false if the guest breaks a rule --- */

static bool take_report(struct keeper *me, struct client *client, const struct frame *frame)
{
    enum { READY_KIND = 4 };
    if (!client->reporting)
        return false;
    client->ready |= payload_u32(frame, 0) == READY_KIND;
    tell_client(me, client, frame);
    return true;
}

static bool take_reported(struct keeper *me, struct client *client, const struct frame *frame)
{
    if (!client->reporting)
        return false;
    client->reporting = false;
    client->ready = true;
    tell_client(me, client, frame);
    return true;
}

static bool take_data(struct keeper *me, struct client *client, const struct frame *frame)
{
    if (client == me->init)
        return carrier_data(&me->carrier, frame);
    if (!client->ran || client->ended[frame->stream] || frame->length > client->promised[frame->stream])
        return false;
    client->promised[frame->stream] -= frame->length;
    return ring_put(&client->output[frame->stream], frame->payload, frame->length);
}

static bool take_eof(struct keeper *me, struct client *client, const struct frame *frame)
{
    if (client == me->init)
        return carrier_eof(&me->carrier, frame);
    bool fine = client->ran && !client->ended[frame->stream];
    client->ended[frame->stream] = client->eof_due[frame->stream] = true;
    return fine;
}

static bool take_credit(struct keeper *me, struct client *client, const struct frame *frame)
{
    uint32_t more = payload_u32(frame, 0);
    if (client == me->init)
        return carrier_credit(&me->carrier, frame);
    if (!(client->run_flags & (RUN_STDIN | RUN_TERMINAL)) || more > FRAME_WINDOW_BYTES - client->credit_in)
        return false;
    client->credit_in += more;
    tell_client(me, client, frame);
    return true;
}

static bool take_exit(struct keeper *me, struct client *client, const struct frame *frame)
{
    if (!client->ran || client->exited)
        return false;
    client->exited = true;
    if (client != me->init) {
        tell_client(me, client, frame);
        return true;
    }
    me->init_exited = true;
    me->init_status = (int)payload_u32(frame, 0);
    for (size_t i = 0; i < USAGE_COUNT; i++)
        me->usage[i] = (uint64_t)payload_i64(frame, 4 + 8 * i);
    return true;
}

static bool take_content(struct keeper *me, struct client *client, const struct frame *frame)
{
    if (client->reading == 0)
        return false;
    tell_client(me, client, frame);
    return true;
}

/* The keeper's own signals are answered too, on the channel of the init. */
static bool take_done(struct keeper *me, struct client *client, const struct frame *frame)
{
    if (client->due == 0 && !client->may_fail)
        return false;
    if (client->due)
        client->due--;
    else
        client->may_fail = false;
    client->reading = client->reading && client->due;
    tell_client(me, client, frame);
    return true;
}

static bool take_of_channel(struct keeper *me, struct client *client, const struct frame *frame)
{
    switch (frame->type) {
    case FRAME_REPORT:
        return take_report(me, client, frame);
    case FRAME_REPORTED:
        return take_reported(me, client, frame);
    case FRAME_GUEST_DATA:
        return take_data(me, client, frame);
    case FRAME_GUEST_EOF:
        return take_eof(me, client, frame);
    case FRAME_GUEST_CREDIT:
        return take_credit(me, client, frame);
    case FRAME_EXIT:
        return take_exit(me, client, frame);
    case FRAME_CONTENT:
        return take_content(me, client, frame);
    case FRAME_DONE:
        return take_done(me, client, frame);
    default:
        return false;
    }
}

/* --- all frames --- */

static bool take_hello(struct keeper *me, const struct frame *frame)
{
    if (me->greeted || payload_u32(frame, 0) != FRAME_VERSION)
        return false;
    memcpy(me->hello, frame->payload, frame->length);
    me->hello_length = frame->length;
    me->greeted = true;
    return true;
}

static const char *const names[] = {"HELLO", "REPORT", "REPORTED", "DATA", "EOF", "CREDIT", "EXIT", "CONTENT", "DONE"};

static void take_frame(struct keeper *me, const struct frame *frame)
{
    bool fine;
    struct client *client = client_of_channel(me, frame->channel);
    if (frame->type == FRAME_HELLO)
        fine = take_hello(me, frame);
    else if (!me->greeted || frame->channel > me->last_channel)
        fine = false;
    else
        fine = !client || take_of_channel(me, client, frame); /* one that is closed may still have been under way */
    if (!fine)
        end_machine(me, PROTOCOL_BROKEN, names[frame->type - FRAME_HELLO]);
}

void read_port(struct keeper *me)
{
    size_t room;
    struct frame frame;
    uint8_t *at = intake_room(&me->intake, &room);
    long got = sys(read, me->port, at, room);
    if (got == -EAGAIN || got == -EINTR)
        return;
    if (got <= 0) {
        me->port_ended = true;
        lose_guest(me);
        return;
    }
    me->intake.end += (size_t)got;
    long size;
    while ((size = intake_next(&me->intake, &frame, FROM_GUEST)) > 0)
        take_frame(me, &frame);
    if (size < 0)
        end_machine(me, PROTOCOL_BROKEN, "frame");
}
