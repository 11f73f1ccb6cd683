/* Mounts: made detached, changed while nobody sees them, attached to a place that is held by a descriptor. */
#include "report.h"
#include "resolve.h"

int do_SetPropagation(struct actor *me, const struct SetPropagation *op)
{
    (void)me;
    return (int)sys(mount, NULL, op->path.data, NULL, op->flags, NULL);
}

int do_OpenTree(struct actor *me, const struct OpenTree *op)
{
    enum { RECURSIVE = 1 };
    unsigned flags = op->flags & RECURSIVE ? AT_RECURSIVE : 0;
    if (op->directory == AT_HOST) {
        flags |= OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC;
        return slot_fill(me, op->slot, (int)sys(open_tree, AT_FDCWD, op->path.data, flags));
    }
    int root = slot_fd(me, op->directory);
    if (root < 0)
        return root;
    _cleanup_close_ int source = resolve_existing(root, op->path.data, 0);
    return source < 0 ? source : slot_fill(me, op->slot, sys_clone_tree(source, flags));
}

/* The kernel's own words on what it refused, one message per read(2), each led by a letter and a space. */
static void collect_log(struct failure *failure, int context)
{
    char message[256];
    long length;
    while ((length = sys(read, context, message, sizeof message)) > 0) {
        failure_add(failure, message, (size_t)length);
        if (message[length - 1] != '\n')
            failure_add(failure, "\n", 1);
    }
    if (failure->length)
        failure->length--;
}

/* One parameter: `key=value` or the flag `key`. */
static int set_parameter(int context, struct text parameter)
{
    char key[256];
    const char *equals = strchr(parameter.data, '=');
    if (!equals)
        return (int)sys(fsconfig, context, FSCONFIG_SET_FLAG, parameter.data, NULL, 0);
    size_t length = (size_t)(equals - parameter.data);
    if (length >= sizeof key)
        return -EINVAL;
    memcpy(key, parameter.data, length);
    key[length] = 0;
    return (int)sys(fsconfig, context, FSCONFIG_SET_STRING, key, equals + 1, 0);
}

/* All parameters, then the command that makes them count. The failure's value is which of them was refused. */
static int configure(struct actor *me, int context, struct list params, unsigned command)
{
    enum { COMMAND_REFUSED = -2 };
    int rc = 0;
    for (int64_t i = 0; params.count && rc == 0; i++) {
        me->failure.value = i;
        rc = set_parameter(context, list_next_text(&params));
    }
    if (rc == 0) {
        me->failure.value = COMMAND_REFUSED;
        rc = (int)sys(fsconfig, context, command, NULL, NULL, 0);
    }
    if (rc < 0)
        collect_log(&me->failure, context);
    return rc;
}

int do_FsMount(struct actor *me, const struct FsMount *op)
{
    enum { TYPE_REFUSED = -1 };
    me->failure.value = TYPE_REFUSED;
    _cleanup_close_ int context = (int)sys(fsopen, op->fstype.data, FSOPEN_CLOEXEC);
    if (context < 0)
        return context;
    int rc = configure(me, context, op->params, FSCONFIG_CMD_CREATE);
    if (rc < 0)
        return rc;
    int tree = (int)sys(fsmount, context, FSMOUNT_CLOEXEC, op->attr);
    if (tree < 0)
        collect_log(&me->failure, context);
    return slot_fill(me, op->slot, tree);
}

int do_Reconfigure(struct actor *me, const struct Reconfigure *op)
{
    int target = slot_fd(me, op->target);
    if (target < 0)
        return target;
    _cleanup_close_ int context = (int)sys(fspick, target, "", FSPICK_CLOEXEC | FSPICK_EMPTY_PATH);
    return context < 0 ? context : configure(me, context, op->params, FSCONFIG_CMD_RECONFIGURE);
}

int do_SetAttr(struct actor *me, const struct SetAttr *op)
{
    int mount = slot_fd(me, op->slot);
    if (mount < 0)
        return mount;
    struct mount_attributes attributes = {
        .set = (uint64_t)op->attr_set,
        .clear = (uint64_t)op->attr_clear,
        .propagation = (uint64_t)op->propagation,
    };
    if (op->userns != NO_SLOT) {
        int userns = slot_fd(me, op->userns);
        if (userns < 0)
            return userns;
        attributes.set |= MOUNT_ATTR_IDMAP;
        attributes.userns = (uint64_t)userns;
    }
    return sys_mount_setattr(mount, op->recursive ? AT_RECURSIVE : 0, &attributes);
}

