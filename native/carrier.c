#include "carrier.h"

#define TERMINAL_GET 0x5401UL
#define TERMINAL_SET 0x5402UL
#define TERMINAL_GET_SIZE 0x5413UL
#define TIMER_SIGNAL 33 /* nobody else's: it lies between the standard and the real-time signals */

enum { AT_ONCE_BYTES = 4096 /* PIPE_BUF: what a pipe that is writable takes */, TIMER_NS = 50000000 };

/* The kernel's struct termios. */
struct terminal {
    uint32_t input, output, control, local;
    uint8_t line, characters[19];
};

_Static_assert(sizeof(struct terminal) <= sizeof((struct carrier *)0)->terminal_before, "it is kept there");

#if defined(__x86_64__)
__asm__(".text\n.type signal_return, @function\nsignal_return:\n\tmov $15, %eax\n\tsyscall\n");
#else
__asm__(".text\n.type signal_return, %function\nsignal_return:\n\tmov x8, #139\n\tsvc #0\n");
#endif
void signal_return(void);

static void interrupt(int signal)
{
    (void)signal;
}

static void make_timer(struct carrier *me)
{
    enum { RESTORER = 0x04000000 };
    struct {
        void (*handler)(int);
        unsigned long flags;
        void (*restorer)(void);
        uint64_t mask;
    } action = {.handler = interrupt, .flags = RESTORER, .restorer = signal_return};
    struct sigevent event = {.sigev_signo = TIMER_SIGNAL, .sigev_notify = SIGEV_SIGNAL};
    (void)sys(rt_sigaction, TIMER_SIGNAL, &action, NULL, sizeof action.mask);
    (void)sys(timer_create, CLOCK_MONOTONIC, &event, &me->timer);
}

static bool is_socket(int fd)
{
    struct stat found;
    return sys_fstat(fd, &found) == 0 && S_ISSOCK(found.st_mode);
}

void carrier_init(struct carrier *me, carrier_send send, uint8_t *memory)
{
    me->send = send;
    me->piece = memory;
    memory += FRAME_PAYLOAD_MAX;
    for (enum stream stream = STREAM_OUT; stream < STREAMS; stream++, memory += FRAME_WINDOW_BYTES) {
        me->output[stream] = (struct ring){.bytes = memory, .size = FRAME_WINDOW_BYTES};
        me->socket[stream] = is_socket((int)stream);
    }
    make_timer(me);
}

/* --- the terminal --- */

static void make_raw(struct carrier *me)
{
    enum { CONTROL_SIZE = 0x30, EIGHT_BITS = 0x30, PARITY = 0x100, LEAST = 6, TIME = 5 };
    struct terminal now;
    if (sys(ioctl, 0, TERMINAL_GET, &now) < 0)
        return;
    memcpy(me->terminal_before, &now, sizeof now);
    now.input = 0;
    now.output &= ~1U; /* OPOST */
    now.local = 0;
    now.control = (now.control & ~(uint32_t)(CONTROL_SIZE | PARITY)) | EIGHT_BITS;
    now.characters[LEAST] = 1;
    now.characters[TIME] = 0;
    me->is_raw = sys(ioctl, 0, TERMINAL_SET, &now) == 0;
}

void carrier_end(struct carrier *me)
{
    if (me->is_raw)
        (void)sys(ioctl, 0, TERMINAL_SET, me->terminal_before);
    me->is_raw = false;
}

static void send_size(struct carrier *me)
{
    struct {
        uint16_t rows, columns, x_pixels, y_pixels;
    } size;
    bool known = sys(ioctl, 0, TERMINAL_GET_SIZE, &size) == 0 && (size.rows || size.columns);
    if (!known || me->send(me, FRAME_WINSIZE, 0, &size, 4))
        me->size_changed = false;
}

void carrier_begin(struct carrier *me, bool wants_input, bool is_terminal)
{
    me->wants_input = wants_input;
    me->is_terminal = is_terminal;
    me->size_changed = is_terminal;
    me->owed[STREAM_OUT] = me->owed[STREAM_ERROR] = FRAME_WINDOW_BYTES;
    if (is_terminal)
        make_raw(me);
}

/* --- what comes from the guest --- */

