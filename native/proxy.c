/* The streams of what `exec` has started in the guest, carried in the jail. */
#include "keeper.h"

enum { SIGNAL_STATUS = 128, CONNECTION = 0, SIGNALS = 1, FIXED_EVENTS = 2, GET_SESSION = 0x5429 };

struct line {
    size_t length;
    char text[(USAGE_COUNT + 2) * NUMBER_BYTES + 16];
};

static struct {
    int connection, signals, status_file;
    bool exited, lost;
    int status;
    uint64_t usage[USAGE_COUNT];
    struct carrier carrier;
    uint8_t packet[FRAME_HEADER_BYTES + FRAME_PAYLOAD_MAX];
    uint8_t memory[CARRIER_BYTES];
} proxy;

static void add(struct line *line, uint64_t number)
{
    line->text[line->length++] = ' ';
    line->length += format_number(line->text + line->length, (int64_t)(number & INT64_MAX));
}

/* As the keeper's: `exited` or `guest`, the wait status, and what was used. */
static void write_status(void)
{
    struct line line = {0};
    const char *reason = proxy.exited ? "exited" : "guest";
    line.length = strlen(reason);
    memcpy(line.text, reason, line.length);
    add(&line, (uint64_t)(uint32_t)proxy.status);
    for (int i = 0; i < USAGE_COUNT; i++)
        add(&line, proxy.usage[i]);
    line.text[line.length++] = '\n';
    if (proxy.status_file >= 0)
        (void)sys(write, proxy.status_file, line.text, line.length);
}

_Noreturn static void end(int status)
{
    write_status();
    carrier_end(&proxy.carrier);
    sys_exit(status);
}

/* The connection is lost when the machine is, and with it the program. What came before is still written. */
static void lose(void)
{
    proxy.lost = true;
}

static bool send_packet(struct carrier *carrier, enum frame_type type, enum stream stream, const void *payload,
                        size_t length)
{
    static uint8_t packet[sizeof proxy.packet];
    struct frame frame = {(uint32_t)length, 0, (uint16_t)type, (uint16_t)stream, NULL};
    (void)carrier;
    frame_head(packet, &frame);
    if (length)
        memcpy(packet + FRAME_HEADER_BYTES, payload, length);
    long sent;
    do
        sent = sys(sendto, proxy.connection, packet, FRAME_HEADER_BYTES + length, MSG_NOSIGNAL, NULL, 0);
    while (sent == -EINTR);
    /* Whether it is lost is told by the end of what it has sent, EXIT perhaps. */
    return true;
}

static void take_frame(const struct frame *frame)
{
    bool fine = true;
    if (frame->type == FRAME_GUEST_DATA)
        fine = carrier_data(&proxy.carrier, frame);
    else if (frame->type == FRAME_GUEST_EOF)
        fine = carrier_eof(&proxy.carrier, frame);
    else if (frame->type == FRAME_GUEST_CREDIT)
        fine = carrier_credit(&proxy.carrier, frame);
    else if (frame->type == FRAME_EXIT) {
        proxy.exited = true;
        proxy.status = (int)payload_u32(frame, 0);
        for (size_t i = 0; i < USAGE_COUNT; i++)
            proxy.usage[i] = (uint64_t)payload_i64(frame, 4 + 8 * i);
    }
    if (!fine)
        lose();
}

/* The keeper has checked the frame, but for its channel 0 it would pass as one of its own. */
static void read_connection(void)
{
    static const uint32_t channel = 1;
    struct frame frame;
    long got = sys(recvfrom, proxy.connection, proxy.packet, sizeof proxy.packet, MSG_DONTWAIT | MSG_TRUNC, NULL, NULL);
    if (is_passing(got))
        return;
    if (got >= FRAME_HEADER_BYTES)
        memcpy(proxy.packet + 4, &channel, sizeof channel);
    if (got <= 0 || got > (long)sizeof proxy.packet ||
        frame_take(&frame, proxy.packet, (size_t)got, FROM_GUEST) != got)
        lose();
    else
        take_frame(&frame);
}

static int exit_status(void)
{
    if (!proxy.exited)
        return SIGNAL_STATUS + SIGKILL;
    return proxy.status & 0x7f ? SIGNAL_STATUS + (proxy.status & 0x7f) : (proxy.status >> 8) & 0xff;
}

static void pass_on(int signal)
{
    struct {
        int32_t number;
        uint32_t flags;
    } payload = {signal, 0};
    if (proxy.exited || proxy.lost) /* somebody waits for us, who does not read */
        end(exit_status());
    (void)send_packet(&proxy.carrier, FRAME_SIGNAL, 0, &payload, sizeof payload);
}

static void take_signals(void)
{
    int signal;
    while ((signal = next_signal(proxy.signals)) != 0) {
        if (signal == SIGWINCH)
            proxy.carrier.size_changed = proxy.carrier.is_terminal;
        else if (is_passed_on(signal))
            pass_on(signal);
    }
}

/* A terminal that is only redirected from is not ours to change. */
static bool is_controlled_by_stdin(void)
{
    int session;
    return sys(ioctl, 0, GET_SESSION, &session) == 0;
}

static void turn(void)
{
    struct pollfd events[FIXED_EVENTS + CARRIER_EVENTS] = {
        [CONNECTION] = {.fd = proxy.lost ? -1 : proxy.connection, .events = POLLIN},
        [SIGNALS] = {.fd = proxy.signals, .events = POLLIN},
    };
    const bool *ended = proxy.carrier.ended;
    bool all_came = proxy.lost || (proxy.exited && ended[STREAM_OUT] && ended[STREAM_ERROR]);
    if (all_came && carrier_is_empty(&proxy.carrier))
        end(exit_status());
    carrier_want(&proxy.carrier, events + FIXED_EVENTS);
    if (proxy.lost)
        events[FIXED_EVENTS + STREAM_IN].fd = -1;
    if (sys(ppoll, events, FIXED_EVENTS + CARRIER_EVENTS, NULL, NULL, 0) < 0)
        for (int i = 0; i < FIXED_EVENTS + CARRIER_EVENTS; i++)
            events[i].revents = 0;
    if (events[CONNECTION].revents)
        read_connection();
    if (events[SIGNALS].revents)
        take_signals();
    carrier_serve(&proxy.carrier, events + FIXED_EVENTS);
}

int proxy_main(int connection, int status)
{
    proxy.status_file = status;
    proxy.connection = connection;
    carrier_init(&proxy.carrier, send_packet, proxy.memory);
    proxy.signals = catch_signals();
    bool is_terminal = is_controlled_by_stdin();
    lock_down();
    carrier_begin(&proxy.carrier, true, is_terminal);
    carrier_serve(&proxy.carrier, (struct pollfd[CARRIER_EVENTS]){0});
    for (;;)
        turn();
}
