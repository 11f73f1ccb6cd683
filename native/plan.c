#include "plan.h"

#include <string.h>

enum { HEADER_BYTES = 40, STEP_BYTES = 8, SOFT = 1 };

static const char MAGIC[4] = {'B', 'X', 'P', '1'};

#define INT(name) "i"
#define TEXT(name) "s"
#define DATA(name) "b"
#define TEXTS(name) "S"
#define INTS(name) "I"
#define NO_FIELDS ""
#define OP(code, name, fields) [code] = {#name, fields},
static const struct description descriptions[LAST_CODE + 1] = {OPERATIONS(OP)};
#undef OP

const struct description *describe(uint32_t code)
{
    static const struct description nothing = {NULL, NULL};
    return code <= LAST_CODE ? &descriptions[code] : &nothing;
}

/* What is left to read; `failed` sticks. */
struct reader {
    const uint8_t *at;
    const uint8_t *end;
    bool failed;
};

static const uint8_t *take(struct reader *reader, size_t count)
{
    const uint8_t *taken = reader->at;
    if (reader->failed || (size_t)(reader->end - reader->at) < count) {
        reader->failed = true;
        return NULL;
    }
    reader->at += count;
    return taken;
}

static uint32_t take_u32(struct reader *reader)
{
    uint32_t value = 0;
    const uint8_t *at = take(reader, sizeof value);
    if (at)
        memcpy(&value, at, sizeof value);
    return value;
}

static uint16_t take_u16(struct reader *reader)
{
    uint16_t value = 0;
    const uint8_t *at = take(reader, sizeof value);
    if (at)
        memcpy(&value, at, sizeof value);
    return value;
}

static int64_t take_number(struct reader *reader)
{
    int64_t value = 0;
    const uint8_t *at = take(reader, sizeof value);
    if (at)
        memcpy(&value, at, sizeof value);
    return value;
}

static struct text take_bytes(struct reader *reader)
{
    uint32_t length = take_u32(reader);
    const uint8_t *at = take(reader, (size_t)length + 1);
    if (at && at[length] != 0)
        reader->failed = true;
    return (struct text){(const char *)at, length};
}

/* Text goes to the kernel as a C string: a NUL inside would cut it short unseen. */
static struct text take_text(struct reader *reader)
{
    struct text text = take_bytes(reader);
    if (!reader->failed && memchr(text.data, 0, text.length))
        reader->failed = true;
    return text;
}

static struct list take_list(struct reader *reader, bool of_texts)
{
    struct list list = {.count = take_u32(reader)};
    list.at = reader->at;
    for (uint64_t i = 0; i < list.count && !reader->failed; i++) {
        if (of_texts)
            (void)take_text(reader);
        else
            (void)take_number(reader);
    }
    return list;
}

static char *store(char *out, const void *value, size_t size)
{
    memcpy(out, value, size);
    return out + size;
}

/* The members of an argument structure are 8 or 16 bytes wide and 8 aligned, so they follow each other without gaps. */
static char *take_argument(struct reader *reader, char kind, char *out)
{
    if (kind == 'i') {
        int64_t number = take_number(reader);
        return store(out, &number, sizeof number);
    }
    if (kind == 's' || kind == 'b') {
        struct text text = kind == 's' ? take_text(reader) : take_bytes(reader);
        return store(out, &text, sizeof text);
    }
    struct list list = take_list(reader, kind == 'S');
    return store(out, &list, sizeof list);
}

bool step_arguments(const struct step *step, union arguments *arguments)
{
    const struct description *known = describe(step->code);
    if (!known->name)
        return false;
    struct reader reader = {.at = step->arguments, .end = step->arguments + step->length};
    char *out = (char *)arguments;
    for (const char *kind = known->signature; *kind; kind++)
        out = take_argument(&reader, *kind, out);
    return !reader.failed && reader.at == reader.end;
}

static bool take_step(struct reader *reader, struct step *step)
{
    step->code = take_u16(reader);
    uint16_t flags = take_u16(reader);
    step->soft = flags & SOFT;
    step->length = take_u32(reader);
    step->arguments = take(reader, step->length);
    return !reader->failed && (flags & ~SOFT) == 0;
}

bool steps_next(struct steps *steps, struct step *step)
{
    if (steps->left == 0)
        return false;
    struct reader reader = {.at = steps->at, .end = steps->at + STEP_BYTES};
    step->code = take_u16(&reader);
    step->soft = take_u16(&reader) & SOFT;
    step->length = take_u32(&reader);
    step->arguments = reader.at;
    steps->at = reader.at + step->length;
    steps->left--;
    return true;
}

static void check_steps(struct reader *reader, uint32_t count)
{
    union arguments arguments;
    struct step step;
    for (uint32_t i = 0; i < count && !reader->failed; i++) {
        if (!take_step(reader, &step) || !step_arguments(&step, &arguments))
            reader->failed = true;
    }
}

/* The sections follow the header and each other without gaps. */
static void read_sections(struct plan *plan, struct reader *header, struct reader *body, const uint8_t *bytes)
{
    for (int actor = 0; actor < ACTORS && !body->failed; actor++) {
        uint32_t offset = take_u32(header);
        uint32_t count = take_u32(header);
        if (offset != (size_t)(body->at - bytes))
            body->failed = true;
        plan->actors[actor] = (struct steps){body->at, count};
        check_steps(body, count);
    }
}

bool plan_open(struct plan *plan, const uint8_t *bytes, size_t size)
{
    if (size < HEADER_BYTES || memcmp(bytes, MAGIC, sizeof MAGIC) != 0)
        return false;
    struct reader header = {.at = bytes + sizeof MAGIC, .end = bytes + HEADER_BYTES};
    struct reader body = {.at = bytes + HEADER_BYTES, .end = bytes + size};
    if (take_u32(&header) != size)
        return false;
    plan->slots = take_u32(&header);
    plan->inherited = take_u32(&header);
    if (plan->slots > MAX_SLOTS || plan->inherited > plan->slots)
        return false;
    read_sections(plan, &header, &body, bytes);
    return !body.failed && body.at == body.end;
}

struct text list_next_text(struct list *list)
{
    uint32_t length;
    memcpy(&length, list->at, sizeof length);
    struct text text = {(const char *)list->at + sizeof length, length};
    list->at += sizeof length + length + 1;
    list->count--;
    return text;
}

int64_t list_next_number(struct list *list)
{
    int64_t number;
    memcpy(&number, list->at, sizeof number);
    list->at += sizeof number;
    list->count--;
    return number;
}
