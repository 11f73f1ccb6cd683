"""The features document (features.md, features-linux.md), out of the same tables that validation goes by.

It says what Boxwright recognises wherever it runs; what this host can do is the business of `doctor`.
"""

from boxwright.spec.constants import (
    CAPABILITY_NAMES,
    HOOK_KINDS,
    MEMORY_POLICY_FLAGS,
    MEMORY_POLICY_MODES,
    MOUNT_OPTIONS,
    NAMESPACES,
    OCI_VERSION_MAX,
    OCI_VERSION_MIN,
)
from boxwright.spec.seccomp_constants import ACTIONS, ARCHITECTURES, FLAGS, OPERATORS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any


def features(
    *,
    annotations: "Mapping[str, str] | None" = None,
    unsafe_annotations: "Iterable[str]" = (),
    supported_seccomp_flags: "Iterable[str] | None" = None,
) -> "dict[str, Any]":
    """The features document as JSON values.

    `annotations` describe the runtime itself. `unsafe_annotations` are keys of config.json that change what
    the runtime does; a last "." makes one a prefix. `supported_seccomp_flags` are those that can be set where the
    filter is made; all known ones by default.
    """
    return {
        "ociVersionMin": OCI_VERSION_MIN,
        "ociVersionMax": OCI_VERSION_MAX,
        "hooks": list(HOOK_KINDS),
        "mountOptions": sorted(MOUNT_OPTIONS),
        "linux": _linux(FLAGS if supported_seccomp_flags is None else supported_seccomp_flags),
        "annotations": dict(annotations or {}),
        "potentiallyUnsafeConfigAnnotations": sorted(unsafe_annotations),
    }


def _linux(supported_flags: "Iterable[str]") -> "dict[str, Any]":
    return {
        "namespaces": sorted(NAMESPACES),
        "capabilities": list(CAPABILITY_NAMES),
        "cgroup": {"v1": True, "v2": True, "systemd": True, "systemdUser": True, "rdma": True},
        "seccomp": {
            "enabled": True,
            "actions": sorted(ACTIONS),
            "operators": sorted(OPERATORS),
            "archs": sorted(ARCHITECTURES),
            "knownFlags": sorted(FLAGS),
            "supportedFlags": sorted(supported_flags),
        },
        "apparmor": {"enabled": True},
        "selinux": {"enabled": True},
        "memoryPolicy": {"modes": sorted(MEMORY_POLICY_MODES), "flags": sorted(MEMORY_POLICY_FLAGS)},
        "intelRdt": {"enabled": True, "schemata": True, "monitoring": True},
        "mountExtensions": {"idmap": {"enabled": True}},
        "netDevices": {"enabled": True},
    }
