/* The device filter of a cgroup v2: an eBPF program on its directory. */
#include "report.h"

enum {
    PROGRAM_LOAD = 5,
    PROGRAM_ATTACH = 8,
    PROGRAM_DETACH = 9,
    PROGRAM_BY_ID = 13,
    PROGRAM_QUERY = 16,
    TYPE_CGROUP_DEVICE = 15,
    ATTACH_CGROUP_DEVICE = 6,
    ALLOW_MULTI = 2,
    MOST_PROGRAMS = 64,
    LOG_BYTES = 4096,
};

/* The leading members of `union bpf_attr`; the kernel takes what is missing as 0. */
struct load_request {
    uint32_t type, count;
    uint64_t instructions, license;
    uint32_t log_level, log_size;
    uint64_t log;
};

struct attach_request {
    uint32_t target, program, type, flags;
};

struct query_request {
    uint32_t target, type, query_flags, attach_flags;
    uint64_t ids;
    uint32_t count, padding;
};

struct id_request {
    uint32_t id, next_id, flags, padding;
};

static int load_program(struct actor *me, struct text program)
{
    static char log[LOG_BYTES];
    enum { INSTRUCTION_BYTES = 8 };
    if (program.length == 0 || program.length % INSTRUCTION_BYTES)
        return -EINVAL;
    struct load_request request = {
        .type = TYPE_CGROUP_DEVICE,
        .count = (uint32_t)(program.length / INSTRUCTION_BYTES),
        .instructions = (uintptr_t)program.data,
        .license = (uintptr_t) "",
    };
    int fd = (int)sys(bpf, PROGRAM_LOAD, &request, sizeof request);
    if (fd >= 0 || fd == -EPERM || fd == -ENOSYS)
        return fd;
    request.log_level = 1;
    request.log_size = sizeof log;
    request.log = (uintptr_t)log;
    int again = (int)sys(bpf, PROGRAM_LOAD, &request, sizeof request);
    if (again < 0)
        failure_add(&me->failure, log, strnlen(log, sizeof log));
    return again >= 0 ? again : fd;
}

/* The ids of the programs attached to this very cgroup; how many, or -errno. */
static int attached(int cgroup, uint32_t ids[MOST_PROGRAMS])
{
    struct query_request request = {
        .target = (uint32_t)cgroup,
        .type = ATTACH_CGROUP_DEVICE,
        .ids = (uintptr_t)ids,
        .count = MOST_PROGRAMS,
    };
    int rc = (int)sys(bpf, PROGRAM_QUERY, &request, sizeof request);
    return rc < 0 ? rc : (int)request.count;
}

static int detach(int cgroup, uint32_t id)
{
    struct id_request by_id = {.id = id};
    _cleanup_close_ int program = (int)sys(bpf, PROGRAM_BY_ID, &by_id, sizeof by_id);
    if (program < 0)
        return program == -ENOENT ? 0 : program;
    struct attach_request request = {(uint32_t)cgroup, (uint32_t)program, ATTACH_CGROUP_DEVICE, 0};
    int rc = (int)sys(bpf, PROGRAM_DETACH, &request, sizeof request);
    return rc == -ENOENT ? 0 : rc;
}

/* The new program first: all attached ones must allow a device, so there is no moment without a filter. */
int do_SetDeviceFilter(struct actor *me, const struct SetDeviceFilter *op)
{
    uint32_t before[MOST_PROGRAMS];
    _cleanup_close_ int cgroup = sys_openat(AT_FDCWD, op->path.data, O_RDONLY | O_DIRECTORY);
    if (cgroup < 0)
        return cgroup;
    int count = attached(cgroup, before);
    if (count < 0)
        return count;
    _cleanup_close_ int program = load_program(me, op->program);
    if (program < 0)
        return program;
    struct attach_request request = {(uint32_t)cgroup, (uint32_t)program, ATTACH_CGROUP_DEVICE, ALLOW_MULTI};
    int rc = (int)sys(bpf, PROGRAM_ATTACH, &request, sizeof request);
    for (int i = 0; i < count && rc == 0; i++)
        rc = detach(cgroup, before[i]);
    return rc;
}
