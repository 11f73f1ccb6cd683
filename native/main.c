/* boxwright-helper: performs one encoded plan, then is the container's program, or ends.
 *
 *   boxwright-helper BASE        descriptors BASE: plan, BASE+1: report socket, BASE+2…: inherited ones
 *   boxwright-helper             as pid 1: the agent of a guest
 *   boxwright-helper --agent FD  the same on a descriptor, without making a system first
 *   boxwright-helper --keep MACHINE CONTROL PORT STATUS [LIFELINE]  holds a machine
 *   boxwright-helper --as ID --keep …                               the same, as this user and group once it holds it
 *   boxwright-helper --proxy CONNECTION [STATUS]                    carries the streams of what exec started in it
 *   boxwright-helper --check FD  is the plan in FD well-formed? status 0 or 2
 *   boxwright-helper --ops       the operations it knows, one a line: code, name, signature, fields
 *   boxwright-helper --version   the protocol's version
 */
#include "agent.h"
#include "keeper.h"

enum { USAGE = 2, LARGEST_FD = 1 << 21 /* an id of a jail is below it, too */ };

/* Map all of the file; NULL if it is empty or cannot be. */
static const uint8_t *map_plan(int fd, size_t *size)
{
    struct stat found;
    if (sys_fstat(fd, &found) < 0 || found.st_size <= 0 || found.st_size > UINT32_MAX)
        return NULL;
    *size = (size_t)found.st_size;
    long at = sys(mmap, NULL, *size, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, 0);
    return at < 0 && at > -4096 ? NULL : (const uint8_t *)at;
}

static bool open_plan(struct plan *plan, int fd)
{
    size_t size;
    const uint8_t *bytes = map_plan(fd, &size);
    return bytes && plan_open(plan, bytes, size);
}

static int run(int base)
{
    struct task task = {.base = base};
    task.plan = map_plan(base, &task.size);
    return task.plan ? perform_plan(&task) : USAGE;
}

/* A descriptor number: decimal digits and nothing else. -1 if it is none. */
static int parse_fd(const char *text)
{
    int number = 0;
    if (*text == 0)
        return -1;
    for (; *text; text++) {
        if (*text < '0' || *text > '9')
            return -1;
        number = number * 10 + (*text - '0');
        if (number > LARGEST_FD)
            return -1;
    }
    return number;
}

static void print(const char *text)
{
    (void)sys(write, 1, text, strlen(text));
}

static void print_number(int64_t number)
{
    char digits[NUMBER_BYTES];
    (void)format_number(digits, number);
    print(digits);
}

#define INT(name) "," #name
#define TEXT(name) INT(name)
#define DATA(name) INT(name)
#define TEXTS(name) INT(name)
#define INTS(name) INT(name)
#define NO_FIELDS ""
static const char *field_names(uint32_t code)
{
    switch (code) {
#define OP(number, name, fields)                                                                                       \
    case number:                                                                                                       \
        return fields;
        OPERATIONS(OP)
#undef OP
    default:
        return "";
    }
}

static int print_operations(void)
{
    for (uint32_t code = 0; code <= LAST_CODE; code++) {
        const struct description *known = describe(code);
        if (!known->name)
            continue;
        print_number(code);
        print(" ");
        print(known->name);
        print(" ");
        print(*known->signature ? known->signature : "-");
        print(" ");
        print(*known->signature ? field_names(code) + 1 : "-");
        print("\n");
    }
    return 0;
}

static int check(const char *text)
{
    int fd = parse_fd(text);
    struct plan plan;
    return fd >= 0 && open_plan(&plan, fd) ? 0 : USAGE;
}

static int agent(const char *text)
{
    int fd = parse_fd(text);
    return fd < 0 ? USAGE : agent_main(fd, false);
}

static int keep(char *const *texts, int count)
{
    int fds[5] = {-1, -1, -1, -1, -1};
    for (int i = 0; i < count; i++)
        if ((fds[i] = parse_fd(texts[i])) < 0)
            return USAGE;
    return keeper_main(fds[0], fds[1], fds[2], fds[3], fds[4]);
}

static int keep_as(char *const *texts, int count)
{
    int id = parse_fd(texts[0]);
    if (id < 0 || strcmp(texts[1], "--keep") != 0)
        return USAGE;
    lock_down_as((uint32_t)id);
    return keep(texts + 2, count - 2);
}

static int proxy(char *const *texts, int count)
{
    int connection = parse_fd(texts[0]);
    int status = count > 1 ? parse_fd(texts[1]) : -1;
    return connection < 0 || (count > 1 && status < 0) ? USAGE : proxy_main(connection, status);
}

int main(int argc, char **argv)
{
    if (argc == 1 && sys(getpid, 0) == 1)
        return agent_main(-1, true);
    if (argc == 3 && strcmp(argv[1], "--agent") == 0)
        return agent(argv[2]);
    if ((argc == 6 || argc == 7) && strcmp(argv[1], "--keep") == 0)
        return keep(argv + 2, argc - 2);
    if ((argc == 8 || argc == 9) && strcmp(argv[1], "--as") == 0)
        return keep_as(argv + 2, argc - 2);
    if ((argc == 3 || argc == 4) && strcmp(argv[1], "--proxy") == 0)
        return proxy(argv + 2, argc - 2);
    if (argc == 3 && strcmp(argv[1], "--check") == 0)
        return check(argv[2]);
    if (argc != 2)
        return USAGE;
    if (strcmp(argv[1], "--ops") == 0)
        return print_operations();
    if (strcmp(argv[1], "--version") == 0) {
        print_number(PROTOCOL);
        print("\n");
        return 0;
    }
    int base = parse_fd(argv[1]);
    return base < 3 ? USAGE : run(base);
}
