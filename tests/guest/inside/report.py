"""A plugin of the guest's pytest: each test's result is a line of JSON on the second serial port, when it is known."""

import json
import os
import tty
from typing import Any

import pytest

PORT = "/dev/ttyS1"


class Reporter:
    """The results of one session; those of a parametrised test go out one by one."""

    def __init__(self, phase: str) -> None:
        self._phase = phase
        self._port = os.open(PORT, os.O_WRONLY | os.O_NOCTTY | os.O_CLOEXEC)
        tty.setraw(self._port)
        self._found: dict[str, Any] = {}

    def _say(self, **what: object) -> None:
        rest = json.dumps({"phase": self._phase, **what}).encode() + b"\n"
        while rest:
            rest = rest[os.write(self._port, rest) :]

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self._found = {"test": nodeid, "outcome": "passed", "text": "", "seconds": 0.0}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._found["seconds"] += report.duration
        if report.failed:
            self._found["outcome"] = "failed"
            self._found["text"] += f"{report.longreprtext}\n{report.caplog}{report.capstdout}{report.capstderr}"
        elif report.skipped:
            reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longreprtext
            self._found |= {"outcome": "skipped", "text": reason}

    def pytest_runtest_logfinish(self) -> None:
        self._say(**self._found)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self._say(test=report.nodeid, outcome="failed", text=report.longreprtext, seconds=0.0)


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Reporter(os.environ["GUEST_PHASE"]))
