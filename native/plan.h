/* The plan as Python encoded it (`src/boxwright/plan/encode.py`), read without trust: every length is checked once by
 * `plan_open`, so that what walks it afterwards cannot leave it.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ops.h"

enum { PROTOCOL = 1, MAX_SLOTS = 1024, LAST_CODE = 83 };

enum actor_number { OUTER, JOINER, INIT, ACTORS };

/* The steps of one actor that are still to come. */
struct steps {
    const uint8_t *at;
    uint32_t left;
};

struct plan {
    uint32_t slots;
    uint32_t inherited;
    struct steps actors[ACTORS];
};

struct step {
    uint16_t code;
    bool soft;
    const uint8_t *arguments;
    uint32_t length;
};

/* What is known of an operation code; `name` is NULL where there is none. */
struct description {
    const char *name;
    const char *signature; /* i number, s text, b bytes, S texts, I numbers */
};

const struct description *describe(uint32_t code);

/* Check all of the `size` bytes at `bytes`; false if anything in them is not as it must be. */
bool plan_open(struct plan *plan, const uint8_t *bytes, size_t size);

/* Take the next step; false at the end. */
bool steps_next(struct steps *steps, struct step *step);

/* Decode the arguments of a step; false if they are not exactly those of its operation. */
bool step_arguments(const struct step *step, union arguments *arguments);

/* Take the next item of a list, which must have one left. */
struct text list_next_text(struct list *list);
int64_t list_next_number(struct list *list);
