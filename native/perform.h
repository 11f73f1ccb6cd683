/* Performing a plan, in this process and those that it forks. */
#pragma once

#include "actor.h"

enum { BAD_PLAN = 2 };

/* Descriptors: `base` is closed, `base` + 1 is the report socket, from `base` + 2 on stand the inherited ones. */
struct task {
    const uint8_t *plan;
    size_t size;
    int base;
    struct shared *shared; /* NULL: one of its own */
    bool dies_with_parent;
};

/* Perform a plan as the outer. Comes back only if that could not begin: then with a status to exit with. */
int perform_plan(const struct task *task);

/* A page to share with actors; NULL without memory. */
struct shared *map_shared(void);

struct placement {
    int from, to;
};

/* Give each descriptor the number it is to have, and close every other one. 0 or -errno. */
int place_descriptors(struct placement *places, size_t count);
