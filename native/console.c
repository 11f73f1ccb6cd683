/* The pseudoterminal of the container, made inside of it and trusted for what it is, not for where it is. */
#include <sys/ioctl.h>
#include <sys/statfs.h>

#include "report.h"
#include "resolve.h"

#define TERMINAL_SET_LOCK 0x40045431UL
#define TERMINAL_OPEN_PEER 0x5441UL
#define TERMINAL_SET_SIZE 0x5414UL
#define TERMINAL_SET_CONTROLLING 0x540EUL

static int check_devpts(int fd)
{
    struct statfs found;
    long rc = sys(fstatfs, fd, &found);
    if (rc < 0)
        return (int)rc;
    return found.f_type == DEVPTS_MAGIC ? 0 : -ENODEV;
}

/* Only devices stand in a devpts, so what opens beneath a verified one does nothing unexpected. */
static int open_master(int root)
{
    struct stat found;
    _cleanup_close_ int directory = resolve_existing(root, "dev/pts", O_DIRECTORY);
    int rc = directory < 0 ? directory : check_devpts(directory);
    if (rc < 0)
        return rc;
    _cleanup_close_ int master = open_how(directory, "ptmx", O_RDWR | O_NOCTTY,
                                          RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV);
    rc = master < 0 ? master : sys_fstat(master, &found);
    if (rc < 0)
        return rc;
    return is_character_device(&found, 5, 2) ? take_fd(&master) : -ENODEV;
}

/* The other end of `master`: TIOCGPTPEER, so that no path is looked up (CVE-2025-52565). */
static int open_peer(int master)
{
    struct stat found;
    int unlocked = 0;
    long rc = sys(ioctl, master, TERMINAL_SET_LOCK, &unlocked);
    if (rc < 0)
        return (int)rc;
    _cleanup_close_ int peer = (int)sys(ioctl, master, TERMINAL_OPEN_PEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
    rc = peer < 0 ? peer : check_devpts(peer);
    if (rc == 0)
        rc = sys_fstat(peer, &found);
    if (rc < 0)
        return (int)rc;
    return is_pseudoterminal(&found) ? take_fd(&peer) : -ENODEV;
}

static int set_size(const struct actor *me, int terminal, const struct Console *op)
{
    struct {
        uint16_t rows, columns, x_pixels, y_pixels;
    } size = {(uint16_t)op->height, (uint16_t)op->width, 0, 0};
    if (op->height < 0 || op->height > UINT16_MAX || op->width < 0 || op->width > UINT16_MAX)
        return -EINVAL;
    if (op->height == 0 && op->width == 0) {
        size.rows = me->shared->rows;
        size.columns = me->shared->columns;
    }
    if (size.rows == 0 && size.columns == 0)
        return 0;
    return (int)sys(ioctl, terminal, TERMINAL_SET_SIZE, &size);
}

static int bind_console(int root, int peer)
{
    _cleanup_close_ int place = resolve_or_create(root, "dev/console", FILE_, 0600, 0);
    if (place < 0)
        return place;
    _cleanup_close_ int tree = sys_clone_tree(peer, 0);
    return tree < 0 ? tree : sys_move_mount(tree, place);
}

static int become_terminal(int peer)
{
    long rc = sys(ioctl, peer, TERMINAL_SET_CONTROLLING, 0);
    for (int fd = 0; fd <= 2 && rc >= 0; fd++)
        rc = sys(dup3, peer, fd, 0);
    return rc < 0 ? (int)rc : 0;
}

/* The text is what engines expect to read beside the descriptor: the master's path. */
static int hand_over(struct actor *me, int master, int64_t out)
{
    static char path[] = "/dev/ptmx";
    if (out == NO_SLOT)
        return report(me, TERMINAL, 0, 0, (struct text){path, sizeof path - 1}, master);
    int socket = slot_fd(me, out);
    struct iovec part = {.iov_base = path, .iov_len = sizeof path - 1};
    return socket < 0 ? socket : send_with_fd(socket, &part, 1, master);
}

int do_Console(struct actor *me, const struct Console *op)
{
    int root = slot_fd(me, op->root);
    if (root < 0)
        return root;
    _cleanup_close_ int master = keep_off_program(me, open_master(root));
    if (master < 0)
        return master;
    _cleanup_close_ int peer = keep_off_program(me, open_peer(master));
    if (peer < 0)
        return peer;
    if (!is_id(op->uid))
        return -EINVAL;
    int rc = set_size(me, peer, op);
    if (rc == 0)
        rc = (int)sys(fchown, peer, (uid_t)op->uid, (gid_t)-1);
    if (rc == 0 && op->bind)
        rc = bind_console(root, peer);
    if (rc == 0)
        rc = hand_over(me, master, op->out);
    return rc == 0 ? become_terminal(peer) : rc;
}
