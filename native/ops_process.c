/* The process that the program will be. */
#include <sys/prctl.h>

#include "hook.h"
#include "report.h"
#include "resolve.h"

static int make_cwd(const char *path)
{
    _cleanup_close_ int root = sys_openat(AT_FDCWD, "/", O_PATH | O_DIRECTORY);
    _cleanup_close_ int made = root < 0 ? root : resolve_or_create(root, path, DIRECTORY, PARENT_MODE, 0);
    return made < 0 ? made : (int)sys(fchdir, made);
}

int do_SetCwd(struct actor *me, const struct SetCwd *op)
{
    char cwd[PATH_BYTES];
    (void)me;
    /* Through /proc/self/fd a path could begin at a descriptor of ours (CVE-2024-21626). */
    _cleanup_close_ int directory = open_how(AT_FDCWD, op->path.data, O_PATH | O_DIRECTORY, RESOLVE_NO_MAGICLINKS);
    long rc = directory < 0 ? directory : sys(fchdir, directory);
    if (rc == -ENOENT && op->create)
        rc = make_cwd(op->path.data);
    if (rc < 0)
        return (int)rc;
    /* A directory outside of the root is told as `(unreachable)…`. */
    rc = sys(getcwd, cwd, sizeof cwd);
    if (rc < 0)
        return (int)rc;
    return cwd[0] == '/' ? 0 : -EXDEV;
}

/* Whom an operation of the outer or the init on "the init" means; 0 is ourselves. -ESRCH if there is no init. */
static pid_t subject(struct actor *me)
{
    pid_t pid;
    if (me->self != OUTER)
        return 0;
    return pid_of(me, INIT, &pid) ? pid : -ESRCH;
}

int do_SetRlimit(struct actor *me, const struct SetRlimit *op)
{
    struct {
        uint64_t soft, hard;
    } limit = {(uint64_t)op->soft, (uint64_t)op->hard};
    pid_t pid = subject(me);
    return pid < 0 ? pid : (int)sys(prlimit64, pid, op->resource, &limit, NULL);
}

int do_SetAffinity(struct actor *me, const struct SetAffinity *op)
{
    pid_t pid = subject(me);
    return pid < 0 ? pid : (int)sys(sched_setaffinity, pid, op->cpus.length, op->cpus.data);
}

int do_SetPersonality(struct actor *me, const struct SetPersonality *op)
{
    (void)me;
    long rc = sys(personality, op->persona);
    return rc < 0 ? (int)rc : 0;
}

int do_SetScheduler(struct actor *me, const struct SetScheduler *op)
{
    struct {
        uint32_t size, policy;
        uint64_t flags;
        int32_t nice;
        uint32_t priority;
        uint64_t runtime_ns, deadline_ns, period_ns;
    } attributes = {
        .size = sizeof attributes,
        .policy = (uint32_t)op->policy,
        .flags = (uint64_t)op->flags,
        .nice = (int32_t)op->nice,
        .priority = (uint32_t)op->priority,
        .runtime_ns = (uint64_t)op->runtime_ns,
        .deadline_ns = (uint64_t)op->deadline_ns,
        .period_ns = (uint64_t)op->period_ns,
    };
    (void)me;
    return (int)sys(sched_setattr, 0, &attributes, 0);
}

int do_SetIOPriority(struct actor *me, const struct SetIOPriority *op)
{
    enum { WHO_PROCESS = 1 };
    (void)me;
    return (int)sys(ioprio_set, WHO_PROCESS, 0, op->value);
}

int do_SetMemoryPolicy(struct actor *me, const struct SetMemoryPolicy *op)
{
    enum { MASK_BYTES = 128, WORD_BYTES = 8 }; /* the kernel reads whole words: 1024 nodes are all there can be */
    static char mask[MASK_BYTES];
    (void)me;
    if (op->nodes.length > MASK_BYTES)
        return -EINVAL;
    memcpy(mask, op->nodes.data, op->nodes.length);
    uint64_t words = (op->nodes.length + WORD_BYTES - 1) / WORD_BYTES;
    /* The kernel takes one bit less than it is told. */
    uint64_t bits = words ? words * WORD_BYTES * 8 + 1 : 0;
    return (int)sys(set_mempolicy, op->mode, words ? mask : NULL, bits);
}

int do_SetUmask(struct actor *me, const struct SetUmask *op)
{
    me->umask = (mode_t)op->mask & 0777;
    if (me->argv) /* `Exec` is made ready: too late to leave it to that */
        (void)sys(umask, me->umask);
    return 0;
}

int do_DupTo(struct actor *me, const struct DupTo *op)
{
    int fd = slot_fd(me, op->slot);
    if (fd < 0)
        return fd;
    if (op->number < 0 || op->number >= me->base)
        return -EINVAL;
    long rc = sys(dup3, fd, op->number, 0);
    return rc < 0 ? (int)rc : 0;
}

