/* libFuzzer target: whatever bytes are given for a plan, reading it stays inside of them.
 *
 * Everything that `plan_open` lets pass is walked as the actors would: each step, each argument, each item of each
 * list. The bytes are copied to a block of their exact size, so that the address sanitizer sees the first step too far.
 */
#include <stdlib.h>
#include <string.h>

#include "plan.h"

static volatile uint64_t sink;

/* Every byte of a text and the NUL behind it. */
static void touch_text(struct text text)
{
    for (uint64_t i = 0; i <= text.length; i++)
        sink += (unsigned char)text.data[i];
    if (text.data[text.length] != 0)
        abort();
}

static void touch_list(struct list list, bool of_texts)
{
    while (list.count) {
        if (of_texts)
            touch_text(list_next_text(&list));
        else
            sink += (uint64_t)list_next_number(&list);
    }
}

/* Walk the arguments by their types as the operations' code sees them. */
#define INT(name) sink += (uint64_t)op->name;
#define TEXT(name)                                                                                                     \
    touch_text(op->name);                                                                                              \
    if (strlen(op->name.data) != op->name.length)                                                                      \
        abort();
#define DATA(name) touch_text(op->name);
#define TEXTS(name) touch_list(op->name, true);
#define INTS(name) touch_list(op->name, false);
#define NO_FIELDS (void)op;
#define OP(code, name, fields)                                                                                         \
    static void touch_##name(const struct name *op)                                                                    \
    {                                                                                                                  \
        fields                                                                                                         \
    }
OPERATIONS(OP)
#undef OP

static void touch(uint32_t code, const union arguments *arguments)
{
    switch (code) {
#define OP(number, name, fields)                                                                                       \
    case number:                                                                                                       \
        touch_##name(&arguments->name);                                                                                \
        break;
        OPERATIONS(OP)
#undef OP
    default:
        abort(); /* an operation that does not exist was let pass */
    }
}

static void walk(struct steps steps)
{
    union arguments arguments;
    struct step step;
    while (steps_next(&steps, &step)) {
        if (!step_arguments(&step, &arguments))
            abort(); /* what was checked once holds */
        touch(step.code, &arguments);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct plan plan;
    uint8_t *bytes = malloc(size ? size : 1);
    if (!bytes)
        return 0;
    memcpy(bytes, data, size);
    if (plan_open(&plan, bytes, size)) {
        if (plan.inherited > plan.slots || plan.slots > MAX_SLOTS)
            abort();
        for (int actor = 0; actor < ACTORS; actor++)
            walk(plan.actors[actor]);
    }
    free(bytes);
    return 0;
}
