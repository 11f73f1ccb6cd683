"""What this host can do, found by trying, never by version; and what is lost where it cannot."""

from boxwright._record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FOUND, PARTLY, MISSING = "found", "partly", "missing"


class Check(Record):
    """One thing that was tried.

    `state` is FOUND, PARTLY or MISSING; `detail` what was seen; `lost` what will not be honoured without it;
    `remedy` what to install or to switch on. Without a `vital` one the linux box cannot run.
    """

    group: str
    name: str
    state: str
    detail: str = ""
    lost: str = ""
    remedy: str = ""
    vital: bool = False


def check(
    group: str, name: str, ok: object, detail: str = "", *, lost: str = "", remedy: str = "", vital: bool = False
) -> Check:
    """A check that found what it looked for, or did not: then `lost` and `remedy` are told."""
    if ok:
        return Check(group, name, FOUND, detail)
    return Check(group, name, MISSING, detail, lost, remedy, vital)


def examine() -> "tuple[Check, ...]":
    """Every check of the linux box, in order. Nothing stays: what is tried lives in processes that end at once."""
    from boxwright.host import doctor_host, doctor_kernel

    sources: tuple[Callable[[], Iterator[Check]], ...] = (
        doctor_kernel.namespaces,
        doctor_kernel.mounts,
        doctor_kernel.filters,
        doctor_kernel.processes,
        doctor_host.caller,
        doctor_host.ids,
        doctor_host.cgroups,
        doctor_host.labels,
        doctor_host.programs,
    )
    return tuple(found for source in sources for found in source())


def can_run(checks: "tuple[Check, ...]") -> bool:
    """Whether the linux box can run here at all."""
    return not any(found.vital and found.state == MISSING for found in checks)
