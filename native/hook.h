/* Other programs that we run and wait for: hooks and tools. */
#pragma once

#include "actor.h"

/* An argument or environment vector for execve(2), in memory of its own. */
struct vector {
    char **items;
    size_t bytes;
};

#define _cleanup_vector_ __attribute__((cleanup(vector_free)))
int vector_make(struct vector *vector, struct list texts, char *more); /* `more`: one item after them, or NULL */
void vector_free(struct vector *vector);

/* `pieces` joined by `pid` in decimal, in memory of its own. */
struct memory {
    char *data;
    size_t length;
    size_t bytes;
};

#define _cleanup_memory_ __attribute__((cleanup(memory_free)))
int join_by_pid(struct memory *memory, struct list pieces, pid_t pid);
void memory_free(struct memory *memory);

struct job {
    const char *path;
    char *const *argv;
    char *const *env;
    const char *input; /* for its stdin */
    size_t input_length;
    int64_t timeout_ms; /* 0: none */
};

/* Run a program to its end: its wait status in `status`, what it last wrote in `me->failure`. -ETIMEDOUT if it had to
 * be killed, the errno of execve(2) if it did not start. */
int run_job(struct actor *me, const struct job *job, int *status);

/* Every signal back to its default, none blocked: dispositions that are ignored would outlive execve(2). */
void reset_signals(void);
