"""Whose ids the jail has, and how owners on the disk become those of the container."""

import pytest

from boxwright.boxes.vm.ids import (
    FILE_IDS,
    MOST_FILE_IDS,
    SPARE_IDS,
    callers_ids,
    disk_ids,
    mapped_ids,
    owners_agree,
    share_mappings,
    wanted_ids,
)
from boxwright.spec.types import IDMapping, Linux, Namespace

BASE = 1_000_000
USER = (Namespace("user"),)


def linux(*maps: tuple[int, int, int]) -> Linux:
    mappings = tuple(IDMapping(*numbers) for numbers in maps)
    return Linux(namespaces=USER, uid_mappings=mappings, gid_mappings=mappings)


def triples(mappings: tuple[IDMapping, ...]) -> list[tuple[int, int, int]]:
    return [(m.container_id, m.host_id, m.size) for m in mappings]


def test_a_mapped_jail_has_ids_of_nobody_for_files_and_some_more_for_itself() -> None:
    ids = mapped_ids(None, BASE)
    assert triples(ids.uid_mappings) == [(0, BASE, FILE_IDS + SPARE_IDS)]
    assert (ids.mapped, ids.spare, wanted_ids(None)) == (True, FILE_IDS, FILE_IDS + SPARE_IDS)


def test_a_jail_with_the_ids_of_the_disk_gives_its_own_processes_others() -> None:
    ids = disk_ids(None, BASE)
    assert triples(ids.uid_mappings) == [(0, 0, FILE_IDS), (FILE_IDS, BASE + FILE_IDS, SPARE_IDS)]
    assert (ids.mapped, ids.spare) == (False, FILE_IDS)


def test_a_containers_own_maps_are_the_jails_where_nothing_can_be_id_mapped() -> None:
    ids = disk_ids(linux((0, 300000, 1000), (1000, 500000, 70000)), BASE)
    top = 71000
    assert triples(ids.gid_mappings) == [(0, 300000, 1000), (1000, 500000, 70000), (top, BASE + top, SPARE_IDS)]


def test_a_container_that_maps_every_id_does_not_take_them_all() -> None:
    ids = disk_ids(linux((0, 0, 4294967295)), BASE)
    assert triples(ids.uid_mappings)[0] == (0, 0, MOST_FILE_IDS)
    assert wanted_ids(linux((0, 0, 4294967295))) == MOST_FILE_IDS + SPARE_IDS


def test_without_a_user_namespace_an_id_of_the_disk_is_the_same_in_the_container() -> None:
    assert [triples(maps) for maps in share_mappings(None, mapped_ids(None, BASE))] == [[(0, BASE, FILE_IDS)]] * 2


def test_what_a_user_namespace_maps_from_the_disk_is_what_the_jail_shows() -> None:
    asked = linux((0, 300000, 1000), (5000, 600000, 10))
    uids, _ = share_mappings(asked, mapped_ids(asked, BASE))
    assert triples(uids) == [(300000, BASE, 1000), (600000, BASE + 5000, 10)]


@pytest.mark.parametrize(
    ("container", "own", "expected"),
    [
        ((), ((0, 0, 10),), [(0, BASE, 10)]),
        ((), ((7, 100, 10),), [(7, BASE + 100, 10)]),
        (((0, 300000, 65536),), ((0, 300000, 65536),), [(0, BASE, 65536)]),
        # only the part that the container maps; the rest is nobody's
        (((0, 300000, 100),), ((0, 299990, 20),), [(10, BASE, 10)]),
        (((0, 300000, 5), (5, 300010, 5)), ((0, 300000, 20),), [(0, BASE, 5), (10, BASE + 5, 5)]),
        (((0, 300000, 100),), ((0, 0, 100),), []),
        ((), ((0, 65530, 100),), [(0, BASE + 65530, 6)]),
    ],
)
def test_a_mounts_own_maps_come_first(
    container: tuple[tuple[int, int, int], ...],
    own: tuple[tuple[int, int, int], ...],
    expected: list[tuple[int, int, int]],
) -> None:
    asked = linux(*container) if container else None
    maps = tuple(IDMapping(*numbers) for numbers in own)
    uids, gids = share_mappings(asked, mapped_ids(asked, BASE), (maps, maps))
    assert triples(uids) == triples(gids) == expected


def test_a_caller_without_privileges_keeps_a_few_of_its_ids_for_the_hypervisor() -> None:
    maps = (IDMapping(0, 1000, 1), IDMapping(1, 100000, 65536))
    ids = callers_ids(None, maps, maps)
    assert (ids.uid_mappings, ids.spare, ids.mapped) == (maps, 65537 - SPARE_IDS, False)


def test_a_caller_with_one_id_has_none_to_spare() -> None:
    maps = (IDMapping(0, 1000, 1),)
    assert callers_ids(None, maps, maps).spare == 0


def test_a_container_of_a_caller_without_privileges_brings_its_maps() -> None:
    asked = linux((0, 1000, 1))
    assert callers_ids(asked, (), ()).uid_mappings == asked.uid_mappings


@pytest.mark.parametrize(
    ("asked", "privileged", "agree"),
    [
        (None, True, True),
        (linux((0, 0, 4294967295)), True, True),
        (linux((0, 300000, 1000)), True, False),
        (None, False, False),
    ],
)
def test_an_image_will_do_where_owners_on_the_disk_are_those_of_the_guest(
    asked: Linux | None, privileged: bool, agree: bool
) -> None:
    assert owners_agree(asked, privileged=privileged) is agree
