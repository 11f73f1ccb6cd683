"""Device rules: the same meaning as writes to the v1 controller and as a program for v2."""

import json
from struct import unpack_from
from typing import Any

import pytest
from cgroup_hosts import V1, V2, config
from hypothesis import given, settings
from hypothesis import strategies as st

from boxwright.errors import ConfigError, UnsupportedError
from boxwright.plan.cgroup_devices import ALL, MKNOD, READ, WRITE, DeviceRule, compile_devices, device_rules
from boxwright.plan.cgroups import place
from boxwright.plan.device_program import assemble
from boxwright.plan.ops import SetDeviceFilter, Step, Write

NULL, FUSE, DISK = ("c", 1, 3), ("c", 10, 229), ("b", 8, 0)


def rules_of(entries: list[dict[str, Any]]) -> tuple[DeviceRule, ...]:
    linux = config({"devices": entries}).linux
    assert linux is not None
    return device_rules(linux.resources)


def steps_of(layout: Any, entries: list[dict[str, Any]]) -> list[Step]:
    wanted = config({"devices": entries})
    assert wanted.linux is not None
    return compile_devices(wanted.linux.resources, layout, place(wanted, layout, "id", "cgroupfs"))


# --- the oracle: rules as words -----------------------------------------------------------------------------------


def allowed(rules: tuple[DeviceRule, ...], device: tuple[str, int, int], access: int) -> bool:
    """Each bit by the last rule that names the device and it."""

    def bit_allowed(bit: int) -> bool:
        verdict = False
        for rule in rules:
            fits = rule.kind in {"a", device[0]} and rule.major in {-1, device[1]} and rule.minor in {-1, device[2]}
            if fits and rule.access & bit:
                verdict = rule.allow
        return verdict

    return all(bit_allowed(bit) for bit in (MKNOD, READ, WRITE) if access & bit)


# --- the machine: a BPF interpreter of what the program uses ------------------------------------------------------


