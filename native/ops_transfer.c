/* Files into a root that we do not trust and out of it, as a stream of records on our standard input or output.
 *
 * A program that lives in the root can swap names and links at any time. So nothing is looked at by name and then used
 * by name: what is opened is held by its descriptor, and judged by that.
 */
#include <sys/prctl.h>

#include "report.h"
#include "resolve.h"

enum record_kind { RECORD_FILE = 1, RECORD_DATA, RECORD_END, RECORD_DIRECTORY, RECORD_LINK, RECORD_DONE };

enum {
    RECORD_MOST = 65536,
    DEEPEST = 128,
    NAME_BYTES = 256,
    DRAFT_BYTES = 32,
    NEW_MODE = 0600,
    PERMISSIONS = 0777,
    MODE_BITS = 07777,
};

/* What is before each record's payload. */
struct record_head {
    uint16_t kind, mode;
    uint32_t length;
};

#define INSIDE (RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS)

static uint8_t payload[RECORD_MOST + 1];

/* --- both ways --- */

/* All of `length` bytes; -ECANCELED if the other side has given up. */
static int read_all(void *into, size_t length)
{
    uint8_t *at = into;
    while (length) {
        long got = sys(read, 0, at, length);
        if (got == -EINTR)
            continue;
        if (got <= 0)
            return got ? (int)got : -ECANCELED;
        at += got;
        length -= (size_t)got;
    }
    return 0;
}

static int write_all(int fd, const void *bytes, size_t length)
{
    const uint8_t *at = bytes;
    while (length) {
        long written = sys(write, fd, at, length);
        if (written == -EINTR)
            continue;
        if (written < 0)
            return (int)written;
        at += written;
        length -= (size_t)written;
    }
    return 0;
}

static int reopen(int fd, int flags)
{
    char path[32] = "/proc/self/fd/";
    (void)format_number(path + strlen(path), fd);
    return sys_openat(AT_FDCWD, path, flags);
}

/* --- into the root --- */

struct owner {
    uid_t uid;
    gid_t gid;
};

/* What is being filled: directories by their depth, and a file that is not in its place yet. */
struct taking {
    struct owner owner;
    int directories[DEEPEST + 1];
    int depth;
    int file; /* -1: none */
    int result;
    mode_t mode;
    char name[NAME_BYTES], draft[DRAFT_BYTES];
};

static int give(int fd, const struct owner *owner)
{
    struct stat found;
    int rc = sys_fstat(fd, &found);
    if (rc < 0 || (found.st_uid == owner->uid && found.st_gid == owner->gid))
        return rc;
    return (int)sys(fchown, fd, owner->uid, owner->gid);
}

/* A directory that is there or is made: its descriptor. */
static int make_directory(int parent, const char *name, const struct owner *owner, mode_t mode)
{
    long rc = sys(mkdirat, parent, name, 0700);
    if (rc == -EEXIST)
        return open_how(parent, name, O_PATH | O_DIRECTORY, INSIDE);
    if (rc < 0)
        return (int)rc;
    _cleanup_close_ int made = open_how(parent, name, O_RDONLY | O_DIRECTORY, INSIDE);
    rc = made < 0 ? made : give(made, owner);
    if (rc == 0)
        rc = sys(fchmod, made, mode);
    return rc < 0 ? (int)rc : take_fd(&made);
}

/* The end of what is above the last name in `path`. */
static size_t length_above(const char *path, size_t length)
{
    while (length && path[length - 1] != '/')
        length--;
    while (length && path[length - 1] == '/')
        length--;
    return length;
}

/* The directory, links followed inside of the root, made with what is missing above it. */
static int open_directory(int root, const struct text *path, const struct owner *owner)
{
    char there[PATH_BYTES];
    size_t length = path->length;
    if (length >= sizeof there)
        return -ENAMETOOLONG;
    memcpy(there, path->data, length + 1);
    int fd;
    for (;;) {
        fd = open_how(root, length ? there : "/", O_PATH | O_DIRECTORY, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS);
        if (fd != -ENOENT || length == 0)
            break;
        length = length_above(there, length);
        there[length] = 0;
    }
    while (fd >= 0 && length < path->length) {
        char name[NAME_BYTES];
        while (path->data[length] == '/')
            length++;
        size_t size = strcspn(path->data + length, "/");
        if (size == 0)
            break;
        if (size >= sizeof name) {
            (void)sys(close, fd);
            return -ENAMETOOLONG;
        }
        memcpy(name, path->data + length, size);
        name[size] = 0;
        length += size;
        _cleanup_close_ int above = fd;
        fd = make_directory(above, name, owner, PARENT_MODE);
    }
    return fd;
}

