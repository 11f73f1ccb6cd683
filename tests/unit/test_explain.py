"""A plan is explained without root and without a look at the machine: the facts of the host are given."""

import json
from html.parser import HTMLParser
from typing import Any
from xml.etree import ElementTree

import pytest

from boxwright.plan import ops
from boxwright.plan.cgroup_layout import CgroupLayout, CgroupPlacement, CgroupSite
from boxwright.plan.compile import compile_create
from boxwright.plan.explain import Explanation, explain, to_json
from boxwright.plan.explain_html import page
from boxwright.plan.explain_svg import picture
from boxwright.plan.explain_text import render
from boxwright.plan.limits import size_words
from boxwright.plan.ops import Plan, Step
from boxwright.plan.request import HostFacts, Request, RootSource
from boxwright.plan.timeline import timeline
from boxwright.spec.decode import decode
from boxwright.spec.jsontext import encode_json
from fixtures_runtime import default_config

Json = dict[str, Any]
HOOK = {"path": "/usr/bin/hook", "timeout": 5}


ROOT = RootSource("/bundle/rootfs")


def compiled(document: Json, *, privileged: bool = True, root: RootSource = ROOT) -> tuple[Plan, Explanation]:
    config = decode(json.dumps(document).encode())
    uid = 0 if privileged else 1000
    facts = HostFacts(euid=uid, egid=uid, privileged=privileged, cgroups=CgroupLayout("none", writable=False))
    request = Request(
        container_id="box",
        bundle="/bundle",
        root=root,
        placement=CgroupPlacement("none"),
        site=CgroupSite(),
        state=("", ""),
        seccomp=b"\0" * 16 if config.linux and config.linux.seccomp else b"",
        gate=True,
    )
    plan = compile_create(config, facts, request)
    return plan, explain(plan, config, facts)


def box(**changes: object) -> Json:
    """The default configuration without limits, as there are no control groups here."""
    document = default_config("sh", "-c", "echo", **changes)
    if "linux" not in changes:
        del document["linux"]["resources"]
    return document


def linux(*namespaces: Json, **changes: object) -> Json:
    return {"namespaces": list(namespaces), **changes}


def texts(found: Explanation) -> list[str]:
    return [line.text for stage in found.stages for line in stage.lines]


def test_every_step_is_told_once() -> None:
    plan, found = compiled(box(hooks={"createRuntime": [HOOK], "createContainer": [HOOK]}))
    count = sum(len(plan.steps(actor)) for actor in range(3))
    assert len(texts(found)) == count


def test_stages_are_in_the_order_of_time() -> None:
    _, found = compiled(box(hooks={"createRuntime": [HOOK]}))
    assert [(stage.actor, stage.title) for stage in found.stages] == [
        ("outer", "on the host: before the container process"),
        ("init", "in the box: the container process"),
        ("outer", "on the host: with the container process"),
        ("init", "in the box: the container process"),
        ("init", "in the box: at `start`"),
    ]
    assert "run the createRuntime hook `/usr/bin/hook`, at most 5 s" in [line.text for line in found.stages[2].lines]
    assert found.stages[4].lines[-1].text == "execute `sh -c echo`"


def test_joining_has_a_stage_of_its_own() -> None:
    namespaces = [{"type": "mount"}, {"type": "network", "path": "/run/netns/blue"}]
    _, found = compiled(box(linux=linux(*namespaces)))
    assert [stage.actor for stage in found.stages] == ["outer", "joiner", "outer", "init", "init"]
    assert "join the network namespace `/run/netns/blue`" in texts(found)


def test_lines_carry_pointer_and_section() -> None:
    _, found = compiled(box())
    (line,) = [line for stage in found.stages for line in stage.lines if line.text == "mount `tmpfs` at `/dev/shm`"]
    assert line.pointer == "/mounts/3"
    assert line.anchor == "config.md#configMounts"
    assert "size=65536k" in line.detail
    assert not line.serving


