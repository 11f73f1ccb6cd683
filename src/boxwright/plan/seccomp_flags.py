"""What a seccomp section asks of seccomp(2) beside its program: flags and the listener."""

from boxwright.errors import ConfigError, Problem
from boxwright.spec.seccomp_constants import FLAGS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxwright.spec.types import Seccomp

ANCHOR = "config-linux.md#configLinuxSeccomp"

# linux/seccomp.h
_NEW_LISTENER = 1 << 3
_TSYNC_ESRCH = 1 << 4


def uses_notify(section: "Seccomp") -> bool:
    """Whether the section hands system calls to a listener (SCMP_ACT_NOTIFY)."""
    notify = "SCMP_ACT_NOTIFY"
    return section.default_action == notify or any(rule.action == notify for rule in section.syscalls)


def filter_flags(section: "Seccomp") -> int:
    """The flags of seccomp(2) for a section, with SECCOMP_FILTER_FLAG_NEW_LISTENER where it uses SCMP_ACT_NOTIFY.

    Raises ConfigError for a flag that the standard does not name, and for SCMP_ACT_NOTIFY without a listenerPath: the
    kernel would answer ENOSYS for want of a listener.
    """
    flags = 0
    for position, name in enumerate(section.flags):
        bit = FLAGS.get(name)
        if bit is None:
            raise ConfigError([Problem(section.at("flags", position), "is no seccomp flag", ANCHOR, value=name)])
        flags |= bit
    if not uses_notify(section):
        # the kernel refuses it (EINVAL) where there is no listener to wait for
        return flags & ~FLAGS["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]
    if not section.listener_path:
        raise ConfigError([Problem(section.at("listenerPath"), "is needed where SCMP_ACT_NOTIFY is used", ANCHOR)])
    if flags & FLAGS["SECCOMP_FILTER_FLAG_TSYNC"]:
        # both answer by return value: without this one the kernel refuses the pair (EINVAL)
        flags |= _TSYNC_ESRCH
    return flags | _NEW_LISTENER
