#include "agent.h"

#include <poll.h>
#include <sys/ioctl.h>
#include <sys/resource.h>

enum { MOST_EVENTS = 2 + 4 * MOST_CHANNELS, PIECE_BYTES = FRAME_PAYLOAD_MAX - FRAME_HEADER_BYTES, CHUNKS_A_TURN = 4 };
enum { NO_HANG = 1, EVERY_KIND = 0x40000000 }; /* wait4(2): WNOHANG, __WALL */

#define TERMINAL_SET_SIZE 0x5414UL

/* A frame on its way out, header and all: the port takes 32768 bytes at once, so pieces are cut to fit with theirs. */
static uint8_t outgoing[FRAME_HEADER_BYTES + FRAME_PAYLOAD_MAX];
static struct intake intake;

_Noreturn static void end_agent(struct agent *me);

/* --- the port --- */

static void wait_for(int fd, short events)
{
    struct pollfd waited = {.fd = fd, .events = events};
    (void)sys(ppoll, &waited, 1, NULL, NULL, 0);
}

/* Waits for as long as it takes: the keeper never stops reading. */
static void write_port(struct agent *me, const uint8_t *bytes, size_t length)
{
    while (length) {
        long written = sys(write, me->port, bytes, length);
        if (written == -EAGAIN)
            wait_for(me->port, POLLOUT);
        else if (written < 0 && written != -EINTR)
            end_agent(me);
        if (written > 0) {
            bytes += written;
            length -= (size_t)written;
        }
    }
}

/* The payload is in its place in `outgoing`. */
static void send_prepared(struct agent *me, uint32_t channel, enum frame_type type, enum stream stream, size_t length)
{
    struct frame frame = {(uint32_t)length, channel, (uint16_t)type, (uint16_t)stream, NULL};
    frame_head(outgoing, &frame);
    write_port(me, outgoing, FRAME_HEADER_BYTES + length);
}

void send_frame(struct agent *me, uint32_t channel, enum frame_type type, enum stream stream, const void *payload,
                size_t length)
{
    if (length)
        memcpy(outgoing + FRAME_HEADER_BYTES, payload, length);
    send_prepared(me, channel, type, stream, length);
}

void send_done(struct agent *me, uint32_t channel, int error)
{
    uint32_t number = (uint32_t)error;
    send_frame(me, channel, FRAME_DONE, 0, &number, sizeof number);
}

static void send_credit(struct agent *me, const struct channel *channel, uint32_t bytes)
{
    send_frame(me, channel->number, FRAME_GUEST_CREDIT, STREAM_IN, &bytes, sizeof bytes);
}

static void say_hello(struct agent *me)
{
    uint32_t version = FRAME_VERSION;
    char *payload = (char *)outgoing + FRAME_HEADER_BYTES;
    memcpy(payload, &version, sizeof version);
    size_t length = describe_guest(payload + sizeof version, FRAME_PAYLOAD_MAX - sizeof version);
    send_prepared(me, 0, FRAME_HELLO, 0, sizeof version + length);
}

/* --- channels --- */

static struct channel **find_channel(struct agent *me, uint32_t number)
{
    for (int i = 0; i < MOST_CHANNELS; i++)
        if (me->channels[i] && me->channels[i]->number == number)
            return &me->channels[i];
    return NULL;
}

/* One that a plan or the reports of START shall come on; NULL if there are too many. */
static struct channel *take_channel(struct agent *me, uint32_t number)
{
    struct channel **found = find_channel(me, number);
    if (found)
        return *found;
    for (int i = 0; i < MOST_CHANNELS; i++)
        if (!me->channels[i])
            return me->channels[i] = channel_make(number);
    return NULL;
}

static void close_stream(struct channel *channel, enum stream stream)
{
    close_at_scope_end(&channel->streams[stream]);
    channel->streams[stream] = -1;
}

static void end_stream(struct agent *me, struct channel *channel, enum stream stream)
{
    close_stream(channel, stream);
    if (channel->ended[stream])
        return;
    channel->ended[stream] = true;
    if (!channel->closing)
        send_frame(me, channel->number, FRAME_GUEST_EOF, stream, NULL, 0);
}

/* --- the output of a program --- */

static bool has_input(int fd)
{
    struct pollfd asked = {.fd = fd, .events = POLLIN};
    struct timespec now = {0};
    return sys(ppoll, &asked, 1, &now, NULL, 0) > 0 && asked.revents & POLLIN;
}

