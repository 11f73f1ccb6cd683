/* The agent: the first process of a guest. It performs the plans that come over its port, and carries their streams. */
#pragma once

#include "frames.h"
#include "perform.h"

enum { MOST_CHANNELS = 128 };

/* What came of a process that has ended. */
struct ending {
    bool known;
    int status;
    uint64_t user_us, system_us, resident_bytes;
};

/* One of these and the ring of its standard input for each channel that a plan came on. */
struct channel {
    uint32_t number;
    uint32_t flags; /* of RUN */
    bool ran;
    uint8_t *plan;
    size_t plan_length;
    struct shared *shared;
    pid_t outer; /* 0: none */
    struct ending outer_end, init_end;
    int report;            /* our end of the report socket, -1: closed */
    int gate;              /* O_PATH of the socket that the init waits at, -1: none */
    int terminal;          /* -1: none */
    uint16_t rows, columns; /* 0 and 0: never told */
    int streams[STREAMS];  /* our ends, -1: closed */
    uint32_t credit[STREAMS];
    bool ended[STREAMS]; /* our EOF is sent, or for the input: theirs came */
    bool is_carried, has_window; /* credit came; the first one for the input is given */
    bool is_damaged, reported, exited, closing;
    struct ring input;
};

struct agent {
    int port;
    int signals; /* a signalfd of SIGCHLD */
    bool is_system;
    int waited_ms; /* for a host that is gone */
    struct channel *channels[MOST_CHANNELS];
    struct channel *init; /* whose RUN said INIT; stays until the end */
};

/* --- the port (agent.c) --- */

/* Send a frame; ends the agent if the port is gone. */
void send_frame(struct agent *me, uint32_t channel, enum frame_type type, enum stream stream, const void *payload,
                size_t length);
void send_done(struct agent *me, uint32_t channel, int error);

/* --- plans (agent_run.c) --- */

void channel_add_plan(struct channel *channel, const struct frame *frame);

/* 0 or -errno. */
int channel_run(struct agent *me, struct channel *channel, const struct frame *frame);

/* Another channel, on which the reports of the init come that waits at its gate. 0 or -errno. */
int channel_start(struct agent *me, struct channel *channel);

/* The init of a channel's plan that still lives, else its outer; 0: neither. */
pid_t channel_process(const struct channel *channel);

/* Everything that a channel has in memory and descriptors. */
struct channel *channel_make(uint32_t number);
void channel_free(struct channel *channel);

/* --- requests about files and the system (agent_files.c) --- */

void answer_read(struct agent *me, const struct frame *frame);

/* What the container has taken, by its control group; 0 where that does not count it. */
uint64_t count_oom_kills(void);
uint64_t memory_peak_bytes(void);

int seed(const struct frame *frame);
int signal_group(int number);

/* What the guest is, as lines of text; how long it is. */
size_t describe_guest(char *out, size_t size);

/* --- pid 1 (agent_system.c) --- */

/* Make a system out of the bare kernel and open its port: the descriptor. */
int make_system(void);

/* Say on the console why, and power off. */
_Noreturn void die(const char *why, int error);
_Noreturn void power_off(void);

/* --- entry --- */

int agent_main(int port, bool is_system);
