/* The home directory of the program's user, and the init of a box without a program. */
#include <poll.h>
#include <sys/signalfd.h>
#include <sys/wait.h>

#include "hook.h"
#include "resolve.h"

enum { PASSWD_MOST = 1 << 20, LINE_BYTES = 1024 };

/* What is left of a line being read: longer ones than any entry can be are passed over. */
struct line {
    char text[LINE_BYTES];
    size_t length;
    bool too_long;
};

/* The field at `index` of the colon-separated `line`, ended by a NUL in its place; NULL if there are fewer. */
static char *field(char *line, int index)
{
    for (; index > 0; index--) {
        line = strchr(line, ':');
        if (!line)
            return NULL;
        line++;
    }
    return line;
}

static bool is_number(const char *text, int64_t wanted)
{
    uint64_t number = 0;
    if (*text < '0' || *text > '9')
        return false;
    for (; *text >= '0' && *text <= '9' && number <= UINT32_MAX; text++)
        number = number * 10 + (uint64_t)(*text - '0');
    return *text == ':' && number == (uint64_t)wanted;
}

/* name:password:uid:gid:comment:home:shell */
static bool take_entry(struct actor *me, struct line *line, int64_t uid)
{
    enum { UID = 2, HOME = 5 };
    line->text[line->length] = 0;
    char *number = line->too_long ? NULL : field(line->text, UID);
    char *home = number && is_number(number, uid) ? field(line->text, HOME) : NULL;
    if (!home || *home != '/')
        return false;
    size_t length = strcspn(home, ":");
    memcpy(me->home, "HOME=", 5);
    memcpy(me->home + 5, home, length);
    me->home[5 + length] = 0;
    return true;
}

static bool take_bytes(struct actor *me, struct line *line, const char *bytes, size_t count, int64_t uid)
{
    for (size_t at = 0; at < count; at++) {
        if (bytes[at] != '\n') {
            line->too_long |= line->length == LINE_BYTES - 1;
            if (!line->too_long)
                line->text[line->length++] = bytes[at];
            continue;
        }
        if (take_entry(me, line, uid))
            return true;
        line->length = 0;
        line->too_long = false;
    }
    return false;
}

static void read_passwd(struct actor *me, int file, int64_t uid)
{
    static char buffer[4096];
    static struct line line;
    long got;
    for (size_t total = 0; total < PASSWD_MOST; total += (size_t)got) {
        got = sys(read, file, buffer, sizeof buffer);
        if (got <= 0 || take_bytes(me, &line, buffer, (size_t)got, uid))
            break;
    }
    if (me->home[0] == 0)
        (void)take_entry(me, &line, uid); /* a last line without its end */
}

/* The file belongs to the image: it may be anything, and is opened without waiting for whoever could be behind it. */
int do_FindHome(struct actor *me, const struct FindHome *op)
{
    struct stat found;
    me->home[0] = 0;
    _cleanup_close_ int root = sys_openat(AT_FDCWD, "/", O_PATH | O_DIRECTORY);
    if (root < 0)
        return root;
    _cleanup_close_ int file = open_how(root, "etc/passwd", O_RDONLY | O_NONBLOCK | O_NOCTTY,
                                        RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS);
    if (file >= 0 && sys_fstat(file, &found) == 0 && S_ISREG(found.st_mode))
        read_passwd(me, file, op->uid);
    if (me->home[0] == 0)
        memcpy(me->home, "HOME=/", 7);
    return 0;
}

/* Reap everything that ends below us, and end when we are told to, or when nobody holds the other end of `lifeline`. */
static _Noreturn void idle(int lifeline)
{
    uint64_t wanted = 1ULL << (SIGCHLD - 1) | 1ULL << (SIGTERM - 1);
    (void)sys(rt_sigprocmask, SIG_SETMASK, &wanted, NULL, sizeof wanted);
    struct pollfd ends[2] = {
        {.fd = (int)sys(signalfd4, -1, &wanted, sizeof wanted, SFD_CLOEXEC | SFD_NONBLOCK), .events = POLLIN},
        {.fd = lifeline, .events = 0}, /* negative: not looked at; else POLLHUP */
    };
    while (ends[0].fd >= 0) {
        struct signalfd_siginfo told;
        while (sys(read, ends[0].fd, &told, sizeof told) > 0)
            if (told.ssi_signo == SIGTERM)
                sys_exit(0);
        /* only now: who ends after this makes the descriptor readable again */
        while (sys(wait4, -1, NULL, WNOHANG, NULL) > 0)
            continue;
        (void)sys(ppoll, ends, 2, NULL, NULL, 0);
        if (ends[1].revents)
            break;
    }
    sys_exit(1);
}

int do_Idle(struct actor *me, const struct Idle *op)
{
    enum { LIFELINE = 3 };
    int null = slot_fd(me, op->null);
    int lifeline = -1;
    for (int fd = 0; fd <= 2 && null >= 0; fd++) {
        long rc = sys(dup3, null, fd, 0);
        null = rc < 0 ? (int)rc : null;
    }
    if (null < 0)
        return null;
    if (op->lifeline != NO_SLOT) {
        lifeline = slot_fd(me, op->lifeline);
        if (lifeline != LIFELINE)
            lifeline = lifeline < 0 ? lifeline : (int)sys(dup3, lifeline, LIFELINE, O_CLOEXEC);
        if (lifeline < 0)
            return lifeline;
    }
    reset_signals();
    (void)sys(close_range, LIFELINE + (op->lifeline != NO_SLOT), EVERY_FD, 0);
    idle(lifeline);
}
