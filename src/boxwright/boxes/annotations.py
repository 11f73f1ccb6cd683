"""The annotations of config.json that change what Boxwright does; every other one is kept and given back, no more."""

from boxwright._record import Record
from boxwright.boxes.require import ISOLATION_ANNOTATION, PUBLISH_ANNOTATION
from boxwright.plan.compile import KEEP_GROUPS_ANNOTATION
from boxwright.plan.mounts import INIT_SYSTEM_ANNOTATION
from boxwright.plan.systemd_unit import PROPERTY_ANNOTATION


class Annotation(Record):
    """A key (with a last "." it is how keys begin), the values that count, and what they do."""

    key: str
    value: str
    effect: str


ANNOTATIONS = (
    Annotation(
        ISOLATION_ANNOTATION,
        "`linux` or `vm`",
        "the kind of box, where neither the command's name nor its flag `--isolation` says one. A `vm` section asks "
        "for the `vm` box too.",
    ),
    Annotation(
        PUBLISH_ANNOTATION,
        "`[ADDRESS:]HOSTPORT:PORT[/udp]`, several with `,` between them",
        "ports of the host that lead to a `vm` box without a network namespace; at 127.0.0.1 where no IPv4 address is "
        "said. `boxwright run --publish` sets it. Any other form of value is a ConfigError.",
    ),
    Annotation(
        INIT_SYSTEM_ANNOTATION,
        "`true`",
        "the program is an init system: a mount of type `cgroup` is writable where the box's own services live, and "
        "nowhere else. `boxwright run --init-system` sets it.",
    ),
    Annotation(
        PROPERTY_ANNOTATION,
        "a string, boolean, number or list of strings in the text form of GVariant",
        "with `--cgroup-manager systemd`, a property of the scope that systemd makes for the container; what ends in "
        "`Sec` is given as the `USec` that D-Bus knows. Any other form of value is an UnsupportedError.",
    ),
    Annotation(
        KEEP_GROUPS_ANNOTATION,
        "`1`",
        "the process keeps the supplementary groups of the caller, in place of `process.user.additionalGids`.",
    ),
)


def unsafe_keys() -> tuple[str, ...]:
    """For the features document: who lets others write annotations should filter these (features.md)."""
    return tuple(annotation.key for annotation in ANNOTATIONS)
