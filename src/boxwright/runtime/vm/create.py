"""create and run of a container in a virtual machine (docs/decisions/0050-vm-box.md)."""

import os
from time import monotonic

from boxwright.boxes.vm import frames, jail
from boxwright.boxes.vm.client import ANSWER_S, Client
from boxwright.boxes.vm.guest import guest_config, guest_facts, guest_root, guest_site
from boxwright.boxes.vm.remote import RemoteHelper, size_of_terminal
from boxwright.errors import GuestError, UnsupportedError
from boxwright.host.processes import callers_umask
from boxwright.host.seccomp_cache import default_program
from boxwright.plan.cgroups import place
from boxwright.plan.compile import compile_create
from boxwright.plan.namespaces import is_new
from boxwright.plan.request import Request, RootSource
from boxwright.runtime.containers import CREATED, CREATING, state_document
from boxwright.runtime.create import Creation
from boxwright.runtime.documents import filter_program, root_path
from boxwright.runtime.following import Follower
from boxwright.runtime.foreground import TIMED_OUT
from boxwright.runtime.state_texts import around_pid
from boxwright.runtime.vm.lost import lost, why_stopped
from boxwright.runtime.vm.parts import Parts
from boxwright.spec.jsontext import encode_json
from boxwright.spec.tojson import to_json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Self

    from boxwright.plan.cgroup_layout import CgroupPlacement, CgroupSite
    from boxwright.plan.ops import Plan
    from boxwright.runtime.context import Runtime
    from boxwright.runtime.following import Outcome
    from boxwright.runtime.making import Making
    from boxwright.runtime.options import CreateOptions
    from boxwright.spec.types import Config

BOOT_S = 60.0
ENTROPY_BYTES = 64
JAIL = "jail.json"


class MachineCreation(Creation):
    """One create or run of a container in a virtual machine. `config` is the jail's from `begin` on."""

    box = "vm"

    def __init__(
        self, runtime: "Runtime", container_id: str, options: "CreateOptions", document: bytes, config: "Config"
    ) -> None:
        super().__init__(runtime, container_id, options, document, config)
        self.asked = self.config  # the user's own, with what the circumstances add to it
        self.parts: Parts | None = None
        self._overlay_bytes = -1
        self._guest_idle = False
        self._jail_filter = b""

    def overlay(self, root: str, size_bytes: int = 0, *, mapped: bool = False) -> None:
        """Cover the root filesystem, in the guest, with what is kept in its memory."""
        if mapped:
            raise UnsupportedError("init system", "vm", "an init system has not been tried in a guest")
        self._root = RootSource(root)
        self._overlay_bytes = size_bytes

    def check_end(self, status: int) -> None:
        """Raise GuestError where the machine was lost, with what is known of it, and the status that it gave."""
        if not self.container.exists() or status == TIMED_OUT:
            return
        why = why_stopped(self.container)
        if why:
            error = lost(self.container, GuestError(why))
            error.exit_code = status
            raise error

    def _begin(self, *, gate: bool) -> "MachineMaking":  # type: ignore[override]
        if self.preserve_fds:
            raise UnsupportedError("preserved descriptors", "vm", "a descriptor cannot be handed to another kernel")
        self._guest_idle, self.idle = self.idle, False
        lifeline = -1
        if self.bound:  # PR_SET_PDEATHSIG would not outlive the keeper's change of ids
            from boxwright.host.lifeline import lifeline as process_lifeline

            lifeline = process_lifeline()
        self.lifeline = -1
        if self.asked.root is not None and self.asked.root.readonly and not self._is_of_others():
            # the host's side keeps what the guest shall not write to; places of mounts are made in the overlay
            self._overlay_bytes = max(0, self._overlay_bytes)
        overlay = self._overlay_bytes >= 0
        self.parts = parts = Parts(
            self.asked, self.container, self.options.bundle, self._root, overlay=overlay, lifeline=lifeline
        )
        try:
            self.config = parts.jail
            self._root = parts.root
            self._jail_filter = default_program(jail.CAPABILITIES, self.runtime.cache)
            self.stdio = (*(self.stdio or (0, 1, 2)), *parts.fds)
            self.preserve_fds = len(parts.fds)
            self.container.write_file(JAIL, encode_json(to_json(parts.jail)).encode())
            making = super()._begin(gate=False)
        except BaseException:
            parts.network.close()
            parts.forget()
            raise
        finally:
            parts.close()
        return MachineMaking(self, making, gate=gate)

    def _is_of_others(self) -> bool:
        """Whether the root's owner is nobody in the container: an overlay opens files with O_NOATIME, as owners may."""
        linux = self.asked.linux
        if linux is None or not is_new(linux, "user"):
            return False
        root = self._root.path if self._root else root_path(self.asked, self.options.bundle)
        try:
            owner = os.stat(root).st_uid
        except OSError:
            return False  # whoever opens it says why
        return not any(0 <= owner - mapping.host_id < mapping.size for mapping in linux.uid_mappings)

    def record(self, placement: "CgroupPlacement", _root: str) -> None:
        """Write down what is about to be made, for who looks at the container: its own configuration."""
        assert self.parts is not None
        self.container.facts["isolation"] = "vm"
        self.container.facts["guestOverlay"] = self._overlay_bytes >= 0
        self.container.facts["guestDevice"] = self.parts.device
        if self.parts.branches is not None:
            self.container.facts["guestBranches"] = self.parts.branches
        super().record(placement, self.parts.root_path)
        if self.asked.process is None:
            self.container.write(process=False)  # the jail has one
        self.container.keep_config(self.asked)

    def _request(self, placement: "CgroupPlacement", site: "CgroupSite", root: RootSource, *, gate: bool) -> Request:
        request = super()._request(placement, site, root, gate=gate)
        return request.replace(seccomp=self._jail_filter, preserve_fds=self.preserve_fds, own_stdio=False, bound=False)

    def guest_request(self, placement: "CgroupPlacement", *, gate: bool) -> Request:
        """The circumstances of the container in its guest."""
        assert self.parts is not None
        state = around_pid(state_document(self.container, CREATING, 1))
        return Request(
            container_id=self.container.id,
            bundle=self.options.bundle,
            root=guest_root(
                self.parts.guest_path,
                overlay=self._overlay_bytes >= 0,
                size_bytes=max(0, self._overlay_bytes),
                device=self.parts.device,
                branches=self.parts.branches,
            ),
            placement=placement,
            site=guest_site(),
            state=state,
            created_state=around_pid(state_document(self.container, CREATED, 1)),
            environment=tuple(f"{name}={value}" for name, value in os.environ.items()) if self.asked.hooks else (),
            seccomp=filter_program(self.runtime, self.asked, self.default_seccomp, remark=True),
            gate=gate,
            new_keyring=not self.options.no_new_keyring,
            no_pivot=self.options.no_pivot,
            idle=self._guest_idle,
        )


