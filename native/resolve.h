/* Paths inside a root that we do not trust, resolved once and to a descriptor. */
#pragma once

#include "actor.h"

enum resolve_kind { EXISTING, DIRECTORY, FILE_, LIKE, SAME_NODE };
enum { PARENT_MODE = 0755 };

/* openat2(2), tried again while somebody renames under our feet. A descriptor (close-on-exec) or -errno. */
int open_how(int directory, const char *path, uint64_t flags, uint64_t resolve);

/* O_PATH descriptor of `path` in `root`, links taken as that root's own; -ENOENT if it is not there. */
int resolve_existing(int root, const char *path, uint64_t flags);

/* As `Resolve`: create what is missing. `no_symlinks` is RESOLVE_NO_SYMLINKS or 0. */
int resolve_or_create(int root, const char *path, enum resolve_kind kind, mode_t mode, uint64_t no_symlinks);

/* The directory that `path` is to be made in, created if missing; `name` becomes its last component. */
int resolve_parent(int root, const char *path, char name[256]);
