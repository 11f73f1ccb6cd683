"""exec: a further process of a container in a virtual machine. It is always the guest's.

Its plan is sent and followed first. Then the proxy, a process in the jail, takes the connection over: it is what the
caller waits for, signals and gives a terminal to.
"""

from boxwright.boxes.vm import frames, jail
from boxwright.boxes.vm.client import ANSWER_S, Client
from boxwright.boxes.vm.guest import GROUP, guest_config, guest_facts
from boxwright.boxes.vm.remote import RemoteHelper
from boxwright.errors import GuestError, UnsupportedError
from boxwright.host.seccomp_cache import default_program
from boxwright.plan.join import JoinRequest, compile_exec
from boxwright.runtime.documents import filter_program
from boxwright.runtime.following import Follower
from boxwright.runtime.vm.create import JAIL
from boxwright.runtime.vm.inside import refuse_paused
from boxwright.runtime.vm.lost import lost
from boxwright.spec.decode import decode
from boxwright.spec.types import Capabilities, Process, User

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxwright.plan.ops import Plan
    from boxwright.runtime.containers import Container
    from boxwright.runtime.options import ExecOptions
    from boxwright.spec.types import Config

CONNECTION = 3  # the proxy's number of its connection: the first behind the standard ones


def begin_in_guest(container: "Container", options: "ExecOptions") -> Client:
    """Start the process in the guest; the connection over which it is held. Raises what the guest reports."""
    if options.preserve_fds:
        raise UnsupportedError("preserved descriptors", "vm", "a descriptor cannot be handed to another kernel")
    if options.cgroup:
        raise UnsupportedError("exec --cgroup", "vm", "the guest has one group for the container")
    refuse_paused(container)
    client = Client(container.directory)
    try:
        _start(container, options.process, client)
    except GuestError as error:
        client.close()
        raise lost(container, error) from None
    except BaseException:
        client.close()
        raise
    return client


def _start(container: "Container", process: Process, client: Client) -> None:
    client.greet(ANSWER_S)
    plan = _plan(container, process, client)
    helper = RemoteHelper(client, plan, frames.JOIN | frames.STDIN | frames.TERMINAL * bool(process.terminal))
    Follower(container.runtime, helper, container.config().replace(process=process)).until_executed()


def _plan(container: "Container", process: Process, client: Client) -> "Plan":
    config = guest_config(container.config())
    request = JoinRequest(
        pid=int(container.facts["guestPid"]),
        groups=((2, f"/sys/fs/cgroup{GROUP}"),),
        seccomp=filter_program(container.runtime, config, container.facts.get("defaultSeccomp")),
    )
    return compile_exec(process, config.linux, guest_facts(client.hello), request)


def jail_of(container: "Container") -> "Config":
    """The configuration of the jail that a container's machine is in."""
    with open(container.path(JAIL), "rb") as file:
        return decode(file.read())


def jail_filter(container: "Container") -> bytes:
    """The filter of the processes in the jail."""
    return default_program(jail.CAPABILITIES, container.runtime.cache)


def proxy(process: Process, jailed: "Config") -> Process:
    """The process in the jail that stands for one of the guest; as who the keeper of the machine is."""
    words = jailed.process.args if jailed.process else ()
    own_id = int(words[2]) if words[1:2] == ("--as",) else 0
    return Process(
        cwd="/",
        args=(jail.HELPER, "--proxy", str(CONNECTION)),
        user=User(own_id, own_id),
        terminal=process.terminal,
        console_size=process.console_size,
        capabilities=Capabilities(bounding=()),
        no_new_privileges=True,
    )
