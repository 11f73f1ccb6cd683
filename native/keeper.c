#include "keeper.h"

enum {
    FIXED_EVENTS = 4 + CARRIER_EVENTS,
    SIGNAL_STATUS = 128,
    LOST_STATUS = 255,
    KILLED_GRACE_MS = 100,
    CLIENT_MEMORY = MOST_CLIENTS * (CONTROL_BYTES + 2 * FRAME_WINDOW_BYTES),
};

static struct keeper keeper;

/* --- the end --- */

struct line {
    size_t length;
    char text[DETAIL_BYTES + 256];
};

static void add(struct line *line, const char *text)
{
    size_t length = strnlen(text, sizeof line->text - 1 - line->length);
    memcpy(line->text + line->length, text, length);
    line->length += length;
}

static void add_number(struct line *line, uint64_t number)
{
    char digits[NUMBER_BYTES];
    (void)format_number(digits, (int64_t)(number & INT64_MAX));
    add(line, " ");
    add(line, digits);
}

/* The guest may have said what it likes: one line stays one line. */
static void write_status(const struct keeper *me, enum reason reason, const char *detail)
{
    static const char *const reasons[] = {"", "exited", "stopped", "guest", "protocol", "child"};
    static struct line line;
    add(&line, reasons[reason]);
    add_number(&line, (uint64_t)(uint32_t)me->init_status);
    for (int i = 0; i < USAGE_COUNT; i++)
        add_number(&line, me->usage[i]);
    add(&line, " ");
    add(&line, detail);
    for (size_t i = 0; i < line.length; i++)
        if (line.text[i] == '\n')
            line.text[i] = ' ';
    line.text[line.length++] = '\n';
    (void)sys(write, me->status, line.text, line.length);
}

static int exit_status(const struct keeper *me, enum reason reason)
{
    int status = me->init_status;
    if (reason == STOPPED)
        return SIGNAL_STATUS + SIGKILL;
    if (reason != EXITED)
        return LOST_STATUS;
    return status & 0x7f ? SIGNAL_STATUS + (status & 0x7f) : (status >> 8) & 0xff;
}

void end_machine(struct keeper *me, enum reason reason, const char *detail)
{
    for (int i = 0; i < MOST_CLIENTS; i++)
        if (me->clients[i].used && me->clients[i].fd >= 0)
            flush_client(me, &me->clients[i]);
    carrier_end(&me->carrier);
    write_status(me, reason, detail);
    sys_exit(exit_status(me, reason));
}

void end_after(struct keeper *me, int64_t milliseconds, enum reason reason, const char *detail)
{
    int64_t at = now_ms() + milliseconds;
    if (me->deadline_ms && me->deadline_ms <= at)
        return;
    me->deadline_ms = at;
    me->deadline_reason = me->is_stopping ? STOPPED : reason;
    me->deadline_detail = detail;
}

/* What was sent before may still be there to be read, and which child it was is told by its end: so wait for both. */
void lose_guest(struct keeper *me)
{
    enum { GRACE_MS = 500 };
    bool all_known = me->port_ended && me->lost_child;
    end_after(me, all_known ? 0 : GRACE_MS, GUEST_LOST, me->lost_child ? me->lost_child : "port");
}

/* The machine may be gone by now: what the init left is written all the same, unless it was killed. */
static void check_end(struct keeper *me)
{
    const bool *ended = me->carrier.ended;
    bool all_came = (ended[STREAM_OUT] && ended[STREAM_ERROR]) || me->port_ended;
    if (me->init_exited && all_came && carrier_is_empty(&me->carrier))
        end_machine(me, EXITED, "");
    if (me->init_exited && me->was_killed)
        end_after(me, KILLED_GRACE_MS, EXITED, "");
    if (!me->deadline_ms || now_ms() < me->deadline_ms)
        return;
    if (me->init_exited && me->deadline_reason == GUEST_LOST) {
        me->port_ended = true;
        me->deadline_ms = 0;
        return;
    }
    end_machine(me, me->init_exited ? EXITED : me->deadline_reason, me->deadline_detail);
}

/* --- the container's init --- */

static bool send_of_carrier(struct carrier *carrier, enum frame_type type, enum stream stream, const void *payload,
                            size_t length)
{
    (void)carrier;
    return keeper.init && keeper.init->channel &&
           send_to_guest(&keeper, keeper.init->channel, type, stream, payload, length);
}

static void pass_on(struct keeper *me, int signal)
{
    struct {
        int32_t number;
        uint32_t flags;
    } payload = {signal, SIGNAL_INIT};
    bool is_final = signal == SIGTERM || signal == SIGINT || signal == SIGHUP || signal == SIGQUIT;
    if (!me->init && is_final)
        end_machine(me, STOPPED, "signal"); /* there is nothing yet that could be told */
    if (!me->init)
        return;
    me->init->due++;
    (void)send_to_guest(me, me->init->channel, FRAME_SIGNAL, 0, &payload, sizeof payload);
}