static int make_draft_name(char name[DRAFT_BYTES])
{
    static const char digits[] = "0123456789abcdef", end[] = ".boxwright";
    uint8_t random[8];
    long got = sys(getrandom, random, sizeof random, 0);
    if (got != sizeof random)
        return got < 0 ? (int)got : -EIO;
    *name++ = '.';
    for (size_t i = 0; i < sizeof random; i++) {
        *name++ = digits[random[i] >> 4];
        *name++ = digits[random[i] & 15];
    }
    memcpy(name, end, sizeof end);
    return 0;
}

static int parent_of(const struct taking *taking)
{
    return taking->directories[taking->depth];
}

static int move_draft(const struct taking *taking)
{
    return (int)sys(renameat2, parent_of(taking), taking->draft, parent_of(taking), taking->name, 0);
}

static void remove_draft(struct taking *taking)
{
    (void)sys(unlinkat, parent_of(taking), taking->draft, 0);
    close_at_scope_end(&taking->file);
    taking->file = -1;
}

static int begin_file(struct taking *taking, mode_t mode)
{
    int rc = make_draft_name(taking->draft);
    if (rc < 0)
        return rc;
    enum { NEW = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC };
    taking->file = (int)sys(openat, parent_of(taking), taking->draft, NEW, NEW_MODE);
    taking->mode = mode;
    return taking->file < 0 ? taking->file : 0;
}

/* It is given away only in its place: in a directory like /tmp its creator may rename it, and others may not. */
static int end_file(struct taking *taking)
{
    int rc = (int)sys(fchmod, taking->file, taking->mode & PERMISSIONS);
    if (rc == 0)
        rc = move_draft(taking);
    if (rc < 0)
        return rc;
    rc = give(taking->file, &taking->owner);
    if (rc == 0)
        rc = (int)sys(fchmod, taking->file, taking->mode); /* set-id bits go with the old owner */
    (void)sys(close, taking->file);
    taking->file = -1;
    return rc;
}

static int make_link(struct taking *taking, const char *target)
{
    int rc = make_draft_name(taking->draft);
    if (rc == 0)
        rc = (int)sys(symlinkat, target, parent_of(taking), taking->draft);
    if (rc < 0)
        return rc;
    rc = move_draft(taking);
    if (rc < 0)
        (void)sys(unlinkat, parent_of(taking), taking->draft, 0);
    return rc;
}

static int begin_directory(struct taking *taking, mode_t mode)
{
    if (taking->depth >= DEEPEST)
        return -ELOOP;
    int fd = make_directory(parent_of(taking), taking->name, &taking->owner, mode);
    if (fd >= 0)
        taking->directories[++taking->depth] = fd;
    return fd < 0 ? fd : 0;
}

static int end_directory(struct taking *taking)
{
    if (taking->depth == 0)
        return -EBADMSG;
    (void)sys(close, taking->directories[taking->depth--]);
    return 0;
}

/* The name of what follows; at the top it has none, and that of the operation counts. */
static int take_name(struct taking *taking, const struct text *top)
{
    const char *name = taking->depth ? (const char *)payload : top->data;
    size_t length = strlen(name);
    if (length == 0 || length >= sizeof taking->name || strchr(name, '/'))
        return length < sizeof taking->name ? -EBADMSG : -ENAMETOOLONG;
    memcpy(taking->name, name, length + 1);
    return 0;
}

/* After a link's name comes its target. */
static int take_link(struct taking *taking, size_t length)
{
    size_t name = strlen((const char *)payload) + 1;
    return name > length ? -EBADMSG : make_link(taking, (const char *)payload + name);
}

