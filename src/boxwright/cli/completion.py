"""`completion`: a completion script for a shell, from the tables that flags are parsed by."""

from boxwright.cli.log import write_all
from boxwright.cli.main import VERBS, verb
from boxwright.cli.options import SWITCH, Command, parse
from boxwright.cli.settings import ROOT_COMMAND
from boxwright.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxwright.cli.settings import Globals

COMMAND = Command(
    "completion",
    "print a completion script for bash or zsh",
    "SHELL",
    least=1,
    most=1,
    notes='For bash: `eval "$(boxwright completion bash)"`. For zsh the same, with `zsh`, after `compinit`.',
)
_TAKES_ID = ("start", "state", "kill", "delete", "exec", "ps", "pause", "resume", "update", "events", "checkpoint")
_BASH = """\
_boxwright() {
    local word=${COMP_WORDS[COMP_CWORD]} verb= at
    for ((at = 1; at < COMP_CWORD; at++)); do
        case ${COMP_WORDS[at]} in
        %(verbs_pattern)s) verb=${COMP_WORDS[at]}; break ;;
        esac
    done
    COMPREPLY=()
    case $verb in
%(cases)s
    *) COMPREPLY=($(compgen -W '%(verbs)s %(globals)s' -- "$word")) ;;
    esac
}
complete -o default -F _boxwright boxwright
"""
_ZSH = "autoload -Uz bashcompinit && bashcompinit\n"


def run(args: list[str], _settings: "Globals") -> int:
    shell = parse(COMMAND, args).arguments[0]
    if shell not in {"bash", "zsh"}:
        raise UsageError(f"there is no completion for `{shell}`", hint="it is one of `bash`, `zsh`")
    write_all(1, (_ZSH if shell == "zsh" else "") + bash_script())
    return 0


def bash_script() -> str:
    """The script for bash."""
    return _BASH % {
        "verbs": " ".join(VERBS),
        "verbs_pattern": "|".join(VERBS),
        "globals": _flags(ROOT_COMMAND),
        "cases": "\n".join(_case(verb(name).COMMAND) for name in VERBS),
    }


def _case(command: Command) -> str:
    ids = " $(boxwright list -q 2>/dev/null)" if command.name in _TAKES_ID else ""
    return f'    {command.name}) COMPREPLY=($(compgen -W "{_flags(command)}{ids}" -- "$word")) ;;'


def _flags(command: Command) -> str:
    return " ".join(f"--{flag.name}" + ("" if flag.kind == SWITCH else "=") for flag in command.flags)
