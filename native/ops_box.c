/* Namespaces and identity of the box. */
#include <sys/ioctl.h>
#include <sys/prctl.h>

#include "actor.h"

int do_Setns(struct actor *me, const struct Setns *op)
{
    int fd = slot_fd(me, op->slot);
    return fd < 0 ? fd : (int)sys(setns, fd, op->kind);
}

int do_Unshare(struct actor *me, const struct Unshare *op)
{
    (void)me;
    return (int)sys(unshare, op->flags);
}

/* A change of credentials clears the parent-death signal. */
int keep_dying_with_parent(const struct actor *me)
{
    return me->dies_with_parent ? sys_prctl(PR_SET_PDEATHSIG, SIGKILL) : 0;
}

int do_BecomeRoot(struct actor *me, const struct BecomeRoot *op)
{
    (void)op;
    long rc = sys(setgroups, 0, NULL); /* EPERM where the namespace's setgroups says deny */
    if (rc == 0 || rc == -EPERM)
        rc = sys(setresgid, 0, 0, 0);
    if (rc == 0)
        rc = sys(setresuid, 0, 0, 0);
    return rc < 0 ? (int)rc : keep_dying_with_parent(me);
}

int do_NewSession(struct actor *me, const struct NewSession *op)
{
    (void)me;
    (void)op;
    long rc = sys(setsid, 0);
    return rc < 0 && rc != -EPERM ? (int)rc : 0;
}

int do_SetHostname(struct actor *me, const struct SetHostname *op)
{
    (void)me;
    return (int)sys(sethostname, op->name.data, op->name.length);
}

int do_SetDomainname(struct actor *me, const struct SetDomainname *op)
{
    (void)me;
    return (int)sys(setdomainname, op->name.data, op->name.length);
}

int do_NewKeyring(struct actor *me, const struct NewKeyring *op)
{
    enum { KEYCTL_JOIN_SESSION_KEYRING = 1, KEYCTL_SETPERM = 5, POSSESSOR_ALL = 0x3f000000 };
    (void)me, (void)op;
    long ring = sys(keyctl, KEYCTL_JOIN_SESSION_KEYRING, NULL);
    long rc = ring < 0 ? ring : sys(keyctl, KEYCTL_SETPERM, ring, POSSESSOR_ALL);
    return rc < 0 && rc != -ENOSYS ? (int)rc : 0;
}

int do_LoopbackUp(struct actor *me, const struct LoopbackUp *op)
{
    enum { GET_FLAGS = 0x8913, SET_FLAGS = 0x8914, UP = 1 };
    struct {
        char name[16];
        int16_t flags;
        char rest[22];
    } request = {.name = "lo"};
    (void)me;
    (void)op;
    _cleanup_close_ int socket = (int)sys(socket, AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (socket < 0)
        return socket;
    long rc = sys(ioctl, socket, GET_FLAGS, &request);
    if (rc < 0)
        return (int)rc;
    request.flags |= UP;
    return (int)sys(ioctl, socket, SET_FLAGS, &request);
}

/* The child only lives so that its namespace does. */
_Noreturn static void hold_namespace(void)
{
    (void)sys_prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (;;)
        sys_sleep_ns(999999999);
}

static int write_map(pid_t pid, const char *name, struct text map)
{
    _cleanup_close_ int fd = open_proc(pid, (struct text){name, strlen(name)}, O_WRONLY);
    if (fd < 0)
        return fd;
    long written = sys(write, fd, map.data, map.length);
    return written < 0 ? (int)written : 0;
}

int do_Userns(struct actor *me, const struct Userns *op)
{
    struct clone3_args args = {.flags = CLONE_NEWUSER, .exit_signal = SIGCHLD};
    pid_t pid = (pid_t)sys_clone3(&args);
    if (pid < 0)
        return pid;
    if (pid == 0)
        hold_namespace();
    int rc = write_map(pid, "uid_map", op->uid_map);
    if (rc == 0)
        rc = write_map(pid, "gid_map", op->gid_map);
    if (rc == 0)
        rc = slot_fill(me, op->slot, open_proc(pid, (struct text){"ns/user", 7}, O_RDONLY));
    (void)sys(kill, pid, SIGKILL);
    (void)sys(wait4, pid, NULL, 0, NULL);
    return rc;
}