/* What exists for this program only: a pipe, a socket, a pseudoterminal. A file or a device of the host is not given
 * to a user of the box because somebody redirects from it. */
static bool is_for_program(const struct stat *found)
{
    return S_ISFIFO(found->st_mode) || S_ISSOCK(found->st_mode) || is_pseudoterminal(found);
}

static int own_stdio(int fd, int64_t uid)
{
    struct stat found;
    int rc = sys_fstat(fd, &found);
    if (rc == -EBADF)
        return 0;
    if (rc < 0)
        return rc;
    if (found.st_uid == (uid_t)uid || !is_for_program(&found))
        return 0;
    rc = (int)sys(fchown, fd, uid, (gid_t)-1);
    return rc == -EPERM || rc == -EROFS || rc == -EINVAL ? 0 : rc;
}

int do_OwnStdio(struct actor *me, const struct OwnStdio *op)
{
    (void)me;
    int rc = op->uid >= 0 && is_id(op->uid) ? 0 : -EINVAL;
    for (int fd = 0; fd <= 2 && rc == 0; fd++)
        rc = own_stdio(fd, op->uid);
    return rc;
}

int do_KeepFds(struct actor *me, const struct KeepFds *op)
{
    (void)me;
    return op->first < 0 ? -EINVAL : (int)sys(close_range, op->first, EVERY_FD, CLOSE_RANGE_CLOEXEC_FLAG);
}

/* 0 if `path` can be executed by us: what execve(2) would check, a directory being no program. */
static int check_program(const char *path)
{
    struct stat found;
    int rc = sys_fstatat(AT_FDCWD, path, &found, 0);
    if (rc < 0)
        return rc;
    if (!S_ISREG(found.st_mode))
        return -EACCES;
    long access = sys(faccessat2, AT_FDCWD, path, 1, AT_EACCESS);
    return access == -ENOSYS ? (int)sys(faccessat, AT_FDCWD, path, 1) : (int)access;
}

static int join_path(char out[PATH_BYTES], const char *directory, size_t length, struct text name)
{
    if (length + name.length + 2 > PATH_BYTES)
        return -ENAMETOOLONG;
    memcpy(out, directory, length);
    if (length)
        out[length++] = '/';
    memcpy(out + length, name.data, name.length + 1);
    return 0;
}

/* Each directory in turn; an empty one is the current directory. EACCES is told only if nothing else is found. */
static int search(struct actor *me, struct text name, const char *directory)
{
    int refused = 0;
    for (;;) {
        size_t length = strcspn(directory, ":");
        int rc = join_path(me->program, directory, length, name);
        if (rc == 0)
            rc = check_program(me->program);
        if (rc == 0)
            return 0;
        if (rc == -EACCES)
            refused = rc;
        if (directory[length] == 0)
            return refused ? refused : -ENOENT;
        directory += length + 1;
    }
}

int do_FindProgram(struct actor *me, const struct FindProgram *op)
{
    if (op->name.length == 0)
        return -ENOENT;
    if (!strchr(op->name.data, '/'))
        return search(me, op->name, op->path.data);
    int rc = join_path(me->program, "", 0, op->name);
    return rc == 0 ? check_program(me->program) : rc;
}

/* Close our descriptors but the report socket and `keep` (-1: none). Not only at execve(2): that walks to the program
 * before it closes, and a path through /proc/self/fd would begin at a directory of the host that we hold. */
static void close_ours(struct actor *me, int keep)
{
    int low = keep >= 0 && keep < me->report ? keep : me->report;
    int high = low == me->report ? keep : me->report;
    int from = me->base;
    for (int fd = low; fd >= from; fd = high) {
        if (fd > from)
            (void)sys(close_range, from, fd - 1, 0);
        from = fd + 1;
    }
    (void)sys(close_range, from, EVERY_FD, 0);
    me->plan.slots = 0; /* there is nothing in them any more */
}

int prepare_exec(struct actor *me, const struct Exec *op, int keep)
{
    struct vector argv, env;
    int rc = vector_make(&argv, op->argv, NULL);
    if (rc == 0)
        rc = vector_make(&env, op->env, me->home[0] ? me->home : NULL);
    if (rc < 0)
        return rc;
    (void)sys(umask, me->umask);
    reset_signals();
    close_ours(me, keep);
    me->argv = argv.items;
    me->env = env.items;
    return 0;
}

int do_Exec(struct actor *me, const struct Exec *op)
{
    int rc = me->argv ? 0 : prepare_exec(me, op, -1);
    return rc < 0 ? rc : (int)sys(execve, me->program, me->argv, me->env);
}
