"""host.apparmor and what a plan makes of it: a profile that is not there is refused before anything is made."""

from pathlib import Path

import pytest

from boxwright.errors import UnsupportedError
from boxwright.host.apparmor import loaded_profiles
from boxwright.plan.cgroup_layout import CgroupLayout, CgroupPlacement, CgroupSite
from boxwright.plan.compile import compile_create
from boxwright.plan.request import HostFacts, Request, RootSource
from boxwright.spec.decode import decode
from boxwright.spec.jsontext import encode_json
from fixtures_runtime import default_config

LISTED = "docker-default (enforce)\n/usr/bin/man (complain)\nname with (blanks) (unconfined)\nsnap//hat (kill)\n"
LOADED = ("unconfined", "docker-default", "/usr/bin/man", "name with (blanks)", "snap//hat")


class Host:
    """Directories that stand for those of the kernel."""

    def __init__(self, path: Path) -> None:
        self.securityfs, self.attributes = path / "securityfs", path / "attr"
        self.module = path / "module/apparmor/parameters"
        for directory in (self.securityfs, self.module, self.attributes):
            directory.mkdir(parents=True)
        (self.securityfs / "profiles").write_text(LISTED)
        (self.module / "enabled").write_text("Y\n")
        (self.attributes / "current").write_text("unconfined\n")

    def profiles(self) -> tuple[str, ...] | None:
        return loaded_profiles(str(self.securityfs), str(self.module), str(self.attributes))


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def test_the_names_of_what_is_loaded(host: Host) -> None:
    assert host.profiles() == LOADED


def test_no_names_where_it_is_not_active(host: Host) -> None:
    (host.module / "enabled").write_text("N\n")
    assert host.profiles() == ()


def test_no_names_where_the_kernel_has_it_not(host: Host) -> None:
    (host.module / "enabled").unlink()
    host.module.rmdir()
    assert host.profiles() == ()


def test_it_cannot_be_told_without_securityfs(host: Host) -> None:
    (host.securityfs / "profiles").unlink()
    assert host.profiles() is None


def test_it_cannot_be_told_from_a_list_that_is_not_ours_to_read(host: Host) -> None:
    (host.securityfs / "profiles").unlink()
    (host.securityfs / "profiles").mkdir()  # nobody can read it, root neither
    assert host.profiles() is None


def test_it_cannot_be_told_whether_it_is_active_by_who_may_not_ask(host: Host) -> None:
    (host.module / "enabled").unlink()
    (host.module / "enabled").mkdir()
    assert host.profiles() is None


def test_it_cannot_be_told_without_sysfs(host: Host) -> None:
    (host.module / "enabled").unlink()
    host.module.rmdir()
    host.module.parent.rmdir()
    host.module.parent.parent.rmdir()
    assert host.profiles() is None


@pytest.mark.parametrize("own", ["docker-default (enforce)", "a (complain)", "unconfined//&:ns:unconfined (enforce)"])
def test_it_cannot_be_told_by_who_is_confined(host: Host, own: str) -> None:
    (host.attributes / "current").write_text(own)
    assert host.profiles() is None


def compiled(name: str, profiles: tuple[str, ...] | None) -> None:
    document = default_config()
    document["process"]["apparmorProfile"] = name
    facts = HostFacts(0, 0, True, CgroupLayout("none"), apparmor=profiles)
    request = Request("c1", "/b", RootSource("/b/r"), CgroupPlacement("none"), CgroupSite(), ("", ""))
    del document["linux"]["resources"], document["linux"]["cgroupsPath"]
    compile_create(decode(encode_json(document).encode()), facts, request)


@pytest.mark.parametrize("name", [*LOADED, "unloaded//hat", "docker-default//&snap", ":ns:profile", ":ns://profile"])
def test_what_is_loaded_or_only_the_kernel_knows_is_taken(name: str) -> None:
    compiled(name, LOADED)


@pytest.mark.parametrize("name", ["docker-defaul", "docker-default (enforce)", "man"])
def test_what_is_not_loaded_is_refused(name: str) -> None:
    compiled(name, None)
    with pytest.raises(UnsupportedError, match="no AppArmor profile `") as caught:
        compiled(name, LOADED)
    assert (caught.value.property, caught.value.hint is None) == ("/process/apparmorProfile", False)


def test_without_apparmor_any_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="AppArmor is not active"):
        compiled("docker-default", ())
