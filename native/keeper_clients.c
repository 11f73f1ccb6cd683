/* Those who ask the guest for something: create, start, exec, kill, and the proxies. */
#include "keeper.h"

enum { CLIENT_BYTES = CONTROL_BYTES + 2 * FRAME_WINDOW_BYTES };

enum { MOST_DUE = 1024 };

/* A DONE comes always, or if it cannot begin. */
static bool is_request(uint16_t type)
{
    return type == FRAME_SIGNAL || type == FRAME_READ || type == FRAME_SEED;
}

static bool may_fail(uint16_t type)
{
    return type == FRAME_RUN || type == FRAME_START;
}

static uint8_t *memory_of(const struct keeper *me, const struct client *client)
{
    return me->client_memory + (size_t)(client - me->clients) * CLIENT_BYTES;
}

struct client *client_of_channel(struct keeper *me, uint32_t channel)
{
    for (int i = 0; i < MOST_CLIENTS && channel; i++)
        if (me->clients[i].used && me->clients[i].channel == channel)
            return &me->clients[i];
    return NULL;
}

static struct client *free_client(const struct keeper *me)
{
    for (int i = 0; i < MOST_CLIENTS; i++)
        if (!me->clients[i].used)
            return (struct client *)(uintptr_t)&me->clients[i];
    return NULL;
}

bool has_free_client(const struct keeper *me)
{
    return free_client(me) != NULL;
}

void accept_client(struct keeper *me)
{
    int fd = (int)sys(accept4, me->control, NULL, NULL, SOCK_CLOEXEC);
    struct client *client = free_client(me);
    if (fd < 0)
        return;
    uint8_t *memory = memory_of(me, client);
    *client = (struct client){.used = true, .fd = fd};
    client->control = (struct ring){.bytes = memory, .size = CONTROL_BYTES};
    memory += CONTROL_BYTES;
    for (enum stream stream = STREAM_OUT; stream < STREAMS; stream++, memory += FRAME_WINDOW_BYTES)
        client->output[stream] = (struct ring){.bytes = memory, .size = FRAME_WINDOW_BYTES};
}

static void disconnect(struct client *client)
{
    if (client->fd >= 0)
        (void)sys(close, client->fd);
    client->fd = -1;
}

/* Whoever made the container is gone before it was made: nobody will want it. */
static void leave_init(struct keeper *me, struct client *client)
{
    disconnect(client);
    if (!client->ready && !me->init_exited)
        end_after(me, 0, STOPPED, "the maker is gone");
}

static void drop_client(struct keeper *me, struct client *client)
{
    enum { DONT_NEED = 4 };
    if (client == me->init) {
        leave_init(me, client);
        return;
    }
    disconnect(client);
    if (client->channel)
        (void)send_to_guest(me, client->channel, FRAME_CLOSE, 0, NULL, 0);
    client->used = false;
    (void)sys(madvise, memory_of(me, client), CLIENT_BYTES, DONT_NEED);
}

/* --- to the client --- */

void tell_client(struct keeper *me, struct client *client, const struct frame *frame)
{
    struct frame told = *frame;
    told.channel = 0;
    if (client->fd < 0 || client->is_deaf)
        return;
    if (!ring_put_frame(&client->control, &told))
        drop_client(me, client);
}

/* 1: sent; 0: not now; -1: nobody is there. */
static int send_packet(const struct client *client, const uint8_t *packet, size_t length)
{
    long sent = sys(sendto, client->fd, packet, length, MSG_DONTWAIT | MSG_NOSIGNAL, NULL, 0);
    return sent >= 0 ? 1 : sent == -EAGAIN || sent == -EINTR ? 0 : -1;
}

static int send_head(struct keeper *me, const struct client *client, enum frame_type type, enum stream stream,
                     size_t length)
{
    struct frame frame = {(uint32_t)length, 0, (uint16_t)type, (uint16_t)stream, NULL};
    frame_head(me->packet, &frame);
    return send_packet(client, me->packet, FRAME_HEADER_BYTES + length);
}

