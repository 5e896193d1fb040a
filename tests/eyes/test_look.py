"""One look: every probe by itself, within its budget, and nothing secret leaves it; and the answer over a socket."""

from __future__ import annotations

import json
import os
import select
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backupready import catalogue, config, observe, preconditions, probes, remedies, wire
from backupready.eyes import look
from backupready.eyes.machine import CapturedMachine, LiveMachine
from backupready.model import (
    CannotTell,
    Finding,
    Happened,
    Looked,
    Machine,
    Metric,
    NotNow,
    Observation,
    Planned,
    Probe,
    ProbeState,
    Reading,
    Remedy,
    Remember,
    RestartUnit,
    Run,
    Settings,
    Step,
    Unreachable,
    Unsuitable,
    Watch,
)
from fake import FakeMachine, answer, configuration, healthy, probe, problem, remedy, sees

ADDRESS = "sv=2020-01-01&sig=tOpSeCrEt%2Bx%3D&se=2027"


def see(*known: Probe, machine: FakeMachine | None = None, **texts: str) -> tuple[Looked, ...]:
    """Let these probes look at a fake machine."""
    return look.look(known, lambda memory: machine or FakeMachine(memory=memory), configuration(known, **texts))


def raising(error: BaseException) -> Probe:
    def broken(machine: Machine, settings: Settings) -> Iterator[Observation]:
        yield Finding("SEEN")
        raise error

    return probe("broken", [problem("SEEN")], broken)


# ------------------------------------------------------------------------------------------------- observations


def test_everything_that_a_probe_sees_is_told() -> None:
    """Each kind of observation arrives in its place."""
    seen: tuple[Observation, ...] = (
        Finding("A", "key", {"n": 1, "text": "x", "none": None}),
        Reading("backupready_x", 1.5, {"role": "daemon"}),
        Watch("daemon", 7),
        CannotTell("dark", ("B",)),
        Remember({"offset": 3}),
        Run(1.0, 121, Happened.FAILED, None, "host\x1b"),
    )
    (looked,) = see(probe("thing", [problem("A"), problem("B")], sees(*seen)))
    assert (looked.probe, looked.state, looked.why, looked.traceback) == ("thing", ProbeState.OK, "", "")
    assert (looked.findings, looked.readings, looked.watches) == (seen[:1], seen[1:2], seen[2:3])
    assert (looked.unknown, looked.memory) == (seen[3:4], {"offset": 3})
    assert looked.runs == (Run(1.0, 121, Happened.FAILED, None, "host "),)


def test_the_newest_memory_is_kept() -> None:
    """A probe that remembers twice is given back what it said last."""
    (looked,) = see(probe(look=sees(Remember({"a": 1}), Remember({"b": 2}))))
    assert looked.memory == {"b": 2}


def test_a_probe_is_handed_its_own_memory_and_its_own_settings() -> None:
    """Nothing of another probe."""
    handed: dict[str, tuple[Mapping[str, Any], Settings]] = {}

    def named(name: str) -> Probe:
        def spy(machine: Machine, settings: Settings) -> Iterator[Observation]:
            handed[name] = (machine.memory, settings)
            yield from ()

        return probe(name, look=spy)

    known = [named("one"), named("two")]
    settings = configuration(known, two__interval="7s")
    look.look(known, lambda memory: FakeMachine(memory=memory), settings, {"two": {"x": 1}, "three": {"y": 2}})
    assert handed == {
        "one": ({}, {"enabled": True, "interval": timedelta(minutes=5)}),
        "two": ({"x": 1}, {"enabled": True, "interval": timedelta(seconds=7)}),
    }


@pytest.mark.parametrize(
    "error", [KeyError("x"), RecursionError("deep"), ValueError(), UnicodeError("?"), MemoryError()]
)
def test_a_defect_of_a_probe_is_a_failed_look_with_its_traceback(error: Exception) -> None:
    """What is neither CannotTell nor Absent is our defect; the others are unharmed, what was seen before is kept."""
    whole = probe("whole", [problem("FINE")], sees(Finding("FINE")))
    broken, good = see(raising(error), whole)
    assert (broken.state, broken.why) == (ProbeState.FAILED, observe.clean(f"{type(error).__name__}: {error}"))
    assert broken.traceback.startswith("Traceback")
    assert f'File "{__file__}"' in broken.traceback
    assert broken.findings == (Finding("SEEN"),)
    assert (good.state, good.findings) == (ProbeState.OK, (Finding("FINE"),))


