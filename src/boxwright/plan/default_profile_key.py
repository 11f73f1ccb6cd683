"""What a program of the default profile is cached by. Hot, so it stands apart from the profile itself."""

# to be raised whenever `plan.default_profile` answers differently
PROFILE_VERSION = 1

# capabilities that open something in the profile; all others leave it as it is
DECIDING = (
    "CAP_BPF",
    "CAP_DAC_READ_SEARCH",
    "CAP_PERFMON",
    "CAP_SYSLOG",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_CHROOT",
    "CAP_SYS_MODULE",
    "CAP_SYS_NICE",
    "CAP_SYS_PACCT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
)


def deciding_capabilities(capabilities: "frozenset[str] | tuple[str, ...]") -> tuple[str, ...]:
    """Those of the capabilities that the profile looks at, in a fixed order."""
    return tuple([name for name in DECIDING if name in capabilities])
