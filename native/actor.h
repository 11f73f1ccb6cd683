/* The process that performs one actor's steps, and what its operations share.
 *
 * Operations are `int do_NAME(struct actor *me, const struct NAME *op)`: 0, or -errno with what there is to say more in
 * `me->failure`.
 */
#pragma once

#include "plan.h"
#include "sys.h"

enum report_kind { ERROR = 1, CHILD_PID, JOINER_PID, READY, UPCALL, WARNING, HOOK_FAILED, TERMINAL };

enum { TEXT_BYTES = 1024, NO_SLOT = -1, AT_HOST = -1, PATH_BYTES = 4096, FD_BIAS = 1 };

/* One page that all actors share. The kernel itself writes `init` (CLONE_PARENT_SETTID) before the init runs. */
struct shared {
    pid_t init;             /* as the outer sees it */
    int announced[ACTORS];  /* its pid is reported: from now on it may report itself */
    int program_errno[ACTORS]; /* why a program that the actor ran could not be executed */
    uint16_t rows, columns; /* of the terminal, where the plan does not say; 0 and 0: nobody does */
    int listener_fd;        /* seccomp.c */
    int listener_result;
};

/* What a failing operation adds to its errno. */
struct failure {
    uint32_t kind;
    int64_t value;
    size_t length;
    char text[TEXT_BYTES];
};

struct actor {
    enum actor_number self;
    uint32_t index; /* of the step that is being performed */
    struct steps todo;
    struct plan plan;
    int base;   /* the program's descriptors are below it, all of ours are not */
    int report; /* SEQPACKET socket to Python */
    int channels[ACTORS]; /* to the other actors, 0: none */
    int init_end;         /* the init's end of its channel, until it is cloned */
    pid_t joiner_pid;
    int joiner_pidfd; /* 0: none */
    int init_pidfd;
    struct shared *shared;
    mode_t umask; /* of the programs that we run; we ourselves work with 0 */
    bool dies_with_parent;
    int mask_tree; /* the tmpfs over masked directories, 0: none yet */
    char *const *argv; /* of the program, once made ready */
    char *const *env;
    struct failure failure;
    int slots[MAX_SLOTS]; /* descriptor + FD_BIAS, 0: empty, so that unused ones stay untouched zero pages */
    char program[PATH_BYTES];
    char home[PATH_BYTES]; /* `HOME=…` for the program, empty: none */
};

#define OP(code, name, fields) int do_##name(struct actor *me, const struct name *op);
OPERATIONS(OP)
#undef OP

/* --- slots and descriptors (slots.c) --- */

/* The descriptor in `slot`, or -EBADF. */
int slot_fd(const struct actor *me, int64_t slot);

/* As `slot_fd`; AT_HOST gives AT_FDCWD. */
int slot_directory(const struct actor *me, int64_t slot, int *fd);

/* Put `fd` in `slot`, closing what was there. Passes on a negative `fd`. */
int slot_fill(struct actor *me, int64_t slot, int fd);

void slot_close(struct actor *me, int64_t slot);

/* Move `fd` out of the numbers that belong to the program. Passes on a negative `fd`; closes it if it cannot. */
int keep_off_program(const struct actor *me, int fd);

/* --- small things (ops_files.c) --- */

enum { NUMBER_BYTES = 24 };

/* Decimal digits of `number` at `out`, ended by a NUL; how many. */
size_t format_number(char out[NUMBER_BYTES], int64_t number);

/* Open `/proc/<pid>/<name>`; a descriptor or -errno. */
int open_proc(pid_t pid, struct text name, int flags);

/* A uid or gid, or -1 for "leave it": never silently cut to 32 bits. */
static inline bool is_id(int64_t id)
{
    return id >= -1 && id < UINT32_MAX;
}

/* Arm the parent-death signal again after a change of credentials, which clears it (ops_box.c). */
int keep_dying_with_parent(const struct actor *me);

/* --- actors.c --- */

/* The init's pid as the outer sees it; waits for the joiner to clone it. 0: there is none and never will be. */
pid_t child_pid(struct actor *me);

/* The pid, as the outer sees it, of the process that `actor` names, in decimal; false if there is none. */
bool pid_of(struct actor *me, int64_t actor, pid_t *pid);

/* A report socket's peer is gone, or another actor is, which has reported why. */
_Noreturn void end_quietly(struct actor *me);

/* Kill the init and the joiner: we failed, so they must not go on. */
void kill_others(struct actor *me);

/* --- ops_process.c --- */

/* Make everything ready for the `Exec` ahead, so that nothing but execve(2) is left to call. Every descriptor of ours
 * is closed but the report socket and `keep` (-1: none). */
int prepare_exec(struct actor *me, const struct Exec *op, int keep);
