/* The keeper: holds a machine, and is what the host sees of the container in it. */
#pragma once

#include "carrier.h"
#include "perform.h"

enum {
    MOST_CLIENTS = 64,
    MOST_CHILDREN = 8,
    MOST_DESCRIPTORS = 64,
    DETAIL_BYTES = 1600,
    CONTROL_BYTES = FRAME_CONTENT_MAX + 131072, /* of frames that wait for one client */
    PORT_BYTES = 524288,                        /* of frames that wait for the guest */
    PORT_RESERVE_BYTES = 65536,                 /* of these, for what must not be held up by a client's frames */
    USAGE_COUNT = 5,                            /* numbers that EXIT has after the status */
};

enum reason { EXITED = 1, STOPPED, GUEST_LOST, PROTOCOL_BROKEN, CHILD_FAILED };

/* One process of the machine. */
struct child {
    struct text name;
    bool is_vital; /* the machine ends with it */
    pid_t outer;
    struct shared *shared;
    bool ended;
};

/* A connection and its channel. The init's channel stays without a connection. */
struct client {
    bool used;
    int fd;           /* -1: none */
    uint32_t channel; /* 0: the guest has not heard of it */
    uint32_t run_flags;
    uint32_t plan_bytes;
    uint32_t credit_in;            /* what it may still send */
    uint32_t promised[STREAMS];    /* what the guest may still send */
    uint32_t due;                  /* DONE frames that it waits for */
    bool reading;                  /* one of these is for a READ */
    bool may_fail;                 /* one may come for RUN or START */
    bool is_deaf; /* it has closed, but what it sent before counts */
    bool greeted, ran, reporting, ready, exited;
    bool ended[STREAMS], eof_due[STREAMS];
    struct ring control, output[STREAMS];
};

struct keeper {
    int control, port, status, signals;
    int lifeline; /* -1: none */
    struct carrier carrier;
    struct child children[MOST_CHILDREN];
    uint32_t child_count;
    int lost_status; /* of the child whose end ends the machine */
    struct client clients[MOST_CLIENTS];
    struct client *init; /* NULL until RUN with INIT */
    uint32_t last_channel;
    struct intake intake;
    struct ring to_guest;
    uint8_t hello[FRAME_PAYLOAD_MAX];
    uint32_t hello_length;
    bool greeted, port_ended, is_stopping, was_killed;
    bool init_exited;
    int init_status;
    uint64_t usage[USAGE_COUNT];
    int64_t deadline_ms; /* 0: none */
    enum reason deadline_reason;
    const char *deadline_detail;
    const char *lost_child; /* which one that was vital has ended, NULL: none */
    struct pollfd *events;
    uint8_t *client_memory;
    uint8_t *packet; /* a whole frame */
};

/* --- the end (keeper.c) --- */

_Noreturn void end_machine(struct keeper *me, enum reason reason, const char *detail);

/* End at that time, if nothing comes before it. */
void end_after(struct keeper *me, int64_t milliseconds, enum reason reason, const char *detail);

/* A vital child has ended, or the port has. */
void lose_guest(struct keeper *me);

/* --- children (keeper_children.c) --- */

/* Start those that `machine` tells of; ends the machine if one cannot be. */
void start_children(struct keeper *me, int machine);

/* Reap what has ended; ends the machine with a child that was vital, unless its guest has told of its own end. */
void reap_children(struct keeper *me);

/* --- the port (keeper_port.c) --- */

/* Put a frame into the queue; false if it is full. */
bool send_to_guest(struct keeper *me, uint32_t channel, enum frame_type type, enum stream stream, const void *payload,
                   size_t length);
bool has_room_for_frame(const struct keeper *me);
void read_port(struct keeper *me);
void write_port(struct keeper *me);

/* --- clients (keeper_clients.c) --- */

void accept_client(struct keeper *me);
struct client *client_of_channel(struct keeper *me, uint32_t channel);
bool has_free_client(const struct keeper *me);
short client_interest(const struct keeper *me, const struct client *client);
void serve_client(struct keeper *me, struct client *client, short events);

/* Queue a frame of the guest for it. It is dropped if it does not read. */
void tell_client(struct keeper *me, struct client *client, const struct frame *frame);

/* Send what waits for it, as far as it takes it. */
void flush_client(struct keeper *me, struct client *client);

/* --- what both the keeper and the proxy become (lockdown.c) --- */

/* Give up everything but the system calls of the loop. */
void lock_down(void);

/* Which user and group lock_down() is to leave a root for: an id that no file has, and nobody on the host. */
void lock_down_as(uint32_t id);

/* A signalfd of every signal; they are blocked from then on. */
int catch_signals(void);

/* The next signal, 0: none. */
int next_signal(int signals);

/* Whether a signal is passed on to the guest. */
bool is_passed_on(int signal);

int64_t now_ms(void);

/* Whether a failure of recv(2) is none. ECONNRESET says once that the other end was closed without having read all; what
 * it had sent before is still there. */
static inline bool is_passing(long rc)
{
    return rc == -EAGAIN || rc == -EINTR || rc == -ECONNRESET;
}

/* --- entries --- */

/* `lifeline` (-1: none) is the reading end of a pipe: when it is closed, nobody wants the machine any more. */
int keeper_main(int machine, int control, int port, int status, int lifeline);

/* `status` (-1: none) takes a line when it ends. */
int proxy_main(int connection, int status);