static int send_hello(struct keeper *me, struct client *client)
{
    memcpy(me->packet + FRAME_HEADER_BYTES, me->hello, me->hello_length);
    int rc = send_head(me, client, FRAME_HELLO, 0, me->hello_length);
    client->greeted = rc == 1;
    return rc;
}

static int send_control(struct keeper *me, struct client *client)
{
    uint32_t length;
    ring_peek(&client->control, &length, sizeof length);
    ring_peek(&client->control, me->packet, FRAME_HEADER_BYTES + length);
    int rc = send_packet(client, me->packet, FRAME_HEADER_BYTES + length);
    if (rc == 1)
        ring_drop(&client->control, FRAME_HEADER_BYTES + length);
    return rc;
}

static int send_output(struct keeper *me, struct client *client, enum stream stream)
{
    struct ring *ring = &client->output[stream];
    size_t length = ring->used < FRAME_PAYLOAD_MAX ? ring->used : FRAME_PAYLOAD_MAX;
    if (length) {
        ring_peek(ring, me->packet + FRAME_HEADER_BYTES, length);
        int rc = send_head(me, client, FRAME_GUEST_DATA, stream, length);
        if (rc == 1)
            ring_drop(ring, length);
        return rc;
    }
    int rc = send_head(me, client, FRAME_GUEST_EOF, stream, 0);
    client->eof_due[stream] = rc != 1;
    return rc;
}

static bool has_output(const struct client *client, enum stream stream)
{
    return client->output[stream].used || client->eof_due[stream];
}

/* 2: there is nothing to send. */
static int send_next(struct keeper *me, struct client *client)
{
    if (!me->greeted)
        return 2;
    if (!client->greeted)
        return send_hello(me, client);
    if (client->control.used)
        return send_control(me, client);
    for (enum stream stream = STREAM_OUT; stream < STREAMS; stream++)
        if (has_output(client, stream))
            return send_output(me, client, stream);
    return 2;
}

void flush_client(struct keeper *me, struct client *client)
{
    int rc = 1;
    while (client->fd >= 0 && !client->is_deaf && rc == 1)
        rc = send_next(me, client);
    if (rc < 0)
        client->is_deaf = client->greeted = true;
}

/* --- from the client; false if it breaks a rule --- */

static bool take_plan(struct client *client, const struct frame *frame)
{
    if (client->ran || client->reporting || frame->length > FRAME_PLAN_MAX - client->plan_bytes)
        return false;
    client->plan_bytes += frame->length;
    return true;
}

static bool take_run(struct keeper *me, struct client *client, const struct frame *frame)
{
    uint32_t flags = payload_u32(frame, 0);
    if (client->ran || client->reporting || flags & ~(uint32_t)RUN_FLAGS || (flags & RUN_INIT && me->init))
        return false;
    client->ran = client->reporting = true;
    client->run_flags = flags;
    if (flags & RUN_INIT) {
        me->init = client;
        carrier_begin(&me->carrier, flags & (RUN_STDIN | RUN_TERMINAL), flags & RUN_TERMINAL);
    }
    return true;
}

static bool take_data(struct keeper *me, struct client *client, const struct frame *frame)
{
    if (client == me->init || frame->length > client->credit_in)
        return false;
    client->credit_in -= frame->length;
    return true;
}

static bool take_credit(struct keeper *me, struct client *client, const struct frame *frame)
{
    uint32_t more = payload_u32(frame, 0);
    uint32_t taken = client->promised[frame->stream] + client->output[frame->stream].used;
    if (client == me->init || more > FRAME_WINDOW_BYTES - taken)
        return false;
    client->promised[frame->stream] += more;
    return true;
}

