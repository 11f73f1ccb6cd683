/* The one table of operations: code, name, fields in their order on the wire.
 *
 * It mirrors `src/boxwright/plan/ops.py`, where each operation's meaning stands; `tests/unit/test_ops_match_helper.py`
 * compares the two. INT is a number, TEXT a string without NUL, DATA bytes, TEXTS and INTS lists of them.
 */
#pragma once

#include <stdint.h>

#define OPERATIONS(OP)                                                                                                 \
    OP(1, Open, INT(slot) TEXT(path) INT(flags) INT(magic))                                                            \
    OP(2, MakeDirs, TEXT(path) INT(mode))                                                                              \
    OP(3, Write, TEXT(path) DATA(data))                                                                                \
    OP(4, WriteAt, INT(directory) TEXT(name) DATA(data))                                                               \
    OP(5, WriteChildPid, TEXT(path))                                                                                   \
    OP(6, WriteChildFile, INT(actor) TEXT(name) DATA(data))                                                            \
    OP(7, RunTool, INT(actor) TEXTS(argv))                                                                             \
    OP(8, RunHook, TEXT(path) TEXTS(argv) TEXTS(env) INT(timeout_ms) TEXTS(state) INT(pid_of))                         \
    OP(9, Close, INT(slot))                                                                                            \
    OP(10, ChownAt, TEXT(path) INT(uid) INT(gid))                                                                      \
    OP(20, ForkJoiner, NO_FIELDS)                                                                                      \
    OP(21, Clone, INT(flags) INT(cgroup))                                                                              \
    OP(22, Post, INT(actor))                                                                                           \
    OP(23, Await, INT(actor))                                                                                          \
    OP(24, Ready, NO_FIELDS)                                                                                           \
    OP(25, Upcall, INT(token))                                                                                         \
    OP(26, Gate, INT(slot))                                                                                            \
    OP(27, DieWithParent, NO_FIELDS)                                                                                   \
    OP(28, SetDumpable, INT(value))                                                                                    \
    OP(30, Setns, INT(slot) INT(kind))                                                                                 \
    OP(31, Unshare, INT(flags))                                                                                        \
    OP(32, BecomeRoot, NO_FIELDS)                                                                                      \
    OP(33, NewSession, NO_FIELDS)                                                                                      \
    OP(34, SetHostname, TEXT(name))                                                                                    \
    OP(35, SetDomainname, TEXT(name))                                                                                  \
    OP(36, NewKeyring, NO_FIELDS)                                                                                      \
    OP(37, LoopbackUp, NO_FIELDS)                                                                                      \
    OP(40, SetPropagation, TEXT(path) INT(flags))                                                                      \
    OP(41, OpenTree, INT(slot) INT(directory) TEXT(path) INT(flags))                                                   \
    OP(42, FsMount, INT(slot) TEXT(fstype) TEXTS(params) INT(attr))                                                    \
    OP(43, SetAttr, INT(slot) INT(attr_set) INT(attr_clear) INT(propagation) INT(userns) INT(recursive))               \
    OP(44, Userns, INT(slot) TEXT(uid_map) TEXT(gid_map))                                                              \
    OP(45, AttachRoot, INT(tree) TEXT(path) INT(slot))                                                                 \
    OP(46, Resolve, INT(slot) INT(root) TEXT(path) INT(kind) INT(mode) INT(flags) INT(like))                           \
    OP(47, MoveMount, INT(tree) INT(target))                                                                           \
    OP(48, Reconfigure, INT(target) TEXTS(params))                                                                     \
    OP(49, CopyUp, INT(tree) INT(source))                                                                              \
    OP(50, MakeNode, INT(root) TEXT(path) INT(mode) INT(major) INT(minor) INT(uid) INT(gid))                           \
    OP(51, MakeSymlink, INT(root) TEXT(path) TEXT(target) TEXT(if_exists))                                             \
    OP(52, Console, INT(root) INT(height) INT(width) INT(uid) INT(out) INT(bind))                                      \
    OP(53, Mask, INT(root) TEXT(path) INT(null))                                                                       \
    OP(54, MakeReadonly, INT(root) TEXT(path))                                                                         \
    OP(55, PivotRoot, INT(root))                                                                                       \
    OP(56, MoveRoot, INT(root) TEXT(path))                                                                             \
    OP(57, Chroot, INT(root))                                                                                          \
    OP(58, MakeDirAt, INT(directory) TEXT(name) INT(mode) INT(uid) INT(gid))                                           \
    OP(59, CheckNode, INT(node) INT(mode) INT(major) INT(minor))                                                       \
    OP(60, SetCwd, TEXT(path) INT(create))                                                                             \
    OP(61, SetRlimit, INT(resource) INT(soft) INT(hard))                                                               \
    OP(62, SetUser, INT(uid) INT(gid) INTS(groups) INT(keep_caps))                                                     \
    OP(63, BoundCaps, INT(keep))                                                                                       \
    OP(64, SetCaps, INT(effective) INT(permitted) INT(inheritable) INT(ambient))                                       \
    OP(65, NoNewPrivs, NO_FIELDS)                                                                                      \
    OP(66, LoadSeccomp, DATA(program) INT(flags) INT(listener) TEXTS(state))                                           \
    OP(67, SetPersonality, INT(persona))                                                                               \
    OP(68, SetScheduler,                                                                                               \
       INT(policy) INT(flags) INT(nice) INT(priority) INT(runtime_ns) INT(deadline_ns) INT(period_ns))                 \
    OP(69, SetIOPriority, INT(value))                                                                                  \
    OP(70, SetMemoryPolicy, INT(mode) DATA(nodes))                                                                     \
    OP(71, SetAffinity, DATA(cpus))                                                                                    \
    OP(72, SetUmask, INT(mask))                                                                                        \
    OP(73, DupTo, INT(slot) INT(number))                                                                               \
    OP(74, OwnStdio, INT(uid))                                                                                         \
    OP(75, KeepFds, INT(first))                                                                                        \
    OP(76, FindProgram, TEXT(name) TEXT(path))                                                                         \
    OP(77, Exec, TEXTS(argv) TEXTS(env))                                                                               \
    OP(78, Idle, INT(null) INT(lifeline))                                                                              \
    OP(79, FindHome, INT(uid))                                                                                         \
    OP(80, SetDeviceFilter, TEXT(path) DATA(program))                                                                  \
    OP(81, Netlink, DATA(request) TEXT(device) INT(at))                                                                \
    OP(82, TakeFiles, INT(root) TEXT(directory) TEXT(name) INT(uid) INT(gid))                                          \
    OP(83, GiveFiles, INT(root) TEXT(path) INT(tree) INT(most_bytes))

/* A string or bytes inside the plan; data[length] is 0. */
struct text {
    const char *data;
    uint64_t length;
};

/* The items of a list, still encoded; `plan.h` walks them. */
struct list {
    const uint8_t *at;
    uint64_t count;
};

/* struct Open { int64_t slot; struct text path; int64_t flags; }; and so on. */
#define INT(name) int64_t name;
#define TEXT(name) struct text name;
#define DATA(name) struct text name;
#define TEXTS(name) struct list name;
#define INTS(name) struct list name;
#define NO_FIELDS int64_t no_fields;
#define OP(code, name, fields)                                                                                         \
    struct name {                                                                                                      \
        fields                                                                                                         \
    };
OPERATIONS(OP)
#undef OP

#define OP(code, name, fields) struct name name;
union arguments {
    OPERATIONS(OP)
};
#undef OP
#undef INT
#undef TEXT
#undef DATA
#undef TEXTS
#undef INTS
#undef NO_FIELDS