int do_AttachRoot(struct actor *me, const struct AttachRoot *op)
{
    int tree = slot_fd(me, op->tree);
    if (tree < 0)
        return tree;
    _cleanup_close_ int place = sys_openat(AT_FDCWD, op->path.data, O_PATH | O_DIRECTORY);
    if (place < 0)
        return place;
    int rc = sys_move_mount(tree, place);
    return rc < 0 ? rc : slot_fill(me, op->slot, sys_openat(tree, ".", O_PATH | O_DIRECTORY));
}

int do_MoveMount(struct actor *me, const struct MoveMount *op)
{
    int tree = slot_fd(me, op->tree);
    int target = slot_fd(me, op->target);
    if (tree < 0 || target < 0)
        return -EBADF;
    return sys_move_mount(tree, target);
}

/* A path that the container does not have needs no protection. */
static bool is_missing(int rc)
{
    return rc == -ENOENT || rc == -ENOTDIR;
}

/* The tree that hides directories: one empty tmpfs, made for the first and cloned for the others. */
static int mask_tree(struct actor *me)
{
    enum { ATTRIBUTES = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC };
    if (me->mask_tree)
        return sys_clone_tree(me->mask_tree, 0);
    _cleanup_close_ int context = (int)sys(fsopen, "tmpfs", FSOPEN_CLOEXEC);
    if (context < 0)
        return context;
    long rc = sys(fsconfig, context, FSCONFIG_SET_STRING, "size", "4k", 0);
    if (rc == 0)
        rc = sys(fsconfig, context, FSCONFIG_SET_STRING, "nr_inodes", "2", 0);
    if (rc == 0)
        rc = sys(fsconfig, context, FSCONFIG_CMD_CREATE, NULL, NULL, 0);
    return rc < 0 ? (int)rc : (int)sys(fsmount, context, FSMOUNT_CLOEXEC, ATTRIBUTES);
}

static int mask_directory(struct actor *me, int target)
{
    int tree = keep_off_program(me, mask_tree(me));
    if (tree < 0)
        return tree;
    int rc = sys_move_mount(tree, target);
    if (rc == 0 && !me->mask_tree)
        me->mask_tree = tree; /* stays open: once attached it can be cloned */
    else
        (void)sys(close, tree);
    return rc;
}

static int mask_file(int target, int null)
{
    struct stat found;
    int rc = sys_fstat(null, &found);
    if (rc < 0)
        return rc;
    if (!is_character_device(&found, 1, 3))
        return -ENXIO; /* somebody put another thing in its place (CVE-2025-31133) */
    _cleanup_close_ int tree = sys_clone_tree(null, 0);
    return tree < 0 ? tree : sys_move_mount(tree, target);
}

int do_Mask(struct actor *me, const struct Mask *op)
{
    int root = slot_fd(me, op->root);
    int null = slot_fd(me, op->null);
    if (root < 0 || null < 0)
        return -EBADF;
    _cleanup_close_ int target = resolve_existing(root, op->path.data, 0);
    if (target < 0)
        return is_missing(target) ? 0 : target;
    struct stat found;
    int rc = sys_fstat(target, &found);
    if (rc < 0)
        return rc;
    return S_ISDIR(found.st_mode) ? mask_directory(me, target) : mask_file(target, null);
}

int do_MakeReadonly(struct actor *me, const struct MakeReadonly *op)
{
    static const struct mount_attributes read_only = {.set = MOUNT_ATTR_RDONLY};
    int root = slot_fd(me, op->root);
    if (root < 0)
        return root;
    _cleanup_close_ int target = resolve_existing(root, op->path.data, 0);
    if (target < 0)
        return is_missing(target) ? 0 : target;
    _cleanup_close_ int tree = sys_clone_tree(target, AT_RECURSIVE);
    if (tree < 0)
        return tree;
    int rc = sys_mount_setattr(tree, AT_RECURSIVE, &read_only);
    return rc < 0 ? rc : sys_move_mount(tree, target);
}
