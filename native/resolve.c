#include "resolve.h"

#include <sys/statfs.h>

enum { TRIES = 128, NAME_BYTES = 256 };

/* What we create is made beneath a descriptor that we hold, and then opened without following anything. */
static const uint64_t OWN_WORK = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS;

int open_how(int directory, const char *path, uint64_t flags, uint64_t resolve)
{
    struct how how = {.flags = flags | O_CLOEXEC, .resolve = resolve};
    long fd = -EAGAIN;
    for (int tries = 0; tries < TRIES && (fd == -EAGAIN || fd == -EINTR); tries++)
        fd = sys(openat2, directory, path, &how, sizeof how);
    return (int)fd;
}

/* In a root, "" and "/" name the root itself. */
static const char *beneath(const char *path)
{
    while (*path == '/')
        path++;
    return *path ? path : ".";
}

int resolve_existing(int root, const char *path, uint64_t flags)
{
    return open_how(root, beneath(path), O_PATH | flags, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS);
}

/* Take the component at `*path` into `name`, and go on to the next one. 1, 0 at the end, or -errno. */
static int next_component(const char **path, char name[NAME_BYTES])
{
    const char *start = *path;
    while (*start == '/')
        start++;
    size_t length = strcspn(start, "/");
    if (length == 0)
        return 0;
    if (length >= NAME_BYTES)
        return -ENAMETOOLONG;
    memcpy(name, start, length);
    name[length] = 0;
    *path = start + length;
    return 1;
}

static const char *skip_slashes(const char *path)
{
    return path + strspn(path, "/");
}

/* Make `name` beneath `directory` unless it is there, and open it; a symbolic link there is ELOOP. */
static int make_beneath(int directory, const char *name, enum resolve_kind kind, mode_t mode)
{
    long rc = kind == DIRECTORY ? sys(mkdirat, directory, name, mode)
                                : sys(mknodat, directory, name, S_IFREG | (mode & 07777), 0);
    if (rc < 0 && rc != -EEXIST)
        return (int)rc;
    return open_how(directory, name, O_PATH | (kind == DIRECTORY ? O_DIRECTORY : 0), OWN_WORK);
}

/* Open the longest leading part of `path` that exists, links included; `*rest` is what is missing. */
static int open_leading(int root, const char *path, uint64_t no_symlinks, const char **rest)
{
    static char leading[PATH_BYTES];
    size_t length = strlen(path);
    if (length >= sizeof leading)
        return -ENAMETOOLONG;
    memcpy(leading, path, length + 1);
    for (;;) {
        while (length > 0 && leading[length - 1] != '/')
            length--;
        while (length > 0 && leading[length - 1] == '/')
            length--;
        leading[length] = 0;
        *rest = path + length;
        int fd = open_how(root, length ? leading : ".", O_PATH | O_DIRECTORY,
                          RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | no_symlinks);
        if (fd != -ENOENT || length == 0)
            return fd;
    }
}

/* Create the components of `rest` beneath `directory`, which is given away. */
static int create_rest(int directory, const char *rest, enum resolve_kind kind, mode_t mode)
{
    char name[NAME_BYTES];
    int rc;
    while ((rc = next_component(&rest, name)) > 0) {
        bool last = *skip_slashes(rest) == 0;
        int next = last ? make_beneath(directory, name, kind, mode) : make_beneath(directory, name, DIRECTORY, PARENT_MODE);
        (void)sys(close, directory);
        if (next < 0)
            return next;
        directory = next;
    }
    if (rc == 0)
        return directory;
    (void)sys(close, directory);
    return rc;
}

static int check_kind(int fd, enum resolve_kind kind)
{
    struct stat found;
    if (fd < 0 || kind != FILE_)
        return fd;
    int rc = sys_fstat(fd, &found);
    if (rc == 0 && S_ISDIR(found.st_mode))
        rc = -EISDIR;
    if (rc == 0)
        return fd;
    (void)sys(close, fd);
    return rc;
}

/* If what is missing begins with a link that leads nowhere, write the path by which it goes on into `next`: 1. Else 0,
 * or -errno. Where it leads is resolved in the root again, so it cannot lead out. */
static int follow_dangling(int leading, const char *path, const char *rest, char next[PATH_BYTES])
{
    char name[NAME_BYTES], target[PATH_BYTES];
    const char *after = rest;
    int rc = next_component(&after, name);
    if (rc <= 0)
        return rc;
    long length = sys(readlinkat, leading, name, target, sizeof target - 1);
    if (length < 0)
        return length == -EINVAL || length == -ENOENT ? 0 : (int)length;
    target[length] = 0;
    size_t before = target[0] == '/' ? 0 : (size_t)(rest - path);
    if (before + (size_t)length + strlen(after) + 2 > PATH_BYTES)
        return -ENAMETOOLONG;
    memcpy(next, path, before);
    next[before] = '/';
    memcpy(next + before + 1, target, (size_t)length);
    memcpy(next + before + 1 + length, after, strlen(after) + 1);
    return 1;
}