class MachineMaking:
    """The jail being made, then the machine booting, then the container being made in it."""

    def __init__(self, creation: MachineCreation, making: "Making", *, gate: bool) -> None:
        self._creation = creation
        self._making: Making | None = making
        self._gate = gate
        self._clients: list[Client] = []
        self._waited: Client | None = None
        self._talk: Iterator[Client] = iter(())
        self._outcome: Outcome | None = None
        self._deadline_s = monotonic() + BOOT_S
        assert creation.parts is not None
        self._network = creation.parts.network

    def fileno(self) -> int:
        """Readable when `step` would not block for long."""
        if self._making is not None:
            return self._making.fileno()
        assert self._waited is not None
        return self._waited.fileno()

    def left_s(self) -> float | None:
        """When `step` is to be called though there is nothing to read: the guest does not boot."""
        return None if self._making is not None else max(0.0, self._deadline_s - monotonic())

    def step(self) -> "Outcome | None":
        """Go on: the outcome once the container is made. Raises what went wrong, on either side."""
        try:
            if self._making is not None:
                self._step_jail(self._making)
                return None
            self._waited = next(self._talk, None)
        except GuestError as error:
            raise lost(self._creation.container, error) from None
        return self._outcome if self._waited is None else None

    def _step_jail(self, making: "Making") -> None:
        assert self._creation.parts is not None
        self._creation.parts.fill()
        self._outcome = making.step()
        if self._outcome is not None:
            making.__exit__(None)
            self._making = None
            self._network.begin(self._outcome.pid)
            self._talk = self._fill()
            self._waited = next(self._talk)

    def follow(self) -> "Outcome":
        """Until the outcome is known."""
        while (outcome := self.step()) is None:
            continue
        return outcome

    def _connect(self) -> Client:
        client = Client(self._creation.container.directory)
        self._clients.append(client)
        return client

    def _fill(self) -> "Iterator[Client]":
        """Seed the guest, mount the container's files in it, and make the container.

        Each connection that is yielded is to be waited for: what comes next takes what has come over it.
        """
        creation = self._creation
        client = self._connect()
        yield client
        client.greet(max(0.0, self._deadline_s - monotonic()))
        _seed(client)
        yield client
        _check_seed(client)
        assert creation.parts is not None
        for plan in (creation.parts.mounting, self._network.plan()):
            if plan is not None:
                yield from self._perform(plan)
        self._network.finish()
        follower, helper = self._start(client)
        outcome = None
        while outcome is None:
            yield client
            outcome = follower.step(gate=self._gate)
        creation.container.write(guestPid=helper.pid)
        if self._gate:
            creation.container.write_file("gate", b"")

    def _perform(self, plan: "Plan") -> "Iterator[Client]":
        """Do in the guest what the container needs to be there."""
        creation = self._creation
        client = self._connect()
        yield client
        client.greet(ANSWER_S)
        helper = RemoteHelper(client, plan, 0)
        follower = Follower(creation.runtime, helper, creation.asked)
        while follower.step(gate=False) is None:
            yield client
        while helper.exit is None:
            yield client
            helper.take_exit()
        client.close()

    def _start(self, client: Client) -> tuple[Follower, RemoteHelper]:
        """Let the guest make the container."""
        creation = self._creation
        assert creation.parts is not None
        config = guest_config(creation.parts.guest, callers_umask())
        facts = guest_facts(client.hello)
        placement = place(config, facts.cgroups, creation.container.id, "cgroupfs")
        plan = compile_create(config, facts, creation.guest_request(placement, gate=self._gate))
        process = config.process
        terminal = bool(process and process.terminal)
        flags = frames.INIT | frames.STDIN | frames.GATE * self._gate | frames.TERMINAL * terminal
        helper = RemoteHelper(client, plan, flags, size_of_terminal(process))
        return Follower(creation.runtime, helper, creation.asked), helper

    def __enter__(self) -> "Self":
        return self

    def __exit__(self, kind: "type[BaseException] | None", *exc: object) -> None:
        if self._creation.parts is not None:
            self._creation.parts.forget()
        for client in self._clients:
            client.close()
        if self._making is not None:
            self._making.__exit__(kind, *exc)
        self._network.close()


def _seed(client: Client) -> None:
    from time import time_ns

    client.send(frames.seed_frame(time_ns(), os.urandom(ENTROPY_BYTES)))


def _check_seed(client: Client) -> None:
    if number := client.done():
        raise OSError(number, os.strerror(number), "the guest's random numbers")