/* A guest that does not obey SIGKILL, or is not able to, is ended with its machine. */
static void note_killed(struct keeper *me)
{
    enum { GRACE_MS = 5000 };
    me->was_killed = true;
    end_after(me, GRACE_MS, STOPPED, "killed");
}

static bool take_signal(struct keeper *me, const struct client *client, const struct frame *frame)
{
    uint32_t flags = payload_u32(frame, 4);
    if (flags & ~(uint32_t)SIGNAL_FLAGS)
        return false;
    if (payload_u32(frame, 0) == SIGKILL && (flags & (SIGNAL_EVERY | SIGNAL_INIT) || client == me->init))
        note_killed(me);
    return true;
}

static bool take_start(struct client *client)
{
    bool fine = !client->ran && !client->reporting && !client->plan_bytes;
    client->reporting = true;
    return fine;
}

static bool take_stop(struct keeper *me)
{
    enum { GRACE_MS = 3000 };
    me->is_stopping = true;
    end_after(me, GRACE_MS, STOPPED, "asked for");
    return true;
}

static bool take_of_client(struct keeper *me, struct client *client, const struct frame *frame)
{
    switch (frame->type) {
    case FRAME_PLAN:
        return take_plan(client, frame);
    case FRAME_RUN:
        return take_run(me, client, frame);
    case FRAME_DATA:
        return take_data(me, client, frame);
    case FRAME_CREDIT:
        return take_credit(me, client, frame);
    case FRAME_SIGNAL:
        return take_signal(me, client, frame);
    case FRAME_START:
        return take_start(client);
    case FRAME_READ:
        client->reading = true;
        return true;
    case FRAME_STOP:
        return take_stop(me);
    case FRAME_EOF:
        return client != me->init;
    case FRAME_CLOSE:
        return false; /* a client closes its connection */
    default:
        return true;
    }
}

/* A packet is a frame of channel 0, which is checked as one of its channel would be. */
static bool read_frame(struct frame *frame, uint8_t *packet, long length)
{
    uint32_t channel = 1;
    if (length < FRAME_HEADER_BYTES || memcmp(packet + 4, "\0\0\0", 4) != 0)
        return false;
    memcpy(packet + 4, &channel, sizeof channel);
    return frame_take(frame, packet, (size_t)length, TO_GUEST) == length;
}

static void forward(struct keeper *me, struct client *client, const struct frame *frame)
{
    if (!client->channel)
        client->channel = ++me->last_channel;
    client->due += is_request(frame->type);
    client->may_fail |= may_fail(frame->type);
    (void)send_to_guest(me, client->channel, (enum frame_type)frame->type, (enum stream)frame->stream, frame->payload,
                        frame->length);
}

static void read_client(struct keeper *me, struct client *client)
{
    enum { PACKET_BYTES = FRAME_HEADER_BYTES + FRAME_PAYLOAD_MAX };
    struct frame frame;
    long got = sys(recvfrom, client->fd, me->packet, PACKET_BYTES, MSG_DONTWAIT | MSG_TRUNC, NULL, NULL);
    if (is_passing(got))
        return;
    if (got <= 0 || got > PACKET_BYTES || !read_frame(&frame, me->packet, got) || !take_of_client(me, client, &frame))
        drop_client(me, client);
    else
        forward(me, client, &frame);
}

short client_interest(const struct keeper *me, const struct client *client)
{
    bool reads = client->greeted && has_room_for_frame(me) && client->due < MOST_DUE;
    bool writes = me->greeted && !client->is_deaf && (!client->greeted || client->control.used || has_output(client, STREAM_OUT) ||
                                  has_output(client, STREAM_ERROR));
    return (short)((reads ? POLLIN : 0) | (writes ? POLLOUT : 0));
}

void serve_client(struct keeper *me, struct client *client, short events)
{
    if (events & POLLOUT)
        flush_client(me, client);
    if (client->fd >= 0 && events & (POLLIN | POLLHUP | POLLERR) && has_room_for_frame(me))
        read_client(me, client);
}