static int take_entry(struct taking *taking, const struct record_head *head, const struct text *top)
{
    int rc = take_name(taking, top);
    mode_t mode = head->mode & MODE_BITS;
    if (rc < 0)
        return rc;
    if (head->kind == RECORD_FILE)
        return begin_file(taking, mode);
    return head->kind == RECORD_DIRECTORY ? begin_directory(taking, mode) : take_link(taking, head->length);
}

static int take_record(struct taking *taking, const struct record_head *head, const struct text *top)
{
    if (taking->file >= 0) {
        if (head->kind == RECORD_DATA)
            return write_all(taking->file, payload, head->length);
        return head->kind == RECORD_END ? end_file(taking) : -EBADMSG;
    }
    if (head->kind == RECORD_END)
        return end_directory(taking);
    bool is_entry = head->kind == RECORD_FILE || head->kind == RECORD_DIRECTORY || head->kind == RECORD_LINK;
    return is_entry ? take_entry(taking, head, top) : -EBADMSG;
}

static int take_records(struct taking *taking, const struct text *top)
{
    struct record_head head;
    int rc;
    while ((rc = read_all(&head, sizeof head)) == 0 && head.kind != RECORD_DONE) {
        if (head.length > RECORD_MOST)
            return -EBADMSG;
        rc = read_all(payload, head.length);
        payload[head.length] = 0;
        if (rc == 0)
            rc = take_record(taking, &head, top);
        if (rc < 0)
            return rc;
    }
    return rc;
}

static void be_killed_first(void)
{
    static const char most[] = "1000";
    _cleanup_close_ int score = sys_openat(AT_FDCWD, "/proc/self/oom_score_adj", O_WRONLY);
    (void)sys_prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (score >= 0)
        (void)sys(write, score, most, sizeof most - 1);
}

/* What is taken is counted to who takes it. Where memory runs out a child of ours is killed for it, and what it held
 * is given back: our descriptors are its. */
static int take_in_child(struct taking *taking, const struct text *top)
{
    struct clone3_args args = {.flags = CLONE_FILES, .exit_signal = SIGCHLD};
    int status = 0;
    pid_t pid = (pid_t)sys_clone3(&args);
    if (pid < 0)
        return pid;
    if (pid == 0) {
        be_killed_first();
        taking->result = take_records(taking, top);
        sys_exit(0);
    }
    while (sys(wait4, pid, &status, 0, NULL) == -EINTR)
        continue;
    if (taking->file >= 0)
        remove_draft(taking);
    return status ? -ENOMEM : taking->result;
}

