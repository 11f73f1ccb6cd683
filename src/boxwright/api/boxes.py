"""Run a command in a box that nobody wrote a bundle for."""

import os

from boxwright.api.recipe import Recipe, capabilities_of
from boxwright.boxes.require import require_isolation
from boxwright.errors import UsageError
from boxwright.host import facts as host_facts
from boxwright.runtime.create import Creation, creation_for
from boxwright.runtime.options import RunOptions
from boxwright.runtime.run import finish_run
from boxwright.spec.jsontext import encode_json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxwright.api.options import BoxOptions
    from boxwright.runtime.context import Runtime


_MOST_DOCUMENTS = 64
_documents: "dict[tuple[BoxOptions, bool], tuple[str, bytes]]" = {}


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
    facts = host_facts.probe()
    alone = (runtime.isolation or options.isolation) == "vm"  # on a kernel of its own, of which it has all
    groups = alone or (runtime.cgroup_driver != "none" and facts.cgroups.writable)
    if options.bundle:
        creation = _bundled(options, runtime, groups)
    else:
        creation = _composed(options, runtime, privileged=alone or facts.privileged, groups=groups)
    creation.bound = options.bound
    creation.templated = not options.name  # only an id that we made up looks like nothing else
    return creation


def _composed(options: "BoxOptions", runtime: "Runtime", *, privileged: bool, groups: bool) -> Creation:
    root, document = _document(options, privileged, groups)
    creation = creation_for(runtime, options.name or made_up_id(), RunOptions(root), document)
    creation.default_seccomp = capabilities_of(options)
    return _covered(creation, options, root)


def _document(options: "BoxOptions", privileged: bool, groups: bool) -> tuple[str, bytes]:
    """The root filesystem and the document. That of a box which looks at nothing of the caller's is remembered."""
    if options.show_cwd or options.terminal or options.init_system or not privileged:
        return _compose(options, privileged, groups)
    key = (options, groups)
    found = _documents.get(key)
    if found is None:
        if len(_documents) >= _MOST_DOCUMENTS:
            _documents.clear()
        found = _documents[key] = _compose(options, privileged, groups)
    return found


def _compose(options: "BoxOptions", privileged: bool, groups: bool) -> tuple[str, bytes]:
    recipe = Recipe(options, privileged=privileged, groups=groups)
    return recipe.root, encode_json(recipe.document()).encode()


def _bundled(options: "BoxOptions", runtime: "Runtime", groups: bool) -> Creation:
    from boxwright.api.bundled import bundle_text

    bundle = os.path.realpath(options.bundle)
    document = bundle_text(options, groups=groups)
    creation = creation_for(runtime, options.name or made_up_id(), RunOptions(bundle), document)
    root = creation.config.root
    return _covered(creation, options, os.path.realpath(os.path.join(bundle, root.path)) if root else "")


def _covered(creation: Creation, options: "BoxOptions", root: str) -> Creation:
    if options.overlay and root:
        try:
            creation.overlay(root, options.root_bytes or 0, mapped=options.init_system and host_facts.is_privileged())
        except BaseException as error:
            creation.fail(error)
            creation.container.unlock()
            raise
    return creation


def made_up_id() -> str:
    """An id that nobody else has."""
    return f"box-{os.urandom(6).hex()}"