def test_a_probe_that_cannot_tell_says_why() -> None:
    """Raised, it speaks of the whole look, without a traceback; so does a file that nobody expected to be missing."""
    cannot, absent = see(raising(CannotTell("the disk hangs")), probe("absent", look=_missing))
    assert (cannot.state, cannot.why, cannot.traceback) == (ProbeState.CANNOT_TELL, "the disk hangs", "")
    assert cannot.findings == (Finding("SEEN"),)
    assert (absent.state, absent.why) == (ProbeState.CANNOT_TELL, "there is no /etc/none")


def _missing(machine: Machine, settings: Settings) -> Iterator[Observation]:
    yield Reading("x", len(machine.read("/etc/none")))


def test_a_probe_that_yields_something_else_has_a_defect() -> None:
    """What is no observation fails the look, and only that one."""
    (looked,) = see(probe(look=sees("a string")))  # type: ignore[arg-type]
    assert looked.state is ProbeState.FAILED


def test_a_probe_that_hangs_is_given_up_at_its_budget() -> None:
    """It cannot tell; the others are waited for by their own budgets, and what it says later is not taken."""
    release = threading.Event()

    def hangs(machine: Machine, settings: Settings) -> Iterator[Observation]:
        release.wait(30)
        yield Finding("LATE")

    hung = probe("hung", [problem("LATE")], hangs, budget=timedelta(milliseconds=50))
    started = time.monotonic()
    late, good = see(hung, probe("good", [problem("FINE")], sees(Finding("FINE"))))
    elapsed = time.monotonic() - started
    release.set()
    assert (late.state, late.why, late.findings) == (ProbeState.GIVEN_UP, "not back after 0.05 s", ())
    assert (good.state, good.findings) == (ProbeState.OK, (Finding("FINE"),))
    assert 0.05 <= late.seconds <= elapsed < 3


def test_the_deadline_of_the_whole_look_limits_every_budget() -> None:
    """A probe that could take longer is given up with the look."""
    release = threading.Event()

    def hangs(machine: Machine, settings: Settings) -> Iterator[Observation]:
        release.wait(30)
        yield from ()

    (late,) = see(probe(look=hangs, budget=timedelta(seconds=20)), look__deadline="50ms")
    release.set()
    assert late.why == "not back after 0.05 s"


def test_probes_look_side_by_side() -> None:
    """Two that wait for each other both come back."""
    meeting = threading.Barrier(2, timeout=20)

    def meets(machine: Machine, settings: Settings) -> Iterator[Observation]:
        meeting.wait()
        yield from ()

    assert [one.state for one in see(probe("one", look=meets), probe("two", look=meets))] == [ProbeState.OK] * 2


def test_requests_are_counted_retries_included() -> None:
    """Answers and failures both say how many tries they took; another probe's do not count."""

    def asks(machine: Machine, settings: Settings) -> Iterator[Observation]:
        machine.get("http://good", 1, 1)
        try:
            machine.get("http://bad", 1, 1)
        except Unreachable:
            yield Finding("BAD")

    machine = FakeMachine(http={"http://good": answer(attempts=2), "http://bad": Unreachable("refused", "no", 3)})
    asking, idle = see(probe("asking", [problem("BAD")], asks), probe("idle"), machine=machine)
    assert (asking.attempts, asking.findings, idle.attempts) == (5, (Finding("BAD"),), 0)


def test_the_real_probes_find_a_healthy_machine_healthy() -> None:
    """No finding, nothing unknown, and every metric of the wire and the unit is there."""
    looks = look.look(probes.PROBES, lambda memory: healthy(), configuration())
    assert [(one.probe, one.state, one.findings, one.unknown) for one in looks] == [
        (one.name, ProbeState.OK, (), ()) for one in probes.PROBES
    ]


# --------------------------------------------------------------------------------------------------- redaction

SECRETS = (
    "https://x.blob.core.windows.net/c/b?sv=2020&sig=tOpSeCrEt%2Bx%3D&se=2027",
    "SharedAccessSignature=tOpSeCrEt",
    "SharedAccessSignature sr=x&sig=tOpSeCrEt",
    "token=tOpSeCrEt",
    "Token: tOpSeCrEt",
    "?a=b&SIG=tOpSeCrEt",
    "password=tOpSeCrEt;next",
    '{"sig=tOpSeCrEt"}',
    '{"token": "tOpSeCrEt"}',
    "key = tOpSeCrEt",
    "access_token=tOpSeCrEt",
    "AccountKey=tOpSeCrEt",
    "Authorization: Bearer tOpSeCrEt",
    "Authorization: SharedKey account:tOpSeCrEt",
    "Authorization: Token tOpSeCrEt",
    "X-Api-Key: Bearer tOpSeCrEt",
    'X-Api-Key: "Bearer tOpSeCrEt"',
    "http://user:tOpSeCrEt@proxy:3128/",
    "https://tOpSeCrEt@host/x",
    "tool --password tOpSeCrEt --verbose",
    "tool -token 'two tOpSeCrEt'",
    "tool --client-secret tOpSeCrEt",
    'password="two words tOpSeCrEt"',
    "password='it tOpSeCrEt",
)
PLAIN = (
    "/var/lib/waagent/disable_agent",
    "monkey business at 10:30",
    "design: fine",
    "signal 9",
    "tool --key-file /etc/x.pem --keys --verbose",
    "ask http://proxy:3128/ or write to root@host",
    "mkdir -p /var/lib/waagent",
    "http://168.63.129.16:80/?comp=versions",
    "2026-11-23T00:08:28Z INFO ExtHandler Fetch goal state completed",
)