int do_TakeFiles(struct actor *me, const struct TakeFiles *op)
{
    int root = slot_fd(me, op->root);
    if (root < 0)
        return root;
    if (op->uid < 0 || op->gid < 0 || !is_id(op->uid) || !is_id(op->gid))
        return -EINVAL;
    long at = sys(mmap, NULL, sizeof(struct taking), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (at < 0 && at > -4096)
        return (int)at;
    struct taking *taking = (struct taking *)at;
    taking->file = -1;
    taking->owner = (struct owner){(uid_t)op->uid, (gid_t)op->gid};
    taking->directories[0] = open_directory(root, &op->directory, &taking->owner);
    return taking->directories[0] < 0 ? taking->directories[0] : take_in_child(taking, &op->name);
}

/* --- out of the root --- */

struct giving {
    int64_t most_bytes, bytes; /* most_bytes -1: no limit */
};

static int give_record(enum record_kind kind, mode_t mode, const void *first, size_t length)
{
    struct record_head head = {(uint16_t)kind, (uint16_t)(mode & PERMISSIONS), (uint32_t)length};
    int rc = write_all(1, &head, sizeof head);
    return rc == 0 ? write_all(1, first, length) : rc;
}

/* Those whose reading has effects: procfs, sysfs, both kinds of cgroups, debugfs, tracefs, securityfs (statfs(2)). */
static int check_regular(int fd, const struct stat *found)
{
    static const uint64_t kernels[] = {PROC_MAGIC, SYSFS_MAGIC, 0x27e0eb, 0x63677270, 0x64626720, 0x74726163, 0x73636673};
    struct {
        uint64_t type, rest[31];
    } system;
    if (!S_ISREG(found->st_mode))
        return S_ISDIR(found->st_mode) ? -EISDIR : -EPERM;
    long rc = sys(fstatfs, fd, &system);
    for (size_t i = 0; rc == 0 && i < sizeof kernels / sizeof *kernels; i++)
        rc = system.type == kernels[i] ? -EPERM : 0;
    return (int)rc;
}

static int give_file(struct giving *giving, int fd, const struct stat *found, const char *name)
{
    int rc = check_regular(fd, found);
    if (rc < 0)
        return rc;
    _cleanup_close_ int file = reopen(fd, O_RDONLY | O_NONBLOCK | O_NOCTTY);
    rc = file < 0 ? file : give_record(RECORD_FILE, found->st_mode, name, strlen(name));
    long got = 1;
    while (rc == 0 && (got = sys(read, file, payload, RECORD_MOST)) > 0) {
        giving->bytes += got;
        bool is_too_much = giving->most_bytes >= 0 && giving->bytes > giving->most_bytes;
        rc = is_too_much ? -EFBIG : give_record(RECORD_DATA, 0, payload, (size_t)got);
    }
    if (rc == 0 && got < 0)
        rc = (int)got;
    return rc == 0 ? give_record(RECORD_END, 0, NULL, 0) : rc;
}

static int give_link(int fd, const char *name)
{
    size_t length = strlen(name) + 1;
    memcpy(payload, name, length);
    long got = sys(readlinkat, fd, "", payload + length, PATH_BYTES);
    return got < 0 ? (int)got : give_record(RECORD_LINK, 0, payload, length + (size_t)got);
}

static int give_any(struct giving *giving, int fd, const char *name, int depth);

static int give_entry(struct giving *giving, int directory, const char *name, int depth)
{
    if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
        return 0;
    _cleanup_close_ int fd = sys_openat(directory, name, O_PATH | O_NOFOLLOW);
    return fd == -ENOENT ? 0 : fd < 0 ? fd : give_any(giving, fd, name, depth);
}

/* linux/dirent.h: struct linux_dirent64 */
struct entry {
    uint64_t inode, offset;
    uint16_t length;
    uint8_t type;
    char name[];
};

static int give_directory(struct giving *giving, int fd, const struct stat *found, const char *name, int depth)
{
    char listing[2048] __attribute__((aligned(8)));
    if (depth >= DEEPEST)
        return -ELOOP;
    _cleanup_close_ int directory = reopen(fd, O_RDONLY | O_DIRECTORY);
    int rc = directory < 0 ? directory : give_record(RECORD_DIRECTORY, found->st_mode, name, strlen(name));
    long got = 0;
    while (rc == 0 && (got = sys(getdents64, directory, listing, sizeof listing)) > 0)
        for (long at = 0; at < got && rc == 0;) {
            const struct entry *entry = (const struct entry *)(void *)(listing + at);
            at += entry->length;
            rc = give_entry(giving, directory, entry->name, depth + 1);
        }
    if (rc == 0 && got < 0)
        rc = (int)got;
    return rc == 0 ? give_record(RECORD_END, 0, NULL, 0) : rc;
}

/* What is no file, directory or link is left out, unless it is what was asked for. */
static int give_any(struct giving *giving, int fd, const char *name, int depth)
{
    struct stat found;
    int rc = sys_fstat(fd, &found);
    if (rc < 0)
        return rc;
    if (S_ISDIR(found.st_mode))
        return give_directory(giving, fd, &found, name, depth);
    if (S_ISLNK(found.st_mode))
        return give_link(fd, name);
    return S_ISREG(found.st_mode) || depth == 0 ? give_file(giving, fd, &found, name) : 0;
}

int do_GiveFiles(struct actor *me, const struct GiveFiles *op)
{
    struct giving giving = {.most_bytes = op->most_bytes};
    struct stat found;
    int root = slot_fd(me, op->root);
    if (root < 0)
        return root;
    _cleanup_close_ int fd = open_how(root, op->path.data, O_PATH, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS);
    int rc = fd < 0 ? fd : sys_fstat(fd, &found);
    if (rc == 0)
        rc = op->tree ? give_any(&giving, fd, "", 0) : give_file(&giving, fd, &found, "");
    return rc == 0 ? give_record(RECORD_DONE, 0, NULL, 0) : rc;
}
