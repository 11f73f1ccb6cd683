"""The process: who it is, what it may do, and the program."""

from boxwright.errors import UnsupportedError
from boxwright.plan import ops
from boxwright.plan.namespaces import in_user_namespace
from boxwright.plan.seccomp_flags import filter_flags
from boxwright.spec import constants

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxwright.plan.builder import Builder
    from boxwright.plan.request import HostFacts
    from boxwright.spec.types import Linux, MemoryPolicy, Process, Seccomp

ANCHOR = "config.md#configProcess"
POSIX_ANCHOR = "config.md#configPOSIXProcess"
LINUX_ANCHOR = "config.md#configLinuxProcess"
USER_ANCHOR = "config.md#configUser"
SECCOMP_ANCHOR = "config-linux.md#configLinuxSeccomp"
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
CAP_SYS_ADMIN = 1 << 21
KEEP_GROUPS = (-1,)


def environment_value(env: tuple[str, ...], name: str) -> str | None:
    """The value of a variable in a list of `NAME=value`; the last one counts."""
    start = f"{name}="
    for entry in reversed(env):
        if entry.startswith(start):
            return entry[len(start) :]
    return None


def without_repeats(env: tuple[str, ...]) -> tuple[str, ...]:
    """The environment with each variable once, at its last value: getenv(3) would find the first."""
    last = {entry.partition("=")[0]: entry for entry in env}
    return env if len(last) == len(env) else tuple(last.values())


def capability_mask(names: "tuple[str, ...] | None") -> int:
    """The set as a bit mask; unknown names are left out (validation has warned of them)."""
    mask = 0
    for name in names or ():
        number = constants.CAPABILITIES.get(name)
        if number is not None:
            mask |= 1 << number
    return mask