int resolve_or_create(int root, const char *path, enum resolve_kind kind, mode_t mode, uint64_t no_symlinks)
{
    enum { MOST_LINKS = 40 };
    static char paths[2][PATH_BYTES];
    uint64_t flags = O_PATH | (kind == DIRECTORY ? O_DIRECTORY : 0);
    for (int links = 0; links < MOST_LINKS; links++) {
        path = beneath(path);
        int fd = open_how(root, path, flags, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | no_symlinks);
        if (fd != -ENOENT || kind == EXISTING)
            return check_kind(fd, kind);
        const char *rest;
        int leading = open_leading(root, path, no_symlinks, &rest);
        if (leading < 0)
            return leading;
        int rc = no_symlinks ? 0 : follow_dangling(leading, path, rest, paths[links % 2]);
        if (rc == 0)
            return check_kind(create_rest(leading, rest, kind, mode), kind);
        (void)sys(close, leading);
        if (rc < 0)
            return rc;
        path = paths[links % 2];
    }
    return -ELOOP;
}

int resolve_parent(int root, const char *path, char name[NAME_BYTES])
{
    static char parent[PATH_BYTES];
    path = beneath(path);
    size_t length = strlen(path);
    while (length > 0 && path[length - 1] == '/')
        length--;
    size_t start = length;
    while (start > 0 && path[start - 1] != '/')
        start--;
    if (start >= sizeof parent || length - start >= NAME_BYTES)
        return -ENAMETOOLONG;
    memcpy(parent, path, start);
    parent[start] = 0;
    memcpy(name, path + start, length - start);
    name[length - start] = 0;
    if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
        return -EINVAL;
    return resolve_or_create(root, parent, DIRECTORY, PARENT_MODE, 0);
}

/* What is mounted over procfs would be taken for the kernel's word (CVE-2019-16884). */
static int check_not_proc(struct actor *me, int fd)
{
    struct statfs found;
    long rc = fd < 0 ? fd : sys(fstatfs, fd, &found);
    if (rc == 0 && found.f_type == PROC_MAGIC) {
        me->failure.value = PROC_MAGIC;
        rc = -EPERM;
    }
    if (rc == 0)
        return fd;
    if (fd >= 0)
        (void)sys(close, fd);
    return (int)rc;
}

/* What is there already has to be a node like the model. */
static int resolve_node(int root, const char *path, mode_t mode, int like)
{
    struct stat model, found;
    int fd = open_how(root, beneath(path), O_PATH, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS);
    if (fd < 0)
        return fd == -ENOENT ? resolve_or_create(root, path, FILE_, mode, 0) : fd;
    int rc = sys_fstat(like, &model);
    if (rc == 0)
        rc = sys_fstat(fd, &found);
    if (rc == 0 && ((model.st_mode & S_IFMT) != (found.st_mode & S_IFMT) || model.st_rdev != found.st_rdev))
        rc = -EEXIST;
    if (rc == 0)
        return fd;
    (void)sys(close, fd);
    return rc;
}

int do_Resolve(struct actor *me, const struct Resolve *op)
{
    enum { NO_SYMLINKS = 1, NOT_PROC = 2 };
    int root = slot_fd(me, op->root);
    if (root < 0)
        return root;
    int64_t kind = op->kind;
    int like = kind == LIKE || kind == SAME_NODE ? slot_fd(me, op->like) : -EINVAL;
    if (kind == SAME_NODE)
        return like < 0 ? like : slot_fill(me, op->slot, resolve_node(root, op->path.data, (mode_t)op->mode, like));
    if (kind == LIKE) {
        struct stat model;
        int rc = like < 0 ? like : sys_fstat(like, &model);
        if (rc < 0)
            return rc;
        kind = S_ISDIR(model.st_mode) ? DIRECTORY : FILE_;
    }
    if (kind < EXISTING || kind > FILE_)
        return -EINVAL;
    uint64_t no_symlinks = op->flags & NO_SYMLINKS ? RESOLVE_NO_SYMLINKS : 0;
    int fd = resolve_or_create(root, op->path.data, (enum resolve_kind)kind, (mode_t)op->mode, no_symlinks);
    return slot_fill(me, op->slot, op->flags & NOT_PROC ? check_not_proc(me, fd) : fd);
}
