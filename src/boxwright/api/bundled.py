"""A bundle's own configuration with what a person asks of the box put over it, as a document."""

import os

from boxwright.api.recipe import binds, resources, rlimits
from boxwright.boxes.require import ISOLATION_ANNOTATION
from boxwright.errors import HostError, UsageError
from boxwright.spec.decode import decode
from boxwright.spec.jsontext import encode_json, parse_json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from boxwright.api.options import BoxOptions

    JSON = dict[str, Any]


_MOST = 64
_texts: "dict[tuple[bytes, BoxOptions, bool], bytes]" = {}


def bundle_text(options: "BoxOptions", *, groups: bool) -> bytes:
    """The document as a text: remembered by what the file says and what goes over it. Raises as `bundle_document`."""
    data = _read(options.bundle)
    key = (data, options, groups)
    found = _texts.get(key)
    if found is None:
        if len(_texts) >= _MOST:
            _texts.clear()
        found = _texts[key] = encode_json(_changed(data, options, groups=groups)).encode()
    return found


def bundle_document(options: "BoxOptions", *, groups: bool) -> "JSON":
    """The document of `options.bundle`, changed by the other options. What they do not name stays as it is.

    Raises HostError where there is no config.json, ConfigError where its values are not of their types, and
    UsageError for an option that the bundle leaves no room for.
    """
    return _changed(_read(options.bundle), options, groups=groups)


def _changed(data: bytes, options: "BoxOptions", *, groups: bool) -> "JSON":
    decode(data)  # from here on what is there is of its type
    document = parse_json(data)
    assert isinstance(document, dict)
    if options.hostname:
        document["hostname"] = options.hostname
    if options.read_only:
        document["root"] = {**_object(document, "root"), "readonly": True}
    if options.binds:
        document["mounts"] = [*_list(document, "mounts"), *binds(options)]
    if options.isolation != "linux":
        document["annotations"] = {**_object(document, "annotations"), ISOLATION_ANNOTATION: options.isolation}
    _change_process(document, options, groups=groups)
    _change_linux(document, options, groups=groups)
    return document


def _read(bundle: str) -> bytes:
    path = os.path.join(bundle, "config.json")
    try:
        with open(path, "rb", buffering=0) as file:
            return file.read()
    except OSError as error:
        hint = "a bundle is a directory with a config.json; `boxwright spec` writes one" if error.errno == 2 else None
        raise HostError(f"read `{path}`", error.errno or 0, path=path, hint=hint) from None


def _object(parent: "JSON", name: str) -> "JSON":
    """The object of that name, empty where it is absent."""
    value = parent.get(name, {})
    return value if isinstance(value, dict) else {}


def _list(parent: "JSON", name: str) -> "list[Any]":
    value = parent.get(name, [])
    return value if isinstance(value, list) else []


def _change_process(document: "JSON", options: "BoxOptions", *, groups: bool) -> None:
    if "process" not in document and not options.args:
        return
    process = {"cwd": "/", **_object(document, "process")}
    if options.args:
        process["args"] = list(options.args)
        process["terminal"] = False
    if options.terminal:
        process["terminal"] = True
    if options.env:
        process["env"] = [*_list(process, "env"), *options.env]
    if options.cwd:
        process["cwd"] = options.cwd
    ids = {"uid": options.uid, "gid": options.gid}
    process["user"] = {
        "uid": 0,
        "gid": 0,
        **_object(process, "user"),
        **{name: number for name, number in ids.items() if number is not None},
    }
    limits = rlimits(options, groups=groups)
    if limits:
        replaced = {limit["type"] for limit in limits}
        kept = [limit for limit in _list(process, "rlimits") if limit.get("type") not in replaced]
        process["rlimits"] = [*kept, *limits]
    document["process"] = process


def _change_linux(document: "JSON", options: "BoxOptions", *, groups: bool) -> None:
    limits = resources(options, groups=groups)
    if not limits and options.network != "host":
        return
    linux = dict(_object(document, "linux"))
    if limits:
        linux["resources"] = {**_object(linux, "resources"), **limits}
    if options.network == "host":
        mounts_sysfs = any(mount.get("type") == "sysfs" for mount in _list(document, "mounts"))
        if mounts_sysfs and os.geteuid() != 0 and options.isolation != "vm":  # whose sysfs is the guest's
            raise UsageError("without root sysfs cannot be mounted over the host's network", hint="bind /sys instead")
        namespaces = _list(linux, "namespaces")
        linux["namespaces"] = [namespace for namespace in namespaces if namespace.get("type") != "network"]
    document["linux"] = linux
