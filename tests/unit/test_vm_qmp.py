"""The client of QEMU's monitor, against a server that says what a test wants."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from boxwright.boxes.vm import qmp
from boxwright.boxes.vm.hypervisor import QemuControl
from boxwright.boxes.vm.qmp import Qmp, QmpError
from boxwright.errors import GuestError, HostError

GREETING = b'{"QMP": {"version": {}, "capabilities": []}}\r\n'


@contextmanager
def serving(*answers: bytes, greeting: bytes = GREETING) -> Iterator[tuple[socket.socket, list[Any]]]:
    """A socket to a server that greets, takes a request and gives an answer, once each, and hangs up."""
    ours, theirs = socket.socketpair()
    requests: list[Any] = []

    def serve() -> None:
        with theirs:
            theirs.sendall(greeting)
            for answer in (b'{"return": {}}\r\n', *answers):
                request = theirs.recv(65536)
                if not request:
                    return
                requests.append(json.loads(request))
                theirs.sendall(answer)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield ours, requests
    finally:
        ours.close()
        thread.join()


def test_capabilities_are_agreed_upon_first() -> None:
    with serving(b'{"return": {"status": "running", "running": true}}\n') as (connection, requests):
        with Qmp(connection) as monitor:
            assert QemuControl(monitor).status() == "running"
    assert requests == [{"execute": "qmp_capabilities"}, {"execute": "query-status"}]


def test_arguments_are_sent_and_events_passed_over() -> None:
    answers = b'{"event": "BALLOON_CHANGE", "data": {}}\r\n{"event": "STOP"}\r\n{"return": {}}\r\n'
    with serving(answers) as (connection, requests), Qmp(connection) as monitor:
        QemuControl(monitor).resize(1 << 28)
    assert requests[1] == {"execute": "balloon", "arguments": {"value": 1 << 28}}


def test_a_refusal_has_its_kind_and_reason() -> None:
    answer = b'{"error": {"class": "DeviceNotActive", "desc": "No balloon device has been activated"}}\n'
    with serving(answer) as (connection, _), Qmp(connection) as monitor:
        with pytest.raises(QmpError, match="the hypervisor refused `query-balloon`: No balloon device") as caught:
            QemuControl(monitor).memory_bytes()
    assert (caught.value.command, caught.value.kind) == ("query-balloon", "DeviceNotActive")


@pytest.mark.parametrize("greeting", [b"SSH-2.0\r\n", b"[]\n", b"{}\n", b"\xff\xfe\n", b'"QMP"\n'])
def test_what_does_not_greet_as_qemu_is_refused(greeting: bytes) -> None:
    with serving(greeting=greeting) as (connection, _), pytest.raises(GuestError):
        Qmp(connection)


def test_an_answer_without_an_end_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qmp, "_GREATEST_LINE_BYTES", 1000)
    with serving(b"x" * 5000) as (connection, _), Qmp(connection) as monitor:
        with pytest.raises(GuestError, match="has no end"):
            monitor.execute("query-status")


def test_a_hypervisor_that_ends_is_told() -> None:
    with serving() as (connection, _), Qmp(connection) as monitor:
        with pytest.raises(HostError, match=r"its hypervisor (has ended|is gone)"):
            monitor.execute("stop")


def test_silence_ends_after_the_time_given() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        with pytest.raises(HostError, match="its hypervisor does not answer"):
            Qmp(ours, timeout_s=0.05)


def test_events_do_not_make_the_time_longer() -> None:
    ours, theirs = socket.socketpair()
    stop = threading.Event()

    def chatter() -> None:
        theirs.sendall(GREETING + b'{"return": {}}\n')
        while not stop.wait(0.01):
            theirs.sendall(b'{"event": "RTC_CHANGE"}\n')

    thread = threading.Thread(target=chatter)
    thread.start()
    try:
        with Qmp(ours) as monitor:
            began = time.monotonic()
            with pytest.raises(HostError, match="does not answer"):
                monitor.execute("stop", timeout_s=0.2)
            assert time.monotonic() - began < 5
            stop.set()
            thread.join()
    finally:
        stop.set()
        thread.join()
        theirs.close()


def test_nobody_listens(tmp_path) -> None:
    with pytest.raises(HostError, match="cannot reach the hypervisor"):
        qmp.connect(str(tmp_path / "none"))
    (tmp_path / "file").write_text("")
    with pytest.raises(HostError, match="Connection refused"):
        qmp.connect(str(tmp_path / "file"))