def run(program: bytes, device: tuple[str, int, int], access: int) -> bool:
    context = {0: access << 16 | {"b": 1, "c": 2}[device[0]], 4: device[1], 8: device[2]}
    registers: dict[int, int] = {1: -1}
    counter = 0
    for _ in range(len(program) // 8 + 1):
        code, pair, offset, value = unpack_from("<BBhi", program, counter * 8)
        target, source = pair & 15, pair >> 4
        unsigned = value & 0xFFFFFFFF
        counter += 1
        match code:
            case 0x61:
                assert source == 1
                registers[target] = context[offset]
            case 0xB4:
                registers[target] = unsigned
            case 0xBC:
                registers[target] = registers[source]
            case 0x54:
                registers[target] &= unsigned
            case 0x74:
                registers[target] >>= value
            case 0x05:
                counter += offset
            case 0x56:
                counter += offset if registers[target] != unsigned else 0
            case 0x46:
                counter += offset if registers[target] & unsigned else 0
            case 0x95:
                return bool(registers[0])
            case _:
                raise AssertionError(f"unknown instruction {code:#x}")
    raise AssertionError("the program does not end")


class V1Controller:
    """The kernel's v1 controller (security/device_cgroup.c), as far as a group without children goes."""

    def __init__(self) -> None:
        self.allow_by_default = True
        self.exceptions: dict[tuple[str, int, int], int] = {}

    def write(self, file: str, line: str) -> None:
        allow = file == "devices.allow"
        if line == "a":
            self.allow_by_default, self.exceptions = allow, {}
            return
        kind, numbers, letters = line.split()
        major, minor = (-1 if part == "*" else int(part) for part in numbers.split(":"))
        access = sum({"r": READ, "w": WRITE, "m": MKNOD}[letter] for letter in letters)
        key = (kind, major, minor)
        if allow == self.allow_by_default:
            self.exceptions[key] = self.exceptions.get(key, 0) & ~access
        else:
            self.exceptions[key] = self.exceptions.get(key, 0) | access

    def allowed(self, device: tuple[str, int, int], access: int) -> bool:
        hits = [
            bits
            for (kind, major, minor), bits in self.exceptions.items()
            if kind == device[0] and major in {-1, device[1]} and minor in {-1, device[2]}
        ]
        if self.allow_by_default:
            return not any(bits & access for bits in hits)
        return any(access & ~bits == 0 and bits for bits in hits)


# --- tests --------------------------------------------------------------------------------------------------------

ENTRIES = st.lists(
    st.builds(
        lambda allow, kind, major, minor, access: {
            key: value
            for key, value in {"allow": allow, "type": kind, "major": major, "minor": minor, "access": access}.items()
            if value is not None
        },
        st.booleans(),
        st.sampled_from(["a", "b", "c", None]),
        st.sampled_from([None, 1, 8, 10, -1]),
        st.sampled_from([None, 0, 3, 229]),
        st.sampled_from([None, "r", "w", "m", "rw", "rwm", "rm"]),
    ),
    max_size=7,
)
DEVICES = [(kind, major, minor) for kind in "bc" for major in (1, 8, 10, 136) for minor in (0, 3, 229)]


@settings(max_examples=150, deadline=None)
@given(ENTRIES)
def test_the_program_means_what_the_rules_say(entries: list[dict[str, Any]]) -> None:
    rules = rules_of(entries)
    program = assemble(rules)
    for device in DEVICES:
        for access in range(1, ALL + 1):
            assert run(program, device, access) == allowed(rules, device, access), (device, access)


@settings(max_examples=150, deadline=None)
@given(ENTRIES)
def test_v1_means_what_the_rules_say_or_is_refused(entries: list[dict[str, Any]]) -> None:
    rules = rules_of(entries)
    try:
        steps = steps_of(V1, entries)
    except UnsupportedError:
        return
    controller = V1Controller()
    for step in steps:
        assert isinstance(step.op, Write)
        controller.write(step.op.path.rpartition("/")[2], step.op.data.decode())
    for device in DEVICES:
        for access in (MKNOD, READ, WRITE):
            assert controller.allowed(device, access) == allowed(rules, device, access), (device, access)


def test_without_rules_only_default_devices_can_be_opened() -> None:
    program = assemble(device_rules(None))
    assert run(program, NULL, ALL)
    assert run(program, ("c", 136, 7), READ | WRITE)
    assert run(program, DISK, MKNOD)
    assert not run(program, DISK, READ)
    assert not run(program, ("c", 1, 1), READ)


def test_the_last_rule_wins() -> None:
    program = assemble(
        rules_of(
            [
                {"allow": True, "type": "c", "major": 10},
                {"allow": False, "type": "c", "major": 10, "minor": 229, "access": "w"},
            ]
        )
    )
    assert run(program, FUSE, READ)
    assert not run(program, FUSE, WRITE)
    assert not run(program, FUSE, READ | WRITE)
    assert run(program, ("c", 10, 1), READ | WRITE)


def test_bits_of_one_access_may_come_from_two_rules() -> None:
    program = assemble(
        rules_of(
            [
                {"allow": True, "type": "b", "major": 8, "access": "r"},
                {"allow": True, "type": "b", "minor": 0, "access": "w"},
            ]
        )
    )
    assert run(program, DISK, READ | WRITE)
    assert not run(program, ("b", 8, 1), READ | WRITE)


def test_a_default_device_can_be_denied() -> None:
    program = assemble(
        rules_of(
            [{"allow": False, "access": "rwm"}, {"allow": False, "type": "c", "major": 1, "minor": 3, "access": "w"}]
        )
    )
    assert run(program, NULL, READ)
    assert not run(program, NULL, WRITE)


def test_all_allowed_needs_nothing_at_all() -> None:
    assert steps_of(V1, [{"allow": True}]) == []
    assert steps_of(V2, [{"allow": False}, {"allow": True, "access": "rwm"}]) == []


def test_v1_writes_in_the_listed_order() -> None:
    steps = steps_of(V1, [{"allow": False}, {"allow": True, "type": "c", "major": 10, "minor": 229, "access": "rw"}])
    assert steps[0].op == Write("/cg/devices/box/one/devices.deny", b"a")
    (ours,) = [step for step in steps if step.pointer == "/linux/resources/devices/1"]
    assert ours.op == Write("/cg/devices/box/one/devices.allow", b"c 10:229 rw")


def test_v1_refuses_a_hole_that_it_would_ignore() -> None:
    entries = [{"allow": True, "type": "c", "major": 10}, {"allow": False, "type": "c", "major": 10, "minor": 229}]
    with pytest.raises(UnsupportedError) as caught:
        steps_of(V1, entries)
    assert caught.value.property == "/linux/resources/devices/1"
    assert isinstance(steps_of(V2, entries)[0].op, SetDeviceFilter)


@pytest.mark.parametrize(
    ("entry", "name"),
    [
        ({"allow": True, "type": "x"}, "type"),
        ({"allow": True, "type": "c", "major": -2}, "major"),
        ({"allow": True, "type": "c", "minor": 1 << 32}, "minor"),
        ({"allow": True, "type": "c", "access": "rx"}, "access"),
    ],
)
def test_rules_that_make_no_sense_are_refused(entry: dict[str, Any], name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        rules_of([entry])
    assert caught.value.problems[0].pointer == f"/linux/resources/devices/0/{name}"


def test_rootless_device_steps_may_fail() -> None:
    layout = V2.replace(rootless=True)
    assert [step.soft for step in steps_of(layout, [{"allow": False}])] == [True]


def test_large_numbers_are_compared_whole() -> None:
    program = assemble(rules_of([json.loads('{"allow": true, "type": "c", "major": 4294967295, "access": "r"}')]))
    assert run(program, ("c", 4294967295, 0), READ)
    assert not run(program, ("c", 4294967294, 0), READ)