@pytest.mark.parametrize("text", SECRETS)
def test_a_secret_does_not_pass(text: str) -> None:
    """Signatures, tokens, passwords and keys are cut out of whatever travels; the words around them stay."""
    assert "tOpSeCrEt" not in observe.clean(text)
    assert "[redacted]" in observe.clean(text)


@pytest.mark.parametrize("text", PLAIN)
def test_what_is_no_secret_stays(text: str) -> None:
    """Redaction does not eat the evidence."""
    assert observe.clean(text) == text


@given(before=st.text(max_size=30), secret=st.from_regex(r"[A-Za-z0-9%+/]{8,40}", fullmatch=True))
def test_no_signature_passes_whatever_stands_before_it(before: str, secret: str) -> None:
    """A SAS address is redacted in any surroundings."""
    assert f"sig={secret}" not in observe.clean(f"{before}&sig={secret}&se=1")


def test_secrets_are_cut_out_of_everything_that_a_look_tells() -> None:
    """Evidence, keys, labels, reasons and tracebacks."""

    def leaks(machine: Machine, settings: Settings) -> Iterator[Observation]:
        yield Finding("A", f"https://x/?{ADDRESS}", {"log": f"GET https://x/?{ADDRESS}", "n": 1})
        yield Reading("backupready_x", 1, {"unit": f"?{ADDRESS}"})
        yield CannotTell(f"cannot ask https://x/?{ADDRESS}", ("A",))
        raise ValueError(f"cannot ask https://x/?{ADDRESS}")

    machine_says = probe("leaks", [problem("A")], leaks, metrics=[Metric("backupready_x", "X.", ("unit",))])
    cannot = raising(CannotTell(f"cannot ask https://x/?{ADDRESS}"))
    for looked in see(machine_says, cannot):
        data = wire.encode_answer([looked]).decode()
        assert "tOpSeCrEt" not in data
        assert "[redacted]" in data


@given(st.text(max_size=700) | st.text(alphabet="\x00\n\x1b\x85\u200b\u2028\ud800\udfffa", max_size=20))
def test_what_travels_is_printable_and_bounded(text: str) -> None:
    """No control character, no half of a surrogate pair, at most 500 characters; cleaning again changes nothing."""
    safe = observe.clean(text)
    assert len(safe) <= 500
    assert safe.isprintable()
    assert safe.encode("utf-8").decode() == safe == observe.clean(safe)


def test_a_text_that_is_cut_says_so() -> None:
    """An ellipsis takes the place of the last character."""
    assert observe.clean("x" * 500) == "x" * 500
    assert observe.clean("x" * 501) == "x" * 499 + "…"


def test_a_traceback_keeps_its_lines() -> None:
    """Only in the long texts of our own defects do line breaks stay; elsewhere one line is one line."""
    assert observe.clean("a\nb", 8000) == "a\nb"
    assert observe.clean("a\nb\x1b[31m") == "a b [31m"


# --------------------------------------------------------------------------------------- which machine, and serve


def test_the_machine_is_what_the_configuration_says() -> None:
    """An emulated guest has its own root and doors; the memory is handed on."""
    live = look.live(configuration(machine__root="/srv/guest", machine__wire_server="127.0.0.1:1"))({"x": 1})
    assert isinstance(live, LiveMachine)
    assert (str(live.root), live.wire_server, live.host_plugin, live.memory) == (
        "/srv/guest", "127.0.0.1:1", "168.63.129.16:32526", {"x": 1},
    )  # fmt: skip
    captured = look.captured("/srv/tree", 7.0)({"y": 2})
    assert isinstance(captured, CapturedMachine)
    assert (str(captured.root), captured.now(), captured.memory) == ("/srv/tree", 7.0, {"y": 2})


