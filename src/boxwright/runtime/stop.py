"""The end of a container: poststop hooks."""

from boxwright.errors import HookError
from boxwright.runtime.containers import STOPPED, state_document
from boxwright.spec.jsontext import encode_json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxwright.runtime.containers import Container
    from boxwright.spec.types import Config


def run_poststop(container: "Container", config: "Config") -> None:
    """Run the poststop hooks; a failure is a warning, and the others run (runtime.md#runtimeLifecycle, step 13)."""
    hooks = config.hooks.poststop if config.hooks else ()
    if not hooks:
        return
    from boxwright.host.hooks import run_hook

    state = encode_json(state_document(container, STOPPED, 0))
    for hook in hooks:
        try:
            run_hook("poststop", hook, state)
        except HookError as error:
            container.runtime.warn(error.message)