bool carrier_data(struct carrier *me, const struct frame *frame)
{
    enum stream stream = frame->stream;
    if (me->ended[stream] || frame->length > me->promised[stream])
        return false;
    me->promised[stream] -= frame->length;
    /* What is promised and what waits are together never more than the ring holds. */
    return ring_put(&me->output[stream], frame->payload, frame->length);
}

bool carrier_eof(struct carrier *me, const struct frame *frame)
{
    bool first = !me->ended[frame->stream];
    me->ended[frame->stream] = true;
    return first;
}

bool carrier_credit(struct carrier *me, const struct frame *frame)
{
    uint32_t more = payload_u32(frame, 0);
    if (!me->wants_input || more > FRAME_WINDOW_BYTES - me->credit)
        return false;
    me->credit += more;
    return true;
}

bool carrier_is_empty(const struct carrier *me)
{
    return me->output[STREAM_OUT].used == 0 && me->output[STREAM_ERROR].used == 0;
}

/* --- our own descriptors --- */

static void run_timer(struct carrier *me, bool runs)
{
    struct itimerspec times = {0};
    if (runs == me->timer_runs)
        return;
    times.it_value.tv_nsec = times.it_interval.tv_nsec = runs ? TIMER_NS : 0;
    (void)sys(timer_settime, me->timer, 0, &times, NULL);
    me->timer_runs = runs;
}

/* What nobody reads any more is thrown away, and the program that writes it is told. */
static void write_piece(struct carrier *me, enum stream stream)
{
    size_t length;
    const uint8_t *bytes = ring_piece(&me->output[stream], &length);
    long written;
    if (me->socket[stream])
        written = sys(sendto, stream, bytes, length, MSG_DONTWAIT | MSG_NOSIGNAL, NULL, 0);
    else
        written = sys(write, stream, bytes, length < AT_ONCE_BYTES ? length : AT_ONCE_BYTES);
    if (written == -EAGAIN || written == -EINTR)
        return;
    me->broken[stream] = written <= 0;
    if (written <= 0)
        written = me->output[stream].used;
    ring_drop(&me->output[stream], (size_t)written);
    me->owed[stream] += (uint32_t)written;
}

static void tell_broken(struct carrier *me, enum stream stream)
{
    if (me->broken[stream] && !me->told[stream])
        me->told[stream] = me->send(me, FRAME_EOF, stream, NULL, 0);
}

static void give_credit(struct carrier *me, enum stream stream)
{
    uint32_t bytes = me->owed[stream];
    if (bytes == 0 || me->ended[stream])
        return;
    /* A quarter at least, or there would be as many frames as writes. */
    if (bytes < FRAME_WINDOW_BYTES / 4 && me->output[stream].used)
        return;
    if (me->send(me, FRAME_CREDIT, stream, &bytes, sizeof bytes)) {
        me->promised[stream] += bytes;
        me->owed[stream] = 0;
    }
}

static void read_input(struct carrier *me)
{
    size_t most = me->credit < FRAME_PAYLOAD_MAX ? me->credit : FRAME_PAYLOAD_MAX;
    /* Whoever asked for the event knew that there is room for a frame. */
    long got = sys(read, STREAM_IN, me->piece, most);
    if (got == -EAGAIN || got == -EINTR)
        return;
    if (got > 0) {
        (void)me->send(me, FRAME_DATA, STREAM_IN, me->piece, (size_t)got);
        me->credit -= (uint32_t)got;
    } else {
        me->ended[STREAM_IN] = me->send(me, FRAME_EOF, STREAM_IN, NULL, 0);
    }
}

void carrier_want(struct carrier *me, struct pollfd *events)
{
    bool input = me->wants_input && !me->ended[STREAM_IN] && me->credit;
    events[STREAM_IN] = (struct pollfd){.fd = input ? STREAM_IN : -1, .events = POLLIN};
    for (enum stream stream = STREAM_OUT; stream < STREAMS; stream++)
        events[stream] = (struct pollfd){.fd = me->output[stream].used ? (int)stream : -1, .events = POLLOUT};
    run_timer(me, !carrier_is_empty(me));
}

void carrier_serve(struct carrier *me, const struct pollfd *events)
{
    if (events[STREAM_IN].revents)
        read_input(me);
    for (enum stream stream = STREAM_OUT; stream < STREAMS; stream++) {
        if (events[stream].revents)
            write_piece(me, stream);
        give_credit(me, stream);
        tell_broken(me, stream);
    }
    if (me->size_changed)
        send_size(me);
}
