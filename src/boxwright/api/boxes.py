"""Run a command in a box that nobody wrote a bundle for."""

import os

from boxwright.api.recipe import Recipe, capabilities_of
from boxwright.boxes.require import require_isolation
from boxwright.errors import UsageError
from boxwright.host import facts
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
    require_isolation(options.isolation)
    if options.bundle and options.rootfs:
        raise UsageError("a box has the root filesystem of `bundle` or of `rootfs`, not both")
    groups = runtime.cgroup_driver != "none" and facts.probe().cgroups.writable
    creation = _bundled(options, runtime, groups) if options.bundle else _composed(options, runtime, groups)
    creation.bound = options.bound
    return creation


def _composed(options: "BoxOptions", runtime: "Runtime", groups: bool) -> Creation:
    recipe = Recipe(options, privileged=facts.is_privileged(), groups=groups)
    document = encode_json(recipe.document()).encode()
    creation = Creation(runtime, options.name or made_up_id(), RunOptions(recipe.root), document)
    creation.default_seccomp = capabilities_of(options)
    return _covered(creation, options, recipe.root)


def _bundled(options: "BoxOptions", runtime: "Runtime", groups: bool) -> Creation:
    from boxwright.api.bundled import bundle_document

    bundle = os.path.realpath(options.bundle)
    document = encode_json(bundle_document(options, groups=groups)).encode()
    creation = Creation(runtime, options.name or made_up_id(), RunOptions(bundle), document)
    root = creation.config.root
    return _covered(creation, options, os.path.realpath(os.path.join(bundle, root.path)) if root else "")


def _covered(creation: Creation, options: "BoxOptions", root: str) -> Creation:
    if options.overlay and root:
        try:
            creation.overlay(root, options.root_bytes or 0, mapped=options.init_system and facts.is_privileged())
        except BaseException as error:
            creation.fail(error)
            creation.container.unlock()
            raise
    return creation


def made_up_id() -> str:
    """An id that nobody else has."""
    return f"box-{os.urandom(6).hex()}"