def cpu_mask(text: str) -> bytes:
    """A list of CPUs or nodes such as `0-3,7` as the bytes of a bit mask."""
    mask = 0
    for part in text.split(","):
        first, _, last = part.strip().partition("-")
        if first:
            for number in range(int(first), int(last or first) + 1):
                mask |= 1 << number
    length = max(8, (mask.bit_length() + 63) // 64 * 8)
    return mask.to_bytes(length, "little")


class ProcessSteps:
    """Compiles the process into the init's list, before and after the gate."""

    def __init__(self, b: "Builder", process: "Process", linux: "Linux | None", facts: "HostFacts", proc: int) -> None:
        self._b = b
        self._process = process
        self._linux = linux
        self._facts = facts
        self._proc = proc
        self.keep_groups = False  # those of the caller, as the annotation of crun asks for
        self.own_stdio = True

    def compile_outer(self, *, scored: bool = False) -> None:
        """What only the privileged side may do to the init; its OOM score too unless it is `scored` already."""
        process = self._process
        if process.oom_score_adj is not None and not scored:
            data = str(process.oom_score_adj).encode()
            self._b.add(
                ops.OUTER,
                ops.WriteChildFile(ops.INIT, "oom_score_adj", data),
                process.at("oomScoreAdj"),
                LINUX_ANCHOR,
            )
        if self._limits_outside:
            self._rlimits(ops.OUTER)

    @property
    def _limits_outside(self) -> bool:
        """In a user namespace the init may not raise a hard limit."""
        return in_user_namespace(self._linux) and self._facts.privileged

    def _rlimits(self, actor: int) -> None:
        for limit in self._process.rlimits:
            number = constants.RLIMITS[limit.type]
            op = ops.SetRlimit(number, _signed(limit.soft), _signed(limit.hard))
            self._b.add(actor, op, limit.pointer, POSIX_ANCHOR, about=limit.type)

    def compile_program(self) -> None:
        """Working directory and program: found at create, so that what is missing is an error of create."""
        process = self._process
        self._b.add(ops.INIT, ops.SetCwd(process.cwd, 0), process.at("cwd"), ANCHOR)
        path = environment_value(process.env, "PATH")
        if environment_value(process.env, "HOME") is None:
            self._b.add(ops.INIT, ops.FindHome(process.user.uid), process.at("env"), ANCHOR)
        op = ops.FindProgram(process.args[0], DEFAULT_PATH if path is None else path)
        self._b.add(ops.INIT, op, process.at("args", 0), ANCHOR)

    def compile_attributes(self) -> None:
        """Scheduling, memory and execution attributes: need the privileges that are dropped next."""
        b, process = self._b, self._process
        if not self._limits_outside:
            self._rlimits(ops.INIT)
        if (scheduler := process.scheduler) is not None:
            flags = 0
            for name in scheduler.flags:
                flags |= constants.SCHEDULER_FLAGS[name]
            op = ops.SetScheduler(
                constants.SCHEDULER_POLICIES[scheduler.policy],
                flags,
                scheduler.nice or 0,
                scheduler.priority or 0,
                scheduler.runtime or 0,
                scheduler.deadline or 0,
                scheduler.period or 0,
            )
            b.add(ops.INIT, op, process.at("scheduler"), LINUX_ANCHOR)
        if (io_priority := process.io_priority) is not None:
            value = constants.IO_PRIORITY_CLASSES[io_priority.class_] << constants.IO_PRIORITY_CLASS_SHIFT | (
                io_priority.priority or 0
            )
            b.add(ops.INIT, ops.SetIOPriority(value), process.at("ioPriority"), LINUX_ANCHOR)
        if self._linux is not None:
            self._linux_attributes(self._linux)

    def _linux_attributes(self, linux: "Linux") -> None:
        if linux.memory_policy is not None:
            self._memory_policy(linux.memory_policy)
        if linux.personality is not None:
            persona = constants.PERSONALITY_DOMAINS[linux.personality.domain]
            anchor = "config-linux.md#configLinuxPersonality"
            self._b.add(ops.INIT, ops.SetPersonality(persona), "/linux/personality", anchor)

    def _memory_policy(self, policy: "MemoryPolicy") -> None:
        mode = constants.MEMORY_POLICY_MODES[policy.mode]
        for name in policy.flags:
            mode |= constants.MEMORY_POLICY_FLAGS[name]
        nodes = cpu_mask(policy.nodes) if policy.nodes else b""
        anchor = "config-linux.md#configLinuxMemoryPolicy"
        self._b.add(ops.INIT, ops.SetMemoryPolicy(mode, nodes), policy.pointer, anchor)

    def compile_identity(self, seccomp: bytes, listener: int, listener_state: tuple[str, ...]) -> None:
        """Labels, capabilities, user, no_new_privs and seccomp, in the order that each needs of the others.

        Once the filter holds nothing is left to do but execve: a strict one would refuse it. To load it without
        no_new_privs takes CAP_SYS_ADMIN, which is kept until then: execve works out the program's capabilities from
        the other sets, and what is only permitted and effective ends with it (capabilities(7)).
        """
        b, process = self._b, self._process
        self._labels()
        masks = self._masks()
        load = self._seccomp_op(seccomp, listener, listener_state)
        for_filter = CAP_SYS_ADMIN if load is not None and not process.no_new_privileges else 0
        if process.user.umask is not None:
            b.add(ops.INIT, ops.SetUmask(process.user.umask), "/process/user/umask", USER_ANCHOR)
        b.add(ops.INIT, ops.BoundCaps(masks[0]), process.at("capabilities", "bounding"), LINUX_ANCHOR)
        user = process.user
        if self.own_stdio:
            b.add(ops.INIT, ops.OwnStdio(user.uid), process.at("user"), USER_ANCHOR)
        groups = KEEP_GROUPS if self.keep_groups else tuple(user.additional_gids)
        op = ops.SetUser(user.uid, user.gid, groups, 1)
        b.add(ops.INIT, op, process.at("user"), USER_ANCHOR)
        caps = ops.SetCaps(masks[1] | for_filter, masks[2] | for_filter, *masks[3:])
        b.add(ops.INIT, caps, process.at("capabilities"), LINUX_ANCHOR)
        if process.no_new_privileges:
            b.add(ops.INIT, ops.NoNewPrivs(), process.at("noNewPrivileges"), LINUX_ANCHOR)
        if load is not None:
            b.add(ops.INIT, load, "/linux/seccomp", SECCOMP_ANCHOR)

    def _masks(self) -> tuple[int, int, int, int, int]:
        """Bounding, effective, permitted, inheritable, ambient."""
        caps = self._process.capabilities
        if caps is None:
            return 0, 0, 0, 0, 0
        sets = (caps.bounding, caps.effective, caps.permitted, caps.inheritable, caps.ambient)
        bounding, effective, permitted, inheritable, ambient = map(capability_mask, sets)
        return bounding, effective, permitted, inheritable, ambient

    def _labels(self) -> None:
        process = self._process
        if process.apparmor_profile:
            _require_profile(process, self._facts.apparmor)
            data = f"exec {process.apparmor_profile}".encode()
            op = ops.WriteAt(self._proc, "self/attr/apparmor/exec", data)
            self._b.add(ops.INIT, op, process.at("apparmorProfile"), LINUX_ANCHOR)
        if process.selinux_label:
            op = ops.WriteAt(self._proc, "self/attr/exec", process.selinux_label.encode())
            self._b.add(ops.INIT, op, process.at("selinuxLabel"), LINUX_ANCHOR)

    def _seccomp_op(self, program: bytes, listener: int, state: tuple[str, ...]) -> "ops.LoadSeccomp | None":
        if not program:
            return None
        section: Seccomp | None = self._linux.seccomp if self._linux else None
        flags = filter_flags(section) if section else 0
        return ops.LoadSeccomp(program, flags, listener, state)

    def compile_exec(self) -> None:
        """Become the program. Every descriptor of ours is close-on-exec."""
        process = self._process
        self._b.add(ops.INIT, ops.Exec(process.args, without_repeats(process.env)), process.at("args"), ANCHOR)


def _require_profile(process: "Process", profiles: tuple[str, ...] | None) -> None:
    """Raise UnsupportedError for an AppArmor profile that is not there: execve(2) would fail only after `start`.

    What is not told, stacked, or of another namespace is left to the kernel (apparmor(7)).
    """
    name = process.apparmor_profile or ""
    if profiles is None or name in profiles or "//" in name or name.startswith(":"):
        return
    if not profiles:
        raise UnsupportedError(process.at("apparmorProfile"), "linux", "AppArmor is not active")
    hint = "`aa-status` tells what is loaded, `apparmor_parser -r` loads"
    raise UnsupportedError(process.at("apparmorProfile"), "linux", f"no AppArmor profile `{name}` is loaded", hint=hint)


def _signed(value: int) -> int:
    """RLIM_INFINITY travels as -1."""
    return value - (1 << 64) if value >= 1 << 63 else value
