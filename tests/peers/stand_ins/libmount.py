"""Stands in for python3-libmount, which Debian 12 lacks, as far as other projects' tests use it."""

from typing import NamedTuple


class Mount(NamedTuple):
    target: str
    vfs_options: str
    fs_options: str


class Table:
    """The mounts of a file in the form of /proc/self/mountinfo."""

    def __init__(self, path: str) -> None:
        with open(path) as file:
            self._mounts = [self._parse(line) for line in file if " - " in line]

    @staticmethod
    def _parse(line: str) -> Mount:
        own, _, filesystem = line.partition(" - ")
        fields = own.split()
        return Mount(fields[4], fields[5], filesystem.split()[-1])

    def find_target(self, target: str) -> Mount:
        """The topmost mount there."""
        return next(mount for mount in reversed(self._mounts) if mount.target == target)
