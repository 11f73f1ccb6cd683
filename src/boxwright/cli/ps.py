"""`ps`: the processes of a container, as ps(1) shows them."""

import subprocess

from boxwright.cli.flags import FORMAT
from boxwright.cli.log import write_all
from boxwright.cli.options import Command, parse
from boxwright.errors import BoxwrightError, UnsupportedError, printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from boxwright.cli.settings import Globals
    from boxwright.runtime.vm.inside import GuestProcess

COMMAND = Command(
    "ps",
    "show the processes of a container",
    "ID [PS-OPTION…]",
    (FORMAT,),
    least=1,
    most=None,
    in_order=True,
    notes="The options behind the id are those of ps(1), `-ef` unless given. `--format json` prints process ids alone. "
    "The ids of a container in a virtual machine are its guest's, and ps(1) has no say there.",
)


def run(args: list[str], settings: "Globals") -> int:
    options = parse(COMMAND, args)
    container_id, *words = options.arguments
    form = options.choice("format", ("table", "json"), "table")

    from boxwright.runtime.processes import guest_processes, pids

    runtime = settings.runtime()
    guests = guest_processes(runtime, container_id)
    if form == "json":
        from boxwright.spec.jsontext import encode_json

        found = pids(runtime, container_id) if guests is None else [process.pid for process in guests]
        write_all(1, encode_json(sorted(found)) + "\n")
    elif guests is None:
        found = pids(runtime, container_id)
        write_all(1, chosen_lines(_ps(words or ["-ef"]), set(found)))
    elif words:
        raise UnsupportedError(
            "options of ps(1)", "vm", "the processes are another kernel's, which has no `ps` of ours"
        )
    else:
        write_all(1, guest_table(guests))
    return 0


def guest_table(processes: "Sequence[GuestProcess]") -> str:
    """The processes of a guest as a table."""
    lines = [f"{'UID':>6} {'PID':>6} {'PPID':>6} S {'TIME':>8} CMD"]
    for one in processes:
        minutes, seconds = divmod(one.cpu_s, 60)
        time = f"{minutes // 60:02}:{minutes % 60:02}:{seconds:02}"
        lines.append(f"{one.uid:>6} {one.pid:>6} {one.parent:>6} {one.state} {time} {printable(one.command)}")
    return "\n".join(lines) + "\n"


def _ps(words: "Sequence[str]") -> str:
    try:
        done = subprocess.run(["ps", *words], capture_output=True, text=True, errors="replace", check=False)
    except FileNotFoundError:
        raise UnsupportedError(
            "ps", "linux", "there is no program `ps` on this host", hint="`--format json` does without it"
        ) from None
    if done.returncode != 0:
        raise BoxwrightError(f"`ps {' '.join(words)}` failed: {done.stderr.strip() or done.returncode}")
    return done.stdout


def chosen_lines(listing: str, wanted: "Collection[int]") -> str:
    """The heading of what ps(1) printed and its lines for the wanted process ids."""
    heading, *lines = listing.splitlines()
    columns = heading.split()
    if "PID" not in columns:
        raise BoxwrightError("`ps` printed no column `PID`", hint="choose options that show it")
    at = columns.index("PID")
    kept = [line for line in lines if _number(line.split(None, at + 1), at) in wanted]
    return "\n".join([heading, *kept]) + "\n"


def _number(fields: "Sequence[str]", at: int) -> int:
    return int(fields[at]) if len(fields) > at and fields[at].isdigit() else -1
