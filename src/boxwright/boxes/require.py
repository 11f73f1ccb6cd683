"""Refuse what a box cannot honour, before anything is created: never silently weaker.

Only the check stands here, since every create goes through it; `capabilities` is the table for people. What depends
on the host (a controller that is missing, id maps without root) is refused while the plan is compiled.
"""

from boxwright.errors import UnsupportedError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxwright.spec.types import Config

BOXES = ("linux", "vm", "sandbox")
ISOLATION_ANNOTATION = "boxwright.isolation"
PUBLISH_ANNOTATION = "boxwright.publish"
NOT_YET = "this box does not exist yet"
# whole sections of config.json, by field, with the reason
FOREIGN_SECTIONS = (
    ("vm", "a kernel of its own needs the `vm` box"),
    ("windows", "it describes a container of Windows"),
    ("solaris", "it describes a zone of Solaris"),
    ("zos", "it describes a container of z/OS"),
    ("freebsd", "it describes a jail of FreeBSD"),
)


def require_isolation(name: str) -> None:
    """Raise UnsupportedError for a kind of box that does not exist yet, UsageError for what is none."""
    if name not in BOXES:
        raise UsageError(f"`{name}` is no kind of box", hint=f"one of {', '.join(BOXES)}")
    if name == "sandbox":
        raise UnsupportedError(f"isolation {name}", name, NOT_YET)


def isolation_of(config: "Config", wanted: str = "") -> str:
    """The kind of box for `config`: what the caller `wanted`, the annotation, the `vm` box for a `vm` section, or
    `linux`. Raises UsageError and UnsupportedError for what there is not.
    """
    found = wanted or config.annotations.get(ISOLATION_ANNOTATION) or ("vm" if config.vm is not None else "linux")
    if found != "linux":
        require_isolation(found)
    return found


def require(config: "Config", box: str = "linux") -> None:
    """Raise UnsupportedError for the first property of `config` that `box` cannot honour."""
    require_isolation(box)
    for field, why in FOREIGN_SECTIONS:
        if field != box and getattr(config, field) is not None:
            raise UnsupportedError(field, box, why, hint=f"remove the section `{field}` from config.json")
    if box != "vm" and PUBLISH_ANNOTATION in config.annotations:
        why = "who has a port of the host's network says its owner, and no box of namespaces has ports of its own there"
        raise UnsupportedError(f"annotations.{PUBLISH_ANNOTATION}", box, why)
    if box == "vm":
        from boxwright.boxes.vm.guest import refuse

        refuse(config)
