"""Which AppArmor profiles there are to go by (apparmor(7)). Loaded only for who names one."""

import os

SECURITYFS = "/sys/kernel/security/apparmor"
MODULE = "/sys/module/apparmor/parameters"
ATTRIBUTES = "/proc/self/attr/apparmor"
_UNCONFINED = "unconfined"


def loaded_profiles(
    securityfs: str = SECURITYFS, module: str = MODULE, attributes: str = ATTRIBUTES
) -> tuple[str, ...] | None:
    """The names that a program can be confined by in our namespace of AppArmor; none where it is not active.

    None where that cannot be told: securityfs is not mounted or not ours to read; or we are confined ourselves, so
    that it depends on our own profile what a name leads to.
    """
    if not os.path.isdir(os.path.dirname(os.path.dirname(module))):
        return None
    enabled = _read(f"{module}/enabled")
    if enabled == "N" or not os.path.exists(module):
        return ()
    names, own = _read(f"{securityfs}/profiles"), _read(f"{attributes}/current")
    if enabled != "Y" or names is None or own != _UNCONFINED:
        return None
    return (_UNCONFINED, *(line.rpartition(" (")[0] for line in names.splitlines()))


def _read(path: str) -> str | None:
    try:
        with open(path, errors="surrogateescape") as file:
            return file.read().strip("\n\0")
    except OSError:
        return None
