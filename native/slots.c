#include "actor.h"

int slot_fd(const struct actor *me, int64_t slot)
{
    if (slot < 0 || slot >= me->plan.slots || me->slots[slot] == 0)
        return -EBADF;
    return me->slots[slot] - FD_BIAS;
}

int slot_directory(const struct actor *me, int64_t slot, int *fd)
{
    *fd = slot == AT_HOST ? AT_FDCWD : slot_fd(me, slot);
    return *fd < 0 && *fd != AT_FDCWD ? *fd : 0;
}

/* Only a caller that started us with one of the program's descriptors closed makes this happen. */
int keep_off_program(const struct actor *me, int fd)
{
    if (fd < 0 || fd >= me->base)
        return fd;
    int moved = (int)sys(fcntl, fd, F_DUPFD_CLOEXEC, me->base);
    (void)sys(close, fd);
    return moved;
}

void slot_close(struct actor *me, int64_t slot)
{
    int fd = slot_fd(me, slot);
    if (fd < 0)
        return;
    (void)sys(close, fd);
    me->slots[slot] = 0;
}

int slot_fill(struct actor *me, int64_t slot, int fd)
{
    fd = keep_off_program(me, fd);
    if (fd < 0)
        return fd;
    if (slot < 0 || slot >= me->plan.slots) {
        (void)sys(close, fd);
        return -EBADF;
    }
    slot_close(me, slot);
    me->slots[slot] = fd + FD_BIAS;
    return 0;
}