def test_namespaces_are_own_joined_or_shared() -> None:
    _, found = compiled(box(linux=linux({"type": "mount"}, {"type": "uts", "path": "/run/uts"})))
    states = {row.type: (row.state, row.detail) for row in found.walls.namespaces}
    assert states["mount"] == ("own", "")
    assert states["uts"] == ("joined", "/run/uts")
    assert states["network"][0] == "shared with the host"
    assert len(states) == 8


def bind(source: str, *options: str) -> Json:
    return {"destination": "/data", "source": source, "options": list(options)}


@pytest.mark.parametrize(
    ("mount", "writable", "partly"),
    [
        (bind("/srv", "bind"), True, False),
        (bind("/srv", "bind", "ro"), False, False),
        (bind("/srv", "rbind", "ro"), False, True),
        (bind("/srv", "rbind", "rro"), False, False),
        (bind("/srv", "bind", "ro", "rw"), True, False),
        ({"destination": "/data", "type": "tmpfs", "source": "tmpfs"}, False, False),
    ],
)
def test_what_of_the_host_can_be_written(mount: Json, writable: bool, partly: bool) -> None:
    _, found = compiled(box(mounts=[mount]))
    (row,) = found.walls.mounts
    assert (row.writable, row.partly) == (writable, partly)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"mounts": [bind("/run/docker.sock", "bind", "ro")]}, "command a container engine"),
        ({"mounts": [bind("/", "rbind")]}, "can write to `/` of the host"),
        ({"mounts": [bind("/srv", "rbind", "ro")]}, "`rro` makes it hold"),
        ({"mounts": [bind("/srv", "bind", "rshared")]}, "appear on the host"),
        ({"linux": linux({"type": "mount"})}, "no pid namespace"),
        ({"linux": linux({"type": "mount"})}, "no seccomp filter"),
        ({}, "no memory limit"),
    ],
)
def test_what_is_worth_a_thought(changes: Json, expected: str) -> None:
    _, found = compiled(box(**changes))
    assert any(expected in concern for concern in found.walls.concerns)


def test_a_tight_box_gives_nothing_to_think() -> None:
    everything = ("user", "mount", "pid", "network", "ipc", "uts", "cgroup", "time")
    mapping = [{"containerID": 0, "hostID": 1000, "size": 1}]
    section = linux(
        *({"type": kind} for kind in everything),
        uidMappings=mapping,
        gidMappings=mapping,
        seccomp={"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ALLOW"}]},
    )
    _, found = compiled(box(linux=section), privileged=False)
    assert [concern for concern in found.walls.concerns if "limit" not in concern] == []
    assert found.user == "uid 0 gid 0, on the host uid 1000"
    assert {row.state for row in found.walls.namespaces} == {"own"}
    assert [fact.value for fact in found.walls.seccomp] == ["SCMP_ACT_ERRNO", "1 system call"]


def test_limits_have_units() -> None:
    from boxwright.plan.limits import resource_limits
    from boxwright.spec.decode import decode_resources

    resources = decode_resources(
        b'{"memory": {"limit": 67108864, "swap": -1}, "cpu": {"quota": 50000}, "pids": {"limit": 0},'
        b' "unified": {"io.max": "8:0 rbps=1"}}'
    )
    assert {name: value for name, value, _ in resource_limits(resources)} == {
        "memory": "64 MiB",
        "memory and swap": "unlimited",
        "CPU time": "0.5 CPUs (50000 µs of each 100000 µs)",
        "processes": "0",
        "io.max": "8:0 rbps=1",
    }
    assert size_words(1000) == "1000 bytes"


@pytest.mark.parametrize(
    ("readonly", "root", "expected"),
    [
        (True, RootSource("/r"), "read-only"),
        (False, RootSource("/r"), "writes stay on the host"),
        (False, RootSource("/r", "/stage", ("/r",)), "writes go with the box"),
    ],
)
def test_what_becomes_of_writes_to_the_root(readonly: bool, root: RootSource, expected: str) -> None:
    document = box(root={"path": "/r", "readonly": readonly})
    assert compiled(document, root=root)[1].root_writes == expected


