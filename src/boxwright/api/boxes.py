"""Run a command in a box that nobody wrote a bundle for."""

import os

from boxwright.api.recipe import CAPABILITIES, Recipe
from boxwright.errors import UnsupportedError
from boxwright.host.facts import is_privileged
from boxwright.runtime.create import Creation
from boxwright.runtime.options import RunOptions
from boxwright.runtime.run import finish_run
from boxwright.spec.jsontext import encode_json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxwright.api.options import BoxOptions
    from boxwright.runtime.context import Runtime


def run_in_box(options: "BoxOptions", runtime: "Runtime") -> int:
    """Run a command in a box and wait for it; its exit status, 128 + n for signal n, 124 after the time limit."""
    with prepare(options, runtime) as creation:
        return finish_run(
            creation,
            RunOptions(creation.options.bundle, preserve_fds=0),
            timeout_s=options.timeout_s,
            init_system=options.init_system,
        )


def prepare(options: "BoxOptions", runtime: "Runtime") -> Creation:
    """The creation of the box, not yet begun. Raises UnsupportedError for a kind of box that does not exist."""
    if options.isolation != "linux":
        raise UnsupportedError(f"isolation {options.isolation}", "linux", "this kind of box is not built yet")
    recipe = Recipe(options, privileged=is_privileged())
    document = encode_json(recipe.document()).encode()
    creation = Creation(runtime, options.name or made_up_id(), RunOptions(recipe.root), document)
    creation.default_seccomp = CAPABILITIES
    if options.overlay:
        creation.overlay(recipe.root)
    return creation


def made_up_id() -> str:
    """An id that nobody else has."""
    return f"box-{os.urandom(6).hex()}"