@pytest.fixture
def guest(tmp_path: Path) -> Path:
    """A configuration of an emulated guest that is an empty directory."""
    path = tmp_path / "backupready.conf"
    (tmp_path / "root" / "etc").mkdir(parents=True)
    path.write_text(f"[machine]\nroot = {tmp_path}/root\nwire_server = 127.0.0.1:9\nhost_plugin = 127.0.0.1:9\n")
    return path


def settings_of(path: Path) -> dict[str, str]:
    """What the mind would send along."""
    return config.load(catalogue.SETTINGS, path).changed()


def ask(guest: Path, request: bytes) -> wire.Exchange:
    """Let a real look process answer."""
    command = [sys.executable, "-m", "backupready", "--config", str(guest), "look"]
    exchange = wire.spawn(command, request, 60)
    while not exchange.done:
        wants = [exchange] if exchange.events & 2 else []
        select.select([exchange], wants, [], max(0.0, exchange.deadline - time.monotonic()))
        exchange.advance()
    assert exchange.child is not None
    assert exchange.child.wait(10) == 0
    return exchange


ASKED = {one.name: one for one in probes.PROBES if one.name in ("configuration", "wire")}


@pytest.mark.integration
def test_a_look_process_answers_a_good_request(guest: Path) -> None:
    """Through a real child process: the probes that were asked for looked at the configured machine."""
    exchange = ask(guest, wire.encode_request(wire.LookRequest(tuple(ASKED), {"wire": {"x": 1}}, settings_of(guest))))
    assert exchange.failure == ""
    found = {one.probe: one for one in wire.decode_answer(exchange.answer, ASKED)}
    assert {one.state for one in found.values()} == {ProbeState.OK}
    assert [f.problem for f in found["configuration"].findings] == ["CONFIG_MISSING"]
    assert {f.problem for f in found["wire"].findings} == {"WIRE_SERVER_UNREACHABLE", "HOST_PLUGIN_UNREACHABLE"}
    assert {f.evidence["how"] for f in found["wire"].findings} == {"refused"}
    assert found["wire"].attempts == 6


BAD_REQUESTS = {
    "unknown probe": (wire.encode_request(wire.LookRequest(("weather",), {})), "there is no probe 'weather'"),
    "path": (wire.encode_request(wire.LookRequest(("../../etc/passwd",), {})), "there is no probe '../../etc/passwd'"),
    "garbage": (b"\x00\xff{}", "not JSON"),
    "nothing": (b"", "there was no answer"),
    "another schema": (b'{"schema": 2, "probes": ["wire"]}', "not a document of schema 1"),
    "oversized": (b"[" + b" " * wire.REQUEST_LIMIT + b"]", f"longer than {wire.REQUEST_LIMIT} bytes"),
}


@pytest.mark.integration
@pytest.mark.parametrize("what", BAD_REQUESTS)
def test_a_look_process_refuses_a_bad_request(guest: Path, what: str) -> None:
    """It says why, looks at nothing, and ends well."""
    request, why = BAD_REQUESTS[what]
    exchange = ask(guest, request)
    assert exchange.failure == ""
    with pytest.raises(wire.Malformed, match="^cannot look: "):
        wire.decode_answer(exchange.answer, ASKED)
    assert why in json.loads(exchange.answer)["error"]


@pytest.mark.integration
def test_a_look_process_with_a_wrong_setting_says_so(guest: Path) -> None:
    """The mind learns of it; nothing is looked at by half a configuration, nor by a setting that does not exist."""
    for settings, why in (
        ({"machine.root": "nowhere"}, "machine.root: 'nowhere' is not"),
        ({"machine.shell": "/bin/sh"}, "there is no setting 'machine.shell'"),
    ):
        exchange = ask(guest, wire.encode_request(wire.LookRequest(("wire",), {}, settings)))
        assert why in json.loads(exchange.answer)["error"]


def test_another_user_cannot_say_where_to_look() -> None:
    """Thresholds are taken from the mind; where the files and the fabric are is not, but from ourselves."""
    settings = {"machine.root": "/tmp/x", "wire.slow_seconds": "9"}
    assert look._allowed(settings, os.getuid()) == settings
    assert look._allowed(settings, os.getuid() + 1) == {"wire.slow_seconds": "9"}


@pytest.mark.parametrize("word", ["a" * 1_000_000, "-" * 1_000_000, "token" * 200_000], ids=["a", "dashes", "token"])
def test_a_word_without_end_is_cleaned_like_a_short_one(word: str) -> None:
    """What is not shown is not searched."""
    assert len(observe.clean(word)) == 500