static void take_signals(struct keeper *me)
{
    int signal;
    while (has_room_for_frame(me) && (signal = next_signal(me->signals)) != 0) {
        if (signal == SIGCHLD)
            reap_children(me);
        else if (signal == SIGWINCH)
            me->carrier.size_changed = me->carrier.is_terminal;
        else if (is_passed_on(signal))
            pass_on(me, signal);
    }
}

/* --- the loop --- */

static struct pollfd *want(struct keeper *me)
{
    struct pollfd *events = me->events;
    bool room = has_room_for_frame(me);
    events[0] = (struct pollfd){.fd = me->port_ended ? -1 : me->port,
                                .events = (short)(POLLIN | (me->to_guest.used ? POLLOUT : 0))};
    events[1] = (struct pollfd){.fd = room ? me->signals : -1, .events = POLLIN};
    events[2] = (struct pollfd){.fd = has_free_client(me) ? me->control : -1, .events = POLLIN};
    events[3] = (struct pollfd){.fd = me->lifeline, .events = 0};
    carrier_want(&me->carrier, events + 4);
    if (!room)
        events[4].fd = -1;
    for (int i = 0; i < MOST_CLIENTS; i++) {
        const struct client *client = &me->clients[i];
        short interest = client->used && client->fd >= 0 ? client_interest(me, client) : 0;
        events[FIXED_EVENTS + i] = (struct pollfd){.fd = interest ? client->fd : -1, .events = interest};
    }
    return events;
}

static void wait_for_events(struct keeper *me, struct pollfd *events)
{
    struct timespec timeout = {0};
    if (me->deadline_ms) {
        int64_t left = me->deadline_ms - now_ms();
        left = left > 0 ? left : 0;
        timeout = (struct timespec){.tv_sec = left / 1000, .tv_nsec = left % 1000 * 1000000};
    }
    long rc = sys(ppoll, events, FIXED_EVENTS + MOST_CLIENTS, me->deadline_ms ? &timeout : NULL, NULL, 0);
    if (rc < 0)
        for (int i = 0; i < FIXED_EVENTS + MOST_CLIENTS; i++)
            events[i].revents = 0;
}

static void turn(struct keeper *me)
{
    struct pollfd *events = want(me);
    wait_for_events(me, events);
    if (events[0].revents & POLLOUT)
        write_port(me);
    if (events[0].revents & (POLLIN | POLLHUP | POLLERR))
        read_port(me);
    if (events[1].revents)
        take_signals(me);
    for (int i = 0; i < MOST_CLIENTS; i++)
        if (me->clients[i].used && me->clients[i].fd >= 0 && events[FIXED_EVENTS + i].fd == me->clients[i].fd)
            serve_client(me, &me->clients[i], events[FIXED_EVENTS + i].revents);
    if (events[2].revents)
        accept_client(me);
    if (me->init)
        carrier_serve(&me->carrier, events + 4);
    if (events[3].revents)
        end_machine(me, STOPPED, "maker");
    check_end(me);
}

/* Not touched, not there: what clients do not use costs nothing. */
static uint8_t *map_memory(size_t size)
{
    long at = sys(mmap, NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at < 0 && at > -4096)
        sys_exit(1);
    return (uint8_t *)at;
}

int keeper_main(int machine, int control, int port, int status, int lifeline)
{
    static struct pollfd events[FIXED_EVENTS + MOST_CLIENTS];
    struct keeper *me = &keeper;
    me->control = control;
    me->port = port;
    me->status = status;
    me->lifeline = lifeline;
    me->events = events;
    uint8_t *memory = map_memory(CLIENT_MEMORY + PORT_BYTES + CARRIER_BYTES + FRAME_HEADER_BYTES + FRAME_PAYLOAD_MAX);
    me->client_memory = memory;
    me->to_guest = (struct ring){.bytes = memory + CLIENT_MEMORY, .size = PORT_BYTES};
    carrier_init(&me->carrier, send_of_carrier, memory + CLIENT_MEMORY + PORT_BYTES);
    me->packet = memory + CLIENT_MEMORY + PORT_BYTES + CARRIER_BYTES;
    (void)sys(fcntl, port, F_SETFL, O_RDWR | O_NONBLOCK);
    (void)sys(fcntl, control, F_SETFL, O_RDWR | O_NONBLOCK);
    me->signals = catch_signals();
    start_children(me, machine);
    lock_down();
    /* Waits in the port until the guest has opened it, whether it was just started or is restored. */
    (void)send_to_guest(me, 0, FRAME_GREET, 0, NULL, 0);
    for (;;)
        turn(me);
}