# --- the timeline -----------------------------------------------------------------------------------------------


def steps(*found: ops.Op) -> tuple[Step, ...]:
    return tuple(Step(op) for op in found)


def test_timeline_follows_the_waiting() -> None:
    outer = steps(ops.Clone(0), ops.Post(ops.INIT), ops.Await(ops.INIT), ops.Close(0))
    init = steps(ops.Await(ops.OUTER), ops.Post(ops.OUTER), ops.Close(1))
    found = timeline(Plan(outer, (), init, (), 0))
    assert found == [(ops.OUTER, 0, 2), (ops.INIT, 0, 3), (ops.OUTER, 2, 4)]


def test_timeline_of_a_plan_that_hangs_is_whole() -> None:
    plan = Plan(steps(ops.Await(ops.INIT)), (), steps(ops.Close(1)), (), 0)
    assert sorted(timeline(plan)) == [(ops.OUTER, 0, 1), (ops.INIT, 0, 1)]


# --- renderings -------------------------------------------------------------------------------------------------

EVIL = '<script>alert("1")</script>`&\''


def evil() -> Explanation:
    mount = {"destination": f"/{EVIL}", "source": f"/{EVIL}", "options": ["bind"]}
    hooks = {"poststop": [{"path": f"/{EVIL}"}]}
    document = box(mounts=[mount], hooks=hooks, hostname=EVIL)
    document["process"]["args"] = [EVIL]
    return compiled(document)[1]


class Strict(HTMLParser):
    """Collects tags and attributes, and holds that what is opened is closed."""

    VOID = frozenset({"meta", "path", "rect", "line"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.attributes: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_page_is_well_formed_and_self_contained() -> None:
    text = page(compiled(box())[1])
    parser = Strict()
    parser.feed(text)
    assert parser.open == []
    assert not parser.tags & {"script", "link", "img", "iframe", "object"}
    assert not parser.attributes & {"src", "href", "srcset", "style", "onclick", "onload"}
    assert "prefers-color-scheme:dark" in text
    assert "url(http" not in text


def test_page_escapes_what_the_configuration_says() -> None:
    text = page(evil())
    parser = Strict()
    parser.feed(text)
    assert "script" not in parser.tags
    assert "<script" not in text
    assert "&lt;script&gt;" in text


@pytest.mark.parametrize("found", [evil(), compiled(box())[1]], ids=["evil", "plain"])
def test_picture_is_xml(found: Explanation) -> None:
    tree = ElementTree.fromstring(picture(found))
    assert tree.tag.endswith("svg")


def test_picture_shows_missing_walls_and_many_mounts() -> None:
    mounts = [{"destination": f"/m{n}", "source": f"/m{n}", "options": ["bind"]} for n in range(40)]
    text = picture(compiled(box(mounts=mounts))[1])
    assert "✕ seccomp: no filter" in text
    assert "more, listed below" in text


def test_text_has_steps_walls_and_no_colours() -> None:
    text = render(compiled(box())[1])
    assert "1. on the host: before the container process   (outer)" in text
    assert "/process/args   config.md#configProcess" in text
    assert "  user     shared with the host" in text
    assert "\x1b" not in text
    assert "\x1b[1m" in render(compiled(box())[1], color=True)


def test_json_is_the_tree() -> None:
    _, found = compiled(box())
    document = json.loads(encode_json(to_json(found)))
    assert document["program"] == "sh -c echo"
    assert document["walls"]["namespaces"][1] == {
        "type": "mount",
        "state": "own",
        "detail": "",
        "pointer": "/linux/namespaces/4",
    }
    assert document["stages"][0]["lines"][0]["text"]


def test_without_a_process() -> None:
    document = box()
    del document["process"]
    _, found = compiled(document)
    assert "no program" in render(found)
    assert "no program" in page(found)