@pytest.mark.parametrize(
    "word", ["-", "--key", "--key ", "key=", 'key="', "key ", "://", "://a", "x@", " ", "--token-", "-key-key ", "a:"]
)
def test_no_text_is_searched_for_long(word: str) -> None:
    """Not in the square of its length either, at the longest that is cleaned."""
    started = time.process_time()
    observe.clean(word * 20_000, 8000)
    assert time.process_time() - started < 1.0


@pytest.mark.integration
@pytest.mark.skipif(os.getuid() != 0, reason="needs root to be somebody else")
def test_a_look_process_welcomes_root_the_mind_and_itself() -> None:
    """Nobody else may ask."""
    welcome = look._welcome()
    assert {0, os.getuid()} <= welcome
    assert 65534 not in welcome


# -------------------------------------------------------------------------------------------------------- plans

WANTED = ("mend-thing", "THING_BROKEN", "one")
STEPS: tuple[Step, ...] = (RestartUnit("a.service"),)


def planning(*known: Remedy, units: wire.Units | None = None, longest: float = 5.0) -> list[Planned]:
    """What each of these says to the same finding, on a machine whose service manager cannot be asked."""
    machine = FakeMachine(units=CannotTell("there is no bus"))
    wanted = [(one.name, *WANTED[1:]) for one in known]
    return list(look.plan({one.name: one for one in known}, wanted, lambda memory: machine, longest, units))


def planned_by(plan: Callable[[Machine, Finding], Iterator[Step]], name: str = "mend-thing") -> Remedy:
    return remedy(name, plan=plan)


def test_a_plan_is_made_for_the_finding() -> None:
    """Of its problem and key nothing more is known."""
    seen: list[Finding] = []

    def plan(machine: Machine, finding: Finding) -> Iterator[Step]:
        seen.append(finding)
        yield from STEPS

    assert planning(planned_by(plan)) == [Planned(*WANTED, STEPS)]
    assert seen == [Finding("THING_BROKEN", "one")]


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (Unsuitable("it is masked"), "it is not for this machine as it is: it is masked"),
        (NotNow("nobody answers"), "not as long as this is so: nobody answers"),
        (CannotTell(f"no answer at ?{ADDRESS}"), "it cannot be told whether it fits: no answer at ?sv=2020-01-01&sig="),
        (KeyError("x"), "a defect: KeyError: 'x'"),
    ],
)
def test_a_plan_that_is_none_says_why(error: Exception, why: str) -> None:
    """Whatever is raised, no others suffer from it, steps from before it do not count, and no secret leaves."""

    def plan(machine: Machine, finding: Finding) -> Iterator[Step]:
        yield from STEPS
        raise error

    broken, good = planning(planned_by(plan), remedy("other", STEPS))
    assert broken.steps == ()
    assert broken.why.startswith(why)
    assert "tOpSeCrEt" not in broken.why
    assert good.steps == STEPS


def test_a_plan_that_takes_too_long_is_given_up() -> None:
    """The others are told."""
    end = threading.Event()

    def plan(machine: Machine, finding: Finding) -> Iterator[Step]:
        end.wait(20)
        yield from STEPS

    try:
        slow, good = planning(planned_by(plan), remedy("other", STEPS), longest=0.2)
    finally:
        end.set()
    assert (slow.steps, slow.why) == ((), "the plan was not made within 0.2 s")
    assert good.steps == STEPS


def test_a_plan_goes_by_what_another_look_was_shown() -> None:
    """Of the units that it names; whoever looks as root has no bus."""

    def plan(machine: Machine, finding: Finding) -> Iterator[Step]:
        yield RestartUnit(machine.unit("a.service", ("X",))["X"])

    (alone,) = planning(planned_by(plan))
    assert alone.why.endswith("there is no bus")
    (shown,) = planning(planned_by(plan), units={"a.service": {"X": "b.service"}})
    assert shown.steps == (RestartUnit("b.service"),)
    (other,) = planning(planned_by(plan), units={})
    assert other.why.endswith("nobody has asked the service manager for a.service")


def test_the_real_remedies_plan_on_a_machine_whose_units_are_shown() -> None:
    """All that a plan asks the service manager for is what is shown."""
    machine = healthy()
    machine.table = ()
    shown = preconditions.shown_units(machine)
    machine.units = CannotTell("there is no bus")
    known = {one.name: one for one in remedies.REMEDIES}
    wanted = [(one.name, code, "") for one in remedies.REMEDIES for code in one.problems or ("",)]
    plans = look.plan(known, wanted, lambda memory: machine, 20.0, shown)
    assert "no bus" not in " ".join(one.why for one in plans)
    assert next(one for one in plans if one.remedy == "restart-agent").steps
