"""What of a configuration is the guest's, and what is refused."""

import pytest

from boxwright.boxes.vm.guest import guest_config, guest_facts, refuse
from boxwright.boxes.vm.jail import OVERHEAD_BYTES, Jail, jail_config
from boxwright.errors import UnsupportedError
from boxwright.plan.cgroups import place
from boxwright.spec.decode import decode
from boxwright.spec.jsontext import encode_json
from boxwright.spec.types import Config, IDMapping

MIB = 1 << 20
IDS = (IDMapping(0, 100000, 65536),)


def config(**sections: object) -> Config:
    document = {"ociVersion": "1.3.0", "root": {"path": "rootfs"}, "process": {"cwd": "/", "args": ["true"]}}
    return decode(encode_json({**document, **sections}).encode())


def jail(**changes: object) -> Jail:
    return Jail(("6",), "/usr/lib/boxwright-helper", (IDS, IDS), 65537, 512 * MIB).replace(**changes)


@pytest.mark.parametrize(
    ("sections", "pointer"),
    [
        ({"process": {"cwd": "/", "args": ["x"], "apparmorProfile": "p"}}, "/process/apparmorProfile"),
        ({"process": {"cwd": "/", "args": ["x"], "selinuxLabel": "l"}}, "/process/selinuxLabel"),
        ({"hooks": {"createContainer": [{"path": "/bin/true"}]}}, "/hooks/createContainer"),
        ({"linux": {"namespaces": [{"type": "pid", "path": "/proc/1/ns/pid"}]}}, "/linux/namespaces/0/path"),
        ({"linux": {"intelRdt": {"closID": "a"}}}, "/linux/intelRdt"),
        ({"linux": {"netDevices": {"eth0": {}}}}, "/linux/netDevices"),
        ({"linux": {"resources": {"network": {"classID": 1}}}}, "/linux/resources/network"),
        ({"linux": {"resources": {"rdma": {"mlx": {"hcaHandles": 1}}}}}, "/linux/resources/rdma"),
    ],
)
def test_what_is_the_host_kernels_is_refused(sections: dict[str, object], pointer: str) -> None:
    with pytest.raises(UnsupportedError) as caught:
        refuse(config(**sections))
    assert (caught.value.property, caught.value.box) == (pointer, "vm")


def test_a_network_namespace_given_by_path_is_neither_the_guests_nor_the_jails() -> None:
    asked = config(linux={"namespaces": [{"type": "network", "path": "/run/netns/a"}, {"type": "pid"}]})
    refuse(asked)
    guests, jails = guest_config(asked).linux, jail_config(asked, jail()).linux
    assert guests
    assert jails
    assert [namespace.type for namespace in guests.namespaces] == ["pid"]
    assert [namespace.path for namespace in jails.namespaces if namespace.type == "network"] == [None]


def test_the_guest_has_no_user_namespace_and_the_jail_has() -> None:
    asked = config(linux={"namespaces": [{"type": "user"}], "uidMappings": [], "gidMappings": []})
    guests, jails = guest_config(asked).linux, jail_config(asked, jail()).linux
    assert guests
    assert jails
    assert not guests.namespaces
    assert jails.uid_mappings == IDS
    assert any(namespace.type == "user" for namespace in jails.namespaces)


def test_hooks_run_where_their_programs_are() -> None:
    hook = [{"path": "/bin/true"}]
    kinds = ("prestart", "createRuntime", "startContainer", "poststart", "poststop")
    asked = config(hooks=dict.fromkeys(kinds, hook))
    guests, jails = guest_config(asked).hooks, jail_config(asked, jail()).hooks
    assert guests
    assert jails
    assert guests.start_container
    assert not guests.create_runtime
    assert not guests.poststop
    assert jails.create_runtime
    assert jails.prestart
    assert jails.poststart
    assert jails.poststop
    assert not jails.start_container


def test_the_containers_group_is_where_the_agent_looks() -> None:
    guest = guest_config(config(linux={"cgroupsPath": "/machine/x"}))
    facts = guest_facts({"controllers": "cpu memory pids"})
    (group,) = place(guest, facts.cgroups, "id", "cgroupfs").groups
    assert group.path == "/sys/fs/cgroup/boxwright"


def test_a_memory_limit_is_the_guests_and_the_machine_gets_its_own_beside() -> None:
    asked = config(linux={"resources": {"memory": {"limit": 64 * MIB, "swap": 64 * MIB}}})
    guests, jails = guest_config(asked).linux, jail_config(asked, jail()).linux
    assert guests
    assert guests.resources
    assert guests.resources.memory
    assert jails
    assert jails.resources
    assert jails.resources.memory
    assert guests.resources.memory.limit == 64 * MIB
    assert jails.resources.memory.limit == 512 * MIB + OVERHEAD_BYTES


def test_cpus_and_disks_of_the_host_are_for_the_machine() -> None:
    limits = {"cpu": {"quota": 5, "cpus": "0"}, "blockIO": {"weight": 100}}
    guest = guest_config(config(linux={"resources": limits})).linux
    assert guest
    assert guest.resources
    assert guest.resources.cpu
    assert (guest.resources.cpu.quota, guest.resources.cpu.cpus, guest.resources.block_io) == (5, None, None)


def test_the_jail_has_no_device_but_kvm_where_it_is_used() -> None:
    without, with_kvm = jail_config(config(), jail()).linux, jail_config(config(), jail(kvm=True)).linux
    assert without
    assert with_kvm
    assert not without.devices
    assert [device.path for device in with_kvm.devices] == ["/dev/kvm"]


@pytest.mark.parametrize(("own", "seen"), [({}, 0o027), ({"umask": 0o002}, 0o002)])
def test_the_umask_is_the_callers_where_none_is_set(own: dict[str, int], seen: int) -> None:
    process = {"cwd": "/", "args": ["x"], "user": {"uid": 1, "gid": 1, **own}}
    found = guest_config(config(process=process), 0o027).process
    assert found is not None
    assert found.user.umask == seen


@pytest.mark.parametrize("action", ["SCMP_ACT_ERRNO", "SCMP_ACT_NOTIFY"])
def test_a_listener_is_refused_where_something_is_told_to_it(action: str) -> None:
    rules = [{"names": ["getppid"], "action": action}]
    seccomp = {"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/run/agent", "syscalls": rules}
    asked = config(linux={"seccomp": seccomp})
    if action == "SCMP_ACT_NOTIFY":
        with pytest.raises(UnsupportedError, match="listenerPath"):
            refuse(asked)
    else:
        refuse(asked)
