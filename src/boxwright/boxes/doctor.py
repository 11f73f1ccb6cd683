"""What this host can do for each of the boxes."""

from boxwright.host import doctor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxwright.host.doctor import Check


def examine() -> "tuple[Check, ...]":
    """Every check, in order. Changes nothing that stays."""
    from boxwright.boxes.vm.doctor import machines

    return (*doctor.examine(), *machines())
