/* Files of the host, and the trusted procfs. */
#include <sys/statfs.h>

#include "report.h"
#include "resolve.h"

int do_Open(struct actor *me, const struct Open *op)
{
    struct statfs found;
    int fd = sys_openat(AT_FDCWD, op->path.data, (int)op->flags);
    if (fd < 0 || !op->magic)
        return slot_fill(me, op->slot, fd);
    long rc = sys(fstatfs, fd, &found);
    if (rc == 0 && (int64_t)found.f_type != op->magic) {
        me->failure.value = op->magic;
        rc = -EPERM;
    }
    if (rc == 0)
        return slot_fill(me, op->slot, fd);
    (void)sys(close, fd);
    return (int)rc;
}

int do_Close(struct actor *me, const struct Close *op)
{
    slot_close(me, op->slot);
    return 0;
}

int do_MakeDirs(struct actor *me, const struct MakeDirs *op)
{
    (void)me;
    char path[PATH_BYTES];
    if (op->path.length >= sizeof path)
        return -ENAMETOOLONG;
    memcpy(path, op->path.data, op->path.length + 1);
    long rc = sys(mkdirat, AT_FDCWD, path, op->mode);
    for (char *slash = path + 1; rc == -ENOENT && (slash = strchr(slash, '/')); slash++) {
        *slash = 0;
        long made = sys(mkdirat, AT_FDCWD, path, op->mode);
        *slash = '/';
        if (made < 0 && made != -EEXIST)
            return (int)made;
    }
    if (rc == -ENOENT)
        rc = sys(mkdirat, AT_FDCWD, path, op->mode);
    return rc == -EEXIST ? 0 : (int)rc;
}

/* One write(2): the kernel takes a setting whole or not at all. */
static int write_once(int fd, struct text data)
{
    if (fd < 0)
        return fd;
    long written = sys(write, fd, data.data, data.length);
    (void)sys(close, fd);
    if (written < 0)
        return (int)written;
    return (uint64_t)written == data.length ? 0 : -EIO;
}

int do_Write(struct actor *me, const struct Write *op)
{
    (void)me;
    return write_once(sys_openat(AT_FDCWD, op->path.data, O_WRONLY | O_NOFOLLOW | O_NOCTTY), op->data);
}

int do_WriteAt(struct actor *me, const struct WriteAt *op)
{
    int directory = slot_fd(me, op->directory);
    if (directory < 0)
        return directory;
    int fd = open_how(directory, op->name.data, O_WRONLY | O_NOFOLLOW | O_NOCTTY,
                      RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV);
    return write_once(fd, op->data);
}

/* Decimal digits of `number` at `out`, ended by a NUL; how many. */
size_t format_number(char out[NUMBER_BYTES], int64_t number)
{
    char reversed[NUMBER_BYTES];
    size_t digits = 0, length = 0;
    uint64_t rest = number < 0 ? -(uint64_t)number : (uint64_t)number;
    do {
        reversed[digits++] = (char)('0' + rest % 10);
        rest /= 10;
    } while (rest);
    if (number < 0)
        out[length++] = '-';
    while (digits)
        out[length++] = reversed[--digits];
    out[length] = 0;
    return length;
}

int do_WriteChildPid(struct actor *me, const struct WriteChildPid *op)
{
    char digits[NUMBER_BYTES];
    pid_t pid;
    if (!pid_of(me, INIT, &pid))
        return -ESRCH;
    struct text data = {digits, format_number(digits, pid)};
    return write_once(sys_openat(AT_FDCWD, op->path.data, O_WRONLY | O_NOFOLLOW), data);
}

/* `/proc/<pid>/<name>`, which is how procfs of our own pid namespace calls it. */
static int proc_path(char path[PATH_BYTES], pid_t pid, struct text name)
{
    static const char PROC[] = "/proc/";
    size_t length = sizeof PROC - 1;
    memcpy(path, PROC, length);
    length += format_number(path + length, pid);
    path[length++] = '/';
    if (name.length >= PATH_BYTES - length)
        return -ENAMETOOLONG;
    memcpy(path + length, name.data, name.length + 1);
    return 0;
}

int open_proc(pid_t pid, struct text name, int flags)
{
    char path[PATH_BYTES];
    int rc = proc_path(path, pid, name);
    return rc < 0 ? rc : sys_openat(AT_FDCWD, path, flags);
}

int do_WriteChildFile(struct actor *me, const struct WriteChildFile *op)
{
    pid_t pid;
    if (!pid_of(me, op->actor, &pid))
        return -ESRCH;
    return write_once(open_proc(pid, op->name, O_WRONLY | O_NOFOLLOW), op->data);
}

int do_ChownAt(struct actor *me, const struct ChownAt *op)
{
    (void)me;
    if (!is_id(op->uid) || !is_id(op->gid))
        return -EINVAL;
    long rc = sys(fchownat, AT_FDCWD, op->path.data, (uid_t)op->uid, (gid_t)op->gid, AT_SYMLINK_NOFOLLOW);
    return rc == -ENOENT ? 0 : (int)rc;
}
