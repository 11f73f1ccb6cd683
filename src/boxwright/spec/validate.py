"""Validation: one function a rule, and every problem at once.

`validate` decides what can be decided from the document alone. What depends on the machine or on the box is
decided later, by the plan and by the box.
"""

from boxwright.errors import ConfigError, Problem
from boxwright.spec.constants import OCI_VERSION_MAX, OCI_VERSION_MIN
from boxwright.spec.rules import parse_version

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

    from boxwright.spec.types import Config, Process, Resources

    Rule = Callable[[Any], Iterable[Problem]]

_IMAGE_ANNOTATIONS = tuple(
    f"org.opencontainers.image.{name}"
    for name in (
        "os",
        "os.version",
        "os.features",
        "architecture",
        "variant",
        "author",
        "created",
        "stopSignal",
    )
)


def validate(config: "Config", *, platform: str = "linux") -> list[Problem]:
    """Every rule that the document breaks on `platform`; those that are not `fatal` are for the log.

    Rules of a section hold where the section is present, whatever the platform.
    """
    from boxwright.spec import validate_linux

    problems = _apply((oci_version, annotations), config)
    if config.linux is not None:
        problems += validate_linux_section(config)
    if platform == "linux":
        from boxwright.spec.validate_mounts import linux_mounts

        problems += _apply((linux_mounts, *validate_linux.CONFIG_RULES), config)
    if platform == "windows":
        from boxwright.spec.validate_other import windows_platform

        problems += windows_platform(config)
    else:
        problems += _posix(config, platform)
    if config.vm is not None:
        from boxwright.spec.validate_vm import RULES

        problems += _apply(RULES, config.vm)
    if config.windows or config.solaris or config.zos or config.freebsd:
        problems += _other_sections(config)
    return problems


def validate_process(process: "Process", *, platform: str = "linux") -> list[Problem]:
    """Every rule that a process breaks, alone (`exec --process`) or in a configuration."""
    from boxwright.spec.validate_process import LINUX_RULES, POSIX_RULES

    rules = (*POSIX_RULES, *LINUX_RULES) if platform == "linux" else POSIX_RULES
    return _apply(rules, process)


def validate_resources(resources: "Resources") -> list[Problem]:
    """Every rule that Linux resources break, alone (`update --resources`) or in a configuration."""
    from boxwright.spec.validate_resources import RULES

    return _apply(RULES, resources)


def validate_linux_section(config: "Config") -> list[Problem]:
    """Every rule that the Linux section breaks by itself."""
    from boxwright.spec.validate_linux import LINUX_RULES

    linux = config.linux
    if linux is None:
        return []
    problems = _apply(LINUX_RULES, linux)
    if linux.resources is not None:
        problems += validate_resources(linux.resources)
    if linux.seccomp is not None:
        from boxwright.spec.validate_seccomp import RULES

        problems += _apply(RULES, linux.seccomp)
    return problems


def refuse(problems: "Iterable[Problem]", *, source: str = "config.json") -> list[Problem]:
    """The problems that are only for the log. Raises ConfigError where there are others."""
    found = list(problems)
    fatal = [problem for problem in found if problem.fatal]
    if fatal:
        raise ConfigError(fatal, source=source)
    return found


def oci_version(config: "Config") -> "Iterator[Problem]":
    """The version is SemVer 2.0.0, of our major version, and no newer than we know."""
    anchor, where = "config.md#configSpecificationVersion", config.at("ociVersion")
    version = parse_version(config.oci_version)
    least, most = parse_version(OCI_VERSION_MIN), parse_version(OCI_VERSION_MAX)
    if version is None:
        yield Problem(where, "must be a version by SemVer 2.0.0", anchor, value=config.oci_version)
    elif least and most and not (version[0] == most[0] and least[:2] <= version[:2] <= most[:2]):
        rule = f"is not supported: versions from {OCI_VERSION_MIN} to {OCI_VERSION_MAX} are"
        yield Problem(where, rule, anchor, value=config.oci_version)


def annotations(config: "Config") -> "Iterator[Problem]":
    """Keys are not empty, and the standard's own name space has only its own."""
    anchor = "config.md#configAnnotations"
    for key in config.annotations:
        if not key:
            yield Problem(config.at("annotations", key), "must not have an empty key", anchor)
        elif key.startswith("org.opencontainers.") and key not in _IMAGE_ANNOTATIONS:
            where = config.at("annotations", key)
            yield Problem(where, "is a key that the standard reserves", anchor, value=key, fatal=False)


def root(config: "Config") -> "Iterator[Problem]":
    """There is a root filesystem."""
    if config.root is None:
        yield Problem("", "`root` is missing", "config.md#configRoot")
    elif not config.root.path:
        yield Problem(config.root.at("path"), "must not be empty", config.root.anchor)


def _posix(config: "Config", platform: str) -> list[Problem]:
    problems = _apply((root,), config)
    if config.process is not None:
        problems += validate_process(config.process, platform=platform)
    if config.hooks is not None:
        from boxwright.spec.validate_process import hooks

        problems += hooks(config.hooks)
    if platform != "linux":
        from boxwright.spec.validate_other import absolute_mounts

        problems += absolute_mounts(config)
    return problems


def _other_sections(config: "Config") -> list[Problem]:
    from boxwright.spec import validate_other as other

    sections = (
        (config.windows, other.windows_section),
        (config.solaris, other.solaris_section),
        (config.zos, other.zos_section),
        (config.freebsd, other.freebsd_section),
    )
    problems: list[Problem] = []
    for section, rule in sections:
        if section is not None:
            problems += _apply((rule,), section)
    return problems


def _apply(rules: "Iterable[Rule]", subject: object) -> list[Problem]:
    return [problem for rule in rules for problem in rule(subject)]
