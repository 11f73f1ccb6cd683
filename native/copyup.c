/* Copying what a directory holds to the empty filesystem that will cover it (mount option `tmpcopyup`).
 *
 * Only what a filesystem of files needs: extended attributes, holes and shared inodes of hard links are not kept.
 */
#include "actor.h"

enum { DEPTH = 64, ENTRIES_BYTES = 4096, CHUNK_BYTES = 32768, LINK_BYTES = 4096 };

/* struct linux_dirent64 */
struct entry {
    uint64_t inode;
    int64_t offset;
    uint16_t length;
    uint8_t type;
    char name[];
};

static int copy_directory(int from, int to, dev_t device, int depth);

/* Owner, mode and times of what stands at `name`; changing the owner clears set-id bits, so the mode comes after. */
static int copy_attributes(int to, const char *name, const struct stat *source)
{
    struct timespec times[2] = {source->st_atim, source->st_mtim};
    long rc = sys(fchownat, to, name, source->st_uid, source->st_gid, AT_SYMLINK_NOFOLLOW);
    if (rc == 0 && !S_ISLNK(source->st_mode))
        rc = sys(fchmodat, to, name, source->st_mode & 07777);
    if (rc == 0)
        rc = sys(utimensat, to, name, times, AT_SYMLINK_NOFOLLOW);
    return (int)rc;
}

static int write_all(int fd, const char *data, size_t length)
{
    while (length) {
        long written = sys(write, fd, data, length);
        if (written < 0)
            return (int)written;
        data += written;
        length -= (size_t)written;
    }
    return 0;
}

static int copy_contents(int from, int to)
{
    static char chunk[CHUNK_BYTES];
    long got;
    while ((got = sys(read, from, chunk, sizeof chunk)) > 0) {
        int rc = write_all(to, chunk, (size_t)got);
        if (rc < 0)
            return rc;
    }
    return (int)got;
}

static int copy_file(int from, int to, const char *name)
{
    _cleanup_close_ int source = sys_openat(from, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
    if (source < 0)
        return source;
    int flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC;
    _cleanup_close_ int target = (int)sys(openat, to, name, flags, 0600);
    return target < 0 ? target : copy_contents(source, target);
}

static int copy_link(int from, int to, const char *name)
{
    static char target[LINK_BYTES];
    long length = sys(readlinkat, from, name, target, sizeof target - 1);
    if (length < 0)
        return (int)length;
    target[length] = 0;
    return (int)sys(symlinkat, target, to, name);
}

/* A directory that something else is mounted on stays empty. */
static int copy_tree(int from, int to, const char *name, const struct stat *source, dev_t device, int depth)
{
    long rc = sys(mkdirat, to, name, 0700);
    if (rc < 0 || source->st_dev != device)
        return (int)rc;
    _cleanup_close_ int below = sys_openat(from, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
    if (below < 0)
        return below;
    _cleanup_close_ int copy = sys_openat(to, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
    return copy < 0 ? copy : copy_directory(below, copy, device, depth + 1);
}

static int copy_entry(int from, int to, const char *name, dev_t device, int depth)
{
    struct stat source;
    int rc = sys_fstatat(from, name, &source, AT_SYMLINK_NOFOLLOW);
    if (rc < 0)
        return rc == -ENOENT ? 0 : rc;
    if (S_ISDIR(source.st_mode))
        rc = copy_tree(from, to, name, &source, device, depth);
    else if (S_ISREG(source.st_mode))
        rc = copy_file(from, to, name);
    else if (S_ISLNK(source.st_mode))
        rc = copy_link(from, to, name);
    else
        rc = (int)sys(mknodat, to, name, source.st_mode, source.st_rdev);
    return rc < 0 ? rc : copy_attributes(to, name, &source);
}

static bool is_dot(const char *name)
{
    return name[0] == '.' && (name[1] == 0 || (name[1] == '.' && name[2] == 0));
}

static int copy_directory(int from, int to, dev_t device, int depth)
{
    _Alignas(8) char entries[ENTRIES_BYTES];
    long got;
    if (depth > DEPTH)
        return -ELOOP;
    while ((got = sys(getdents64, from, entries, sizeof entries)) > 0) {
        for (long at = 0; at < got;) {
            const struct entry *entry = (const void *)(entries + at);
            int rc = is_dot(entry->name) ? 0 : copy_entry(from, to, entry->name, device, depth);
            if (rc < 0)
                return rc;
            at += entry->length;
        }
    }
    return (int)got;
}

int do_CopyUp(struct actor *me, const struct CopyUp *op)
{
    struct stat source;
    int tree = slot_fd(me, op->tree);
    int directory = slot_fd(me, op->source);
    if (tree < 0 || directory < 0)
        return -EBADF;
    _cleanup_close_ int from = sys_openat(directory, ".", O_RDONLY | O_DIRECTORY);
    if (from < 0)
        return from;
    int rc = sys_fstat(from, &source);
    if (rc == 0)
        rc = copy_directory(from, tree, source.st_dev, 0);
    return rc == 0 ? copy_attributes(tree, ".", &source) : rc;
}