/* One piece, if it may be sent. False if there is none, for now or for ever. */
static bool pump_piece(struct agent *me, struct channel *channel, enum stream stream)
{
    uint32_t most = channel->credit[stream] < PIECE_BYTES ? channel->credit[stream] : PIECE_BYTES;
    long got = sys(read, channel->streams[stream], outgoing + FRAME_HEADER_BYTES, most);
    if (got > 0) {
        channel->credit[stream] -= (uint32_t)got;
        send_prepared(me, channel->number, FRAME_GUEST_DATA, stream, (size_t)got);
        return true;
    }
    /* A terminal that nobody has open any more gives EIO. */
    if (got != -EAGAIN && got != -EINTR)
        end_stream(me, channel, stream);
    return false;
}

/* What a program that has ended left behind is all that will come: others that hold the pipe are not waited for. */
static void pump_rest(struct agent *me, struct channel *channel, enum stream stream)
{
    while (channel->streams[stream] >= 0 && channel->credit[stream] && pump_piece(me, channel, stream))
        continue;
    if (channel->streams[stream] < 0 || !has_input(channel->streams[stream]))
        end_stream(me, channel, stream);
}

static void pump(struct agent *me, struct channel *channel, enum stream stream)
{
    for (int i = 0; i < CHUNKS_A_TURN && channel->streams[stream] >= 0 && channel->credit[stream]; i++)
        if (!pump_piece(me, channel, stream))
            return;
}

/* --- the input of a program --- */

static void feed(struct agent *me, struct channel *channel)
{
    size_t length;
    const uint8_t *bytes = ring_piece(&channel->input, &length);
    long written = length ? sys(write, channel->streams[STREAM_IN], bytes, length) : 0;
    if (written > 0) {
        ring_drop(&channel->input, (size_t)written);
        send_credit(me, channel, (uint32_t)written);
    } else if (length && written != -EAGAIN && written != -EINTR) {
        close_stream(channel, STREAM_IN); /* it does not read any more: no more credit either */
        channel->input.used = 0;
    }
    if (channel->ended[STREAM_IN] && channel->input.used == 0)
        close_stream(channel, STREAM_IN);
}

static void take_data(struct agent *me, struct channel *channel, const struct frame *frame)
{
    if (channel->streams[STREAM_IN] < 0 || channel->ended[STREAM_IN])
        return;
    if (!ring_put(&channel->input, frame->payload, frame->length))
        die("more input came than credit was given for", 0);
    feed(me, channel);
}

/* Nobody reads what the program writes: it is told so as by any pipe or terminal whose other end is closed. */
static void end_output(struct agent *me, struct channel *channel, enum stream stream)
{
    if (channel->terminal >= 0) {
        (void)sys(close, channel->terminal);
        channel->terminal = -1;
        close_stream(channel, STREAM_IN);
    }
    end_stream(me, channel, stream);
}

static void take_eof(struct agent *me, struct channel *channel, enum stream stream)
{
    if (stream != STREAM_IN) {
        if (channel->streams[stream] >= 0)
            end_output(me, channel, stream);
        return;
    }
    channel->ended[STREAM_IN] = true;
    if (channel->streams[STREAM_IN] >= 0)
        feed(me, channel);
}

/* --- reports --- */

static void set_size(struct channel *channel, uint16_t rows, uint16_t columns)
{
    struct {
        uint16_t rows, columns, x_pixels, y_pixels;
    } size = {rows, columns, 0, 0};
    channel->rows = rows;
    channel->columns = columns;
    if (channel->terminal >= 0 && (rows || columns))
        (void)sys(ioctl, channel->terminal, TERMINAL_SET_SIZE, &size);
}

/* The first credit waits for whoever carries the streams, who may have taken over from another: it gives credit too. */
static void open_window(struct agent *me, struct channel *channel)
{
    if (!channel->is_carried || channel->has_window || channel->streams[STREAM_IN] < 0)
        return;
    channel->has_window = true;
    send_credit(me, channel, FRAME_WINDOW_BYTES);
}

static void take_credit(struct agent *me, struct channel *channel, const struct frame *frame)
{
    channel->credit[frame->stream] += payload_u32(frame, 0);
    channel->is_carried = true;
    open_window(me, channel);
}

static void take_terminal(struct agent *me, struct channel *channel, int master)
{
    if (channel->terminal >= 0 || !(channel->flags & RUN_TERMINAL)) {
        (void)sys(close, master);
        return;
    }
    (void)sys(fcntl, master, F_SETFL, O_RDWR | O_NONBLOCK);
    channel->terminal = master;
    channel->streams[STREAM_IN] = (int)sys(fcntl, master, F_DUPFD_CLOEXEC, 0);
    channel->streams[STREAM_OUT] = (int)sys(fcntl, master, F_DUPFD_CLOEXEC, 0);
    set_size(channel, channel->rows, channel->columns);
    open_window(me, channel);
}

