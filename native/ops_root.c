/* What the container finds in its root, and making that root the root. */
#include <sys/statfs.h>

#include "resolve.h"

/* Give a node that we hold by `fd` to its owner. */
static int own(int fd, int64_t uid, int64_t gid)
{
    if (!is_id(uid) || !is_id(gid))
        return -EINVAL;
    return (int)sys(fchownat, fd, "", (uid_t)uid, (gid_t)gid, AT_EMPTY_PATH);
}

/* Whether a node has the type in `mode`, and for a device its numbers. */
static bool is_node(const struct stat *found, int64_t mode, int64_t major, int64_t minor)
{
    mode_t type = (mode_t)mode & S_IFMT;
    bool is_device = type == S_IFCHR || type == S_IFBLK;
    dev_t wanted = (dev_t)major << 8 | ((dev_t)minor & 0xff) | ((dev_t)minor & ~(dev_t)0xff) << 12;
    return (found->st_mode & S_IFMT) == type && (!is_device || found->st_rdev == wanted);
}

/* Open what stands at `name`, if it is the device that is wanted. */
static int open_node(int parent, const char *name, const struct MakeNode *op)
{
    struct stat found;
    int fd = open_how(parent, name, O_PATH | O_NOFOLLOW, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS);
    int rc = fd < 0 ? fd : sys_fstat(fd, &found);
    if (rc < 0)
        return rc == -ELOOP ? -EEXIST : rc;
    if (is_node(&found, op->mode, op->major, op->minor))
        return fd;
    (void)sys(close, fd);
    return -EEXIST;
}

/* mknod(2) takes the kernel's 32 bit form of a device number: 12 bits of major between 8 and 12 of minor. */
static bool is_device_number(int64_t major, int64_t minor)
{
    return major >= 0 && major < 1 << 12 && minor >= 0 && minor < 1 << 20;
}

int do_MakeNode(struct actor *me, const struct MakeNode *op)
{
    char name[256];
    int root = slot_fd(me, op->root);
    if (root < 0)
        return root;
    if (!is_device_number(op->major, op->minor))
        return -EINVAL;
    _cleanup_close_ int parent = resolve_parent(root, op->path.data, name);
    if (parent < 0)
        return parent;
    uint64_t minor_number = (uint64_t)op->minor;
    uint64_t device = (minor_number & 0xff) | (uint64_t)op->major << 8 | (minor_number & ~0xffULL) << 12;
    long made = sys(mknodat, parent, name, op->mode, device);
    if (made < 0 && made != -EEXIST)
        return (int)made;
    _cleanup_close_ int node = open_node(parent, name, op);
    if (node < 0 || made == -EEXIST)
        return node < 0 ? node : 0;
    return own(node, op->uid, op->gid);
}

int do_CheckNode(struct actor *me, const struct CheckNode *op)
{
    struct stat found;
    int node = slot_fd(me, op->node);
    if (node < 0)
        return node;
    if (!is_device_number(op->major, op->minor))
        return -EINVAL;
    int rc = sys_fstat(node, &found);
    if (rc < 0)
        return rc;
    return is_node(&found, op->mode, op->major, op->minor) ? 0 : -ENODEV;
}

int do_MakeSymlink(struct actor *me, const struct MakeSymlink *op)
{
    char name[256];
    int root = slot_fd(me, op->root);
    if (root < 0)
        return root;
    if (op->if_exists.length) {
        _cleanup_close_ int wanted = resolve_existing(root, op->if_exists.data, O_NOFOLLOW);
        if (wanted < 0)
            return wanted == -ENOENT || wanted == -ENOTDIR ? 0 : wanted;
    }
    _cleanup_close_ int parent = resolve_parent(root, op->path.data, name);
    if (parent < 0)
        return parent;
    long rc = sys(symlinkat, op->target.data, parent, name);
    return rc == -EEXIST ? 0 : (int)rc;
}

int do_MakeDirAt(struct actor *me, const struct MakeDirAt *op)
{
    int directory = slot_fd(me, op->directory);
    if (directory < 0)
        return directory;
    _cleanup_close_ int made =
        resolve_or_create(directory, op->name.data, DIRECTORY, (mode_t)op->mode, RESOLVE_NO_SYMLINKS);
    return made < 0 ? made : own(made, op->uid, op->gid);
}

/* The old root lies over the new one afterwards, which is where it is taken away again. Slave first: the unmounting
 * must not reach the host. */
int do_PivotRoot(struct actor *me, const struct PivotRoot *op)
{
    int root = slot_fd(me, op->root);
    if (root < 0)
        return root;
    _cleanup_close_ int old = sys_openat(AT_FDCWD, "/", O_PATH | O_DIRECTORY);
    if (old < 0)
        return old;
    long rc = sys(fchdir, root);
    if (rc == 0)
        rc = sys(pivot_root, ".", ".");
    if (rc == 0)
        rc = sys(fchdir, old);
    if (rc == 0)
        rc = sys(mount, NULL, ".", NULL, MS_SLAVE | MS_REC, NULL);
    if (rc == 0)
        rc = sys(umount2, ".", MNT_DETACH);
    return rc == 0 ? (int)sys(chdir, "/") : (int)rc;
}

/* Whoever escapes from a chroot over an initramfs must not find the host's procfs and sysfs there. */
static int hide(const char *path, unsigned long magic)
{
    struct statfs found;
    long rc = sys(statfs, path, &found);
    if (rc < 0)
        return rc == -ENOENT ? 0 : (int)rc;
    if ((unsigned long)found.f_type != magic)
        return 0;
    rc = sys(mount, NULL, path, NULL, MS_SLAVE | MS_REC, NULL);
    if (rc == 0)
        rc = sys(umount2, path, MNT_DETACH);
    if (rc == -EINVAL || rc == -EPERM) /* locked by a user namespace */
        rc = sys(mount, "tmpfs", path, "tmpfs", MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, "size=4k");
    return (int)rc;
}

static int chroot_here(void)
{
    long rc = sys(chroot, ".");
    return rc == 0 ? (int)sys(chdir, "/") : (int)rc;
}

int do_MoveRoot(struct actor *me, const struct MoveRoot *op)
{
    int root = slot_fd(me, op->root);
    if (root < 0)
        return root;
    long rc = hide("/proc", PROC_MAGIC);
    if (rc == 0)
        rc = hide("/sys", SYSFS_MAGIC);
    if (rc == 0)
        rc = sys(fchdir, root);
    if (rc == 0)
        rc = sys(mount, ".", "/", NULL, MS_MOVE, NULL);
    return rc == 0 ? chroot_here() : (int)rc;
}

int do_Chroot(struct actor *me, const struct Chroot *op)
{
    int root = slot_fd(me, op->root);
    if (root < 0)
        return root;
    long rc = sys(fchdir, root);
    return rc == 0 ? chroot_here() : (int)rc;
}
