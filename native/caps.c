/* Capabilities. */
#include <sys/prctl.h>

#include "report.h"

enum { CAP_SETGID = 6, CAPS = 64, VERSION_3 = 0x20080522 };

struct cap_sets {
    uint64_t effective, permitted, inheritable;
};

struct cap_header {
    uint32_t version;
    int32_t pid;
};

struct cap_words {
    uint32_t effective, permitted, inheritable;
};

static int get_caps(struct cap_sets *sets)
{
    struct cap_header header = {.version = VERSION_3};
    struct cap_words words[2] = {0};
    long rc = sys(capget, &header, words);
    sets->effective = words[0].effective | (uint64_t)words[1].effective << 32;
    sets->permitted = words[0].permitted | (uint64_t)words[1].permitted << 32;
    sets->inheritable = words[0].inheritable | (uint64_t)words[1].inheritable << 32;
    return (int)rc;
}

static int set_caps(const struct cap_sets *sets)
{
    struct cap_header header = {.version = VERSION_3};
    struct cap_words words[2] = {
        {(uint32_t)sets->effective, (uint32_t)sets->permitted, (uint32_t)sets->inheritable},
        {(uint32_t)(sets->effective >> 32), (uint32_t)(sets->permitted >> 32), (uint32_t)(sets->inheritable >> 32)},
    };
    return (int)sys(capset, &header, words);
}

/* 1 or 0, or -EINVAL beyond the last capability that the kernel knows. */
static int is_bounded(int cap)
{
    return sys_prctl(PR_CAPBSET_READ, (unsigned long)cap);
}

static int drop_bound(int cap)
{
    int rc = sys_prctl(PR_CAPBSET_DROP, (unsigned long)cap);
    return rc == -EPERM && is_bounded(cap) == 0 ? 0 : rc;
}

int do_BoundCaps(struct actor *me, const struct BoundCaps *op)
{
    uint64_t keep = (uint64_t)op->keep, missing = 0;
    for (int cap = 0; cap < CAPS; cap++) {
        uint64_t bit = 1ULL << cap;
        int rc = keep & bit ? is_bounded(cap) : drop_bound(cap);
        if (rc == -EINVAL) {
            missing |= keep & ~(bit - 1);
            break;
        }
        if (rc < 0)
            return rc;
        if (keep & bit && rc == 0)
            missing |= bit;
    }
    if (missing)
        report_warning(me, EPERM, (int64_t)missing);
    return 0;
}

/* The inheritable set may hold what is permitted, or was inheritable before, and is not bounded away. */
static int set_caps_in_bounds(struct cap_sets *wanted)
{
    int rc = set_caps(wanted);
    if (rc != -EPERM)
        return rc;
    for (int cap = 0; cap < CAPS; cap++)
        if (wanted->inheritable & 1ULL << cap && is_bounded(cap) != 1)
            wanted->inheritable &= ~(1ULL << cap);
    return set_caps(wanted);
}

/* Raise what can be raised; gives what could not. */
static uint64_t set_ambient(uint64_t ambient, uint64_t allowed)
{
    uint64_t missing = ambient & ~allowed;
    (void)sys(prctl, PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL);
    for (int cap = 0; cap < CAPS; cap++) {
        uint64_t bit = 1ULL << cap;
        if (ambient & allowed & bit && sys(prctl, PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, cap) < 0)
            missing |= bit;
    }
    return missing;
}

int do_SetCaps(struct actor *me, const struct SetCaps *op)
{
    struct cap_sets have;
    int rc = get_caps(&have);
    if (rc < 0)
        return rc;
    uint64_t effective = (uint64_t)op->effective, permitted = (uint64_t)op->permitted;
    uint64_t inheritable = (uint64_t)op->inheritable;
    struct cap_sets wanted = {
        .permitted = permitted & have.permitted,
        .effective = effective & permitted & have.permitted,
        .inheritable = inheritable & (have.permitted | have.inheritable),
    };
    rc = set_caps_in_bounds(&wanted);
    if (rc < 0)
        return rc;
    uint64_t missing = (permitted & ~wanted.permitted) | (effective & ~wanted.effective);
    missing |= inheritable & ~wanted.inheritable;
    missing |= set_ambient((uint64_t)op->ambient, wanted.permitted & wanted.inheritable);
    if (missing)
        report_warning(me, EPERM, (int64_t)missing);
    return 0;
}

/* Whether the refusal to empty the supplementary groups comes from the user namespace's `setgroups`, and not from a
 * missing privilege of ours: then there is no way to do better. */
static bool is_denied_by_namespace(void)
{
    struct cap_sets have;
    return get_caps(&have) == 0 && have.effective & 1U << CAP_SETGID;
}

static int set_groups(struct list groups)
{
    enum { MOST = 65536, KEEP = -1 };
    static gid_t ids[MOST];
    size_t count = 0;
    struct list first = groups;
    if (groups.count == 1 && list_next_number(&first) == KEEP)
        return 0;
    if (groups.count > MOST)
        return -EINVAL;
    while (groups.count) {
        int64_t id = list_next_number(&groups);
        if (id < 0 || !is_id(id))
            return -EINVAL;
        ids[count++] = (gid_t)id;
    }
    long rc = sys(setgroups, count, ids);
    return rc == -EPERM && count == 0 && is_denied_by_namespace() ? 0 : (int)rc;
}

int do_SetUser(struct actor *me, const struct SetUser *op)
{
    if (op->uid < 0 || op->gid < 0 || !is_id(op->uid) || !is_id(op->gid))
        return -EINVAL;
    long rc = op->keep_caps ? sys_prctl(PR_SET_KEEPCAPS, 1) : 0;
    if (rc == 0)
        rc = set_groups(op->groups);
    if (rc == 0)
        rc = sys(setresgid, op->gid, op->gid, op->gid);
    if (rc == 0)
        rc = sys(setresuid, op->uid, op->uid, op->uid);
    return rc < 0 ? (int)rc : keep_dying_with_parent(me);
}

int do_NoNewPrivs(struct actor *me, const struct NoNewPrivs *op)
{
    (void)me;
    (void)op;
    return sys_prctl(PR_SET_NO_NEW_PRIVS, 1);
}