/* One record with the descriptor that may come with it (-1: none). Its length; 0 or negative: none. */
static long receive_report(int socket, void *record, int *fd)
{
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control;
    struct iovec part = {.iov_base = record, .iov_len = FRAME_REPORT_MAX};
    struct msghdr message = {.msg_iov = &part, .msg_control = &control};
    message.msg_iovlen = 1;
    message.msg_controllen = sizeof control;
    *fd = -1;
    long got = sys(recvmsg, socket, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (got >= 0 && message.msg_controllen >= CMSG_LEN(sizeof(int)) && control.header.cmsg_type == SCM_RIGHTS)
        memcpy(fd, CMSG_DATA(&control.header), sizeof *fd);
    return got;
}

static void forward_report(struct agent *me, struct channel *channel, long length, int fd)
{
    uint32_t kind;
    memcpy(&kind, outgoing + FRAME_HEADER_BYTES, sizeof kind);
    if (!channel->closing && length >= FRAME_REPORT_MIN)
        send_prepared(me, channel->number, FRAME_REPORT, 0, (size_t)length);
    if (fd < 0)
        return;
    if (kind == TERMINAL)
        take_terminal(me, channel, fd);
    else
        (void)sys(close, fd);
}

static void take_reports(struct agent *me, struct channel *channel)
{
    while (channel->report >= 0) {
        int fd;
        long got = receive_report(channel->report, outgoing + FRAME_HEADER_BYTES, &fd);
        if (got == -ECONNRESET)
            continue; /* an answer was not read; what was sent comes after that */
        if (got == -EAGAIN || got == -EINTR)
            return;
        if (got > 0) {
            forward_report(me, channel, got, fd);
            continue;
        }
        (void)sys(close, channel->report);
        channel->report = -1;
        channel->reported = true;
        if (!channel->closing)
            send_frame(me, channel->number, FRAME_REPORTED, 0, NULL, 0);
    }
}

/* --- the end of processes --- */

static uint64_t microseconds(const struct timeval *time)
{
    return (uint64_t)time->tv_sec * 1000000 + (uint64_t)time->tv_usec;
}

static void note_end(struct agent *me, pid_t pid, int status, const struct rusage *usage)
{
    struct ending ending = {true, status, microseconds(&usage->ru_utime), microseconds(&usage->ru_stime),
                            (uint64_t)usage->ru_maxrss * 1024};
    for (int i = 0; i < MOST_CHANNELS; i++) {
        struct channel *channel = me->channels[i];
        if (!channel || !channel->outer)
            continue;
        if (pid == channel->outer && !channel->outer_end.known)
            channel->outer_end = ending;
        else if (pid == channel->shared->init && !channel->init_end.known)
            channel->init_end = ending;
    }
}

static void reap(struct agent *me)
{
    char discarded[1024];
    struct rusage usage;
    int status;
    pid_t pid;
    while (sys(read, me->signals, discarded, sizeof discarded) > 0)
        continue;
    while ((pid = (pid_t)sys(wait4, -1, &status, NO_HANG | EVERY_KIND, &usage)) > 0)
        note_end(me, pid, status, &usage);
}

/* Not before the reports have ended: who follows these may be another than who waits for the end. */
static const struct ending *ending_of(const struct channel *channel)
{
    if (!channel->outer || !channel->reported)
        return NULL;
    const struct ending *ending = channel->shared->init ? &channel->init_end : &channel->outer_end;
    return ending->known ? ending : NULL;
}

static void send_exit(struct agent *me, const struct channel *channel, const struct ending *ending)
{
    uint8_t payload[FRAME_EXIT_BYTES];
    memcpy(payload, &ending->status, 4);
    memcpy(payload + 4, &ending->user_us, 8);
    memcpy(payload + 12, &ending->system_us, 8);
    memcpy(payload + 20, &ending->resident_bytes, 8);
    uint64_t oom_kills = count_oom_kills(), peak_bytes = memory_peak_bytes();
    memcpy(payload + 28, &oom_kills, 8);
    memcpy(payload + 36, &peak_bytes, 8);
    send_frame(me, channel->number, FRAME_EXIT, 0, payload, sizeof payload);
}

/* Frees the channel once nothing of it is left that could still make a process. */
static void settle_closing(struct agent *me, struct channel **place)
{
    struct channel *channel = *place;
    if (channel->report >= 0 || (channel->outer && !channel->outer_end.known))
        return;
    pid_t left = channel->outer ? channel_process(channel) : 0;
    if (left)
        (void)sys(kill, left, SIGKILL);
    if (me->init == channel)
        return; /* JOIN and signals ask for it until the end */
    channel_free(channel);
    *place = NULL;
}

static void settle(struct agent *me, struct channel **place)
{
    struct channel *channel = *place;
    const struct ending *ending = channel->exited || channel->closing ? NULL : ending_of(channel);
    if (ending) {
        channel->exited = true;
        send_exit(me, channel, ending);
        if (channel == me->init)
            (void)signal_group(SIGKILL);
    }
    if (channel->exited && !channel->closing)
        for (enum stream stream = STREAM_OUT; stream < STREAMS; stream++)
            if (!channel->ended[stream])
                pump_rest(me, channel, stream);
    if (channel->closing)
        settle_closing(me, place);
}

static void kill_channel(const struct channel *channel)
{
    pid_t process = channel->outer ? channel_process(channel) : 0;
    if (channel->outer && !channel->outer_end.known)
        (void)sys(kill, channel->outer, SIGKILL);
    if (!process)
        return;
    (void)sys(kill, -process, SIGKILL); /* the session that it may lead */
    (void)sys(kill, process, SIGKILL);
}

/* A process that its outer is just about to clone is killed in `settle_closing`: the report socket is held till then. */
static void close_channel(struct channel *channel)
{
    channel->closing = true;
    kill_channel(channel);
    for (enum stream stream = STREAM_IN; stream < STREAMS; stream++)
        close_stream(channel, stream);
    if (!channel->outer) { /* START's */
        close_at_scope_end(&channel->report);
        channel->report = -1;
    }
}

static void end_agent(struct agent *me)
{
    if (me->is_system || sys(getpid, 0) == 1)
        (void)sys(kill, -1, SIGKILL);
    for (int i = 0; i < MOST_CHANNELS; i++)
        if (me->channels[i])
            kill_channel(me->channels[i]);
    if (me->is_system)
        power_off();
    sys_exit(0);
}

/* --- frames --- */

static int send_signal(struct agent *me, const struct frame *frame)
{
    int number = (int)payload_u32(frame, 0);
    uint32_t flags = payload_u32(frame, 4);
    if (flags & SIGNAL_EVERY)
        return signal_group(number);
    struct channel **found = find_channel(me, frame->channel);
    struct channel *channel = flags & SIGNAL_INIT ? me->init : found ? *found : NULL;
    pid_t pid = channel && channel->outer ? channel_process(channel) : 0;
    if (!pid)
        return -ESRCH;
    /* The group of the session that it leads; before it does, there is none of that number. */
    long rc = flags & SIGNAL_SESSION ? sys(kill, -pid, number) : -ESRCH;
    return rc == -ESRCH ? (int)sys(kill, pid, number) : (int)rc;
}

static void run(struct agent *me, const struct frame *frame)
{
    struct channel **found = find_channel(me, frame->channel);
    int rc = found ? channel_run(me, *found, frame) : -EAGAIN;
    if (rc < 0)
        send_done(me, frame->channel, -rc);
    else
        open_window(me, *found);
}

/* A plan without its piece is refused by RUN. */
static void add_plan(struct agent *me, const struct frame *frame)
{
    struct channel *channel = take_channel(me, frame->channel);
    if (channel)
        channel_add_plan(channel, frame);
}

static void start(struct agent *me, const struct frame *frame)
{
    struct channel *channel = take_channel(me, frame->channel);
    int rc = channel ? channel_start(me, channel) : -EAGAIN;
    if (rc < 0)
        send_done(me, frame->channel, -rc);
}

/* What is about a channel that is not there any more is late, and nothing. */
static void handle_in_channel(struct agent *me, const struct frame *frame)
{
    struct channel **found = find_channel(me, frame->channel);
    struct channel *channel = found ? *found : NULL;
    if (!channel || channel->closing)
        return;
    if (frame->type == FRAME_DATA)
        take_data(me, channel, frame);
    else if (frame->type == FRAME_EOF)
        take_eof(me, channel, (enum stream)frame->stream);
    else if (frame->type == FRAME_CREDIT)
        take_credit(me, channel, frame);
    else if (frame->type == FRAME_WINSIZE)
        set_size(channel, payload_u16(frame, 0), payload_u16(frame, 2));
    else if (frame->type == FRAME_ANSWER && channel->report >= 0)
        (void)sys(sendto, channel->report, frame->payload, frame->length, MSG_NOSIGNAL | MSG_DONTWAIT, NULL, 0);
    else if (frame->type == FRAME_CLOSE) {
        close_channel(channel);
        settle_closing(me, found);
    }
}

static void handle(struct agent *me, const struct frame *frame)
{
    if (frame->type == FRAME_PLAN)
        add_plan(me, frame);
    else if (frame->type == FRAME_RUN)
        run(me, frame);
    else if (frame->type == FRAME_START)
        start(me, frame);
    else if (frame->type == FRAME_SIGNAL)
        send_done(me, frame->channel, -send_signal(me, frame));
    else if (frame->type == FRAME_READ)
        answer_read(me, frame);
    else if (frame->type == FRAME_SEED)
        send_done(me, frame->channel, -seed(frame));
    else if (frame->type == FRAME_STOP)
        end_agent(me);
    else if (frame->type == FRAME_GREET)
        say_hello(me);
    else
        handle_in_channel(me, frame);
}

/* A machine that was restored is without its host for a moment. */
static bool may_come_back(struct agent *me)
{
    enum { LONGEST_MS = 10000, STEP_MS = 10 };
    if (!me->is_system || me->waited_ms >= LONGEST_MS)
        return false;
    me->waited_ms += STEP_MS;
    sys_sleep_ns(STEP_MS * 1000000L);
    return true;
}

static void read_port(struct agent *me)
{
    size_t room;
    uint8_t *at = intake_room(&intake, &room);
    long got = sys(read, me->port, at, room);
    if (got == -EAGAIN || got == -EINTR || (got == 0 && may_come_back(me)))
        return;
    if (got <= 0)
        end_agent(me);
    me->waited_ms = 0;
    intake.end += (size_t)got;
    struct frame frame;
    long size;
    while ((size = intake_next(&intake, &frame, TO_GUEST)) > 0)
        handle(me, &frame);
    if (size < 0)
        die("what came over the port is no frame", 0);
}

/* --- the loop --- */

struct interest {
    struct pollfd events[MOST_EVENTS];
    nfds_t count;
};

/* Where in `events` it stands; one that is not waited for has no descriptor, so that its end is not told forever. */
static void want(struct interest *interest, int fd, short events)
{
    interest->events[interest->count++] = (struct pollfd){.fd = events ? fd : -1, .events = events};
}

static void want_channel(struct interest *interest, const struct channel *channel)
{
    want(interest, channel->report, POLLIN);
    want(interest, channel->streams[STREAM_IN], channel->input.used ? POLLOUT : 0);
    want(interest, channel->streams[STREAM_OUT], channel->credit[STREAM_OUT] ? POLLIN : 0);
    want(interest, channel->streams[STREAM_ERROR], channel->credit[STREAM_ERROR] ? POLLIN : 0);
}

static void serve_channel(struct agent *me, struct channel *channel, const struct pollfd events[4])
{
    if (events[0].revents)
        take_reports(me, channel);
    if (events[1].revents && channel->streams[STREAM_IN] >= 0)
        feed(me, channel);
    if (events[2].revents)
        pump(me, channel, STREAM_OUT);
    if (events[3].revents)
        pump(me, channel, STREAM_ERROR);
}

static void turn(struct agent *me)
{
    static struct interest interest;
    static struct channel *asked[MOST_CHANNELS];
    int count = 0;
    interest.count = 0;
    want(&interest, me->port, POLLIN);
    want(&interest, me->signals, POLLIN);
    for (int i = 0; i < MOST_CHANNELS; i++)
        if (me->channels[i]) {
            asked[count++] = me->channels[i];
            want_channel(&interest, me->channels[i]);
        }
    if (sys(ppoll, interest.events, interest.count, NULL, NULL, 0) < 0)
        return;
    for (int i = 0; i < count; i++)
        serve_channel(me, asked[i], &interest.events[2 + 4 * i]);
    if (interest.events[1].revents)
        reap(me);
    if (interest.events[0].revents)
        read_port(me);
    for (int i = 0; i < MOST_CHANNELS; i++)
        if (me->channels[i])
            settle(me, &me->channels[i]);
}

static int open_signals(void)
{
    uint64_t mask = 1ULL << (SIGCHLD - 1);
    (void)sys(rt_sigprocmask, SIG_SETMASK, &mask, NULL, sizeof mask);
    return (int)sys(signalfd4, -1, &mask, sizeof mask, SOCK_CLOEXEC | SOCK_NONBLOCK);
}

int agent_main(int port, bool is_system)
{
    static struct agent agent;
    agent.is_system = is_system;
    agent.port = is_system ? make_system() : port;
    agent.signals = open_signals();
    if (agent.signals < 0)
        die("no signal descriptor", -agent.signals);
    for (;;)
        turn(&agent);
}
