"""Room: what is counted in directories without end, and mounts of any form."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backupready import probes, waagent
from backupready.mind.judge import Judge
from backupready.model import BeliefState, CannotTell, Looked, ProbeState, Space, TooMany
from backupready.observe import observe
from backupready.probes import space
from fake import NOW, FakeMachine, configuration, healthy

PROBE = probes.probe("space")
EVENTS = f"{waagent.LIB_DIR}/events"


def look(machine: FakeMachine) -> Looked:
    looked = observe(PROBE, machine, configuration())
    assert looked.state is ProbeState.OK, looked.traceback
    return looked


def seen(machine: FakeMachine) -> list[tuple[str, str]]:
    return [(finding.problem, finding.key) for finding in look(machine).findings]


class Endless(FakeMachine):
    """A machine with a directory that has no end, or cannot be listed."""

    error: CannotTell = TooMany("cannot list it: it has more than 200000 entries")

    def names(self, path: str) -> tuple[str, ...]:
        if path == EVENTS:
            raise self.error
        return super().names(path)


def test_events_at_the_agents_own_bound_pile_up() -> None:
    """The agent removes the oldest from 1000 on: what it has to say does not get out."""
    machine = healthy()
    machine.files.update({f"{EVENTS}/{number}.waagent.tld": "{}" for number in range(999)})
    assert seen(machine) == []
    machine.files[f"{EVENTS}/999.waagent.tld"] = "{}"
    assert seen(machine) == [("AGENT_STATE_PILES_UP", "events")]


def test_a_directory_without_end_is_a_pile_and_one_that_cannot_be_listed_is_unknown() -> None:
    """More entries than are listed are more than the agent keeps."""
    machine = Endless(files=healthy().files)
    assert seen(machine) == [("AGENT_STATE_PILES_UP", "events")]
    machine.error = CannotTell("cannot list it: Input/output error")
    looked = look(machine)
    assert looked.findings == ()
    assert [one.problems for one in looked.unknown] == [("AGENT_STATE_PILES_UP",)]


def test_a_machine_without_an_agent_has_no_pile() -> None:
    """That it is missing is another probe's to say."""
    assert seen(FakeMachine()) == []


def test_a_pile_is_believed_when_it_is_still_there_and_gone_at_once() -> None:
    """The agent tidies up at the end of its turn."""
    full, tidy = healthy(), healthy()
    full.files.update({f"{EVENTS}/{number}.tld": "{}" for number in range(1000)})
    judge = Judge([PROBE], {"space": 300.0}, 30.0)

    def state(machine: FakeMachine, at: float) -> BeliefState:
        judge.saw(look(machine), at, NOW + at)
        beliefs = judge.snapshot(at, NOW + at, {}, {}).beliefs
        return next(b.state for b in beliefs if b.problem.code == "AGENT_STATE_PILES_UP")

    apart = next(p.apart for p in PROBE.problems if p.code == "AGENT_STATE_PILES_UP")
    assert apart >= timedelta(seconds=6)  # one turn
    assert state(full, 0.0) is BeliefState.UNKNOWN
    assert state(full, 1.0) is BeliefState.UNKNOWN
    assert state(full, 11.0) is BeliefState.ACTIVE
    assert state(tidy, 12.0) is BeliefState.CLEAR


def test_a_missing_path_is_no_reason_not_to_know() -> None:
    """What holds it is asked too; only one that is there and cannot be asked is unknown."""
    machine = healthy()
    machine.spaces["/tmp"] = CannotTell("there is no /tmp")
    assert look(machine).unknown == ()
    machine.files["/tmp/file"] = ""
    machine.spaces["/tmp"] = CannotTell("cannot ask for the space of /tmp: Input/output error")
    assert [one.problems for one in look(machine).unknown] == [("SPACE_EXHAUSTED", "INODES_EXHAUSTED")]


def test_the_numbers_of_each_file_system_are_told_once() -> None:
    """By the first path that lies on it."""
    machine = healthy()
    machine.spaces[waagent.LIB_DIR] = Space(1000, 250, 100, 10, 300)
    readings = {(r.metric, r.labels["path"]): r.value for r in look(machine).readings}
    assert {path for _, path in readings} == {"/", waagent.LIB_DIR}
    assert readings["backupready_space_available_bytes", waagent.LIB_DIR] == 250
    assert readings["backupready_space_available_ratio", waagent.LIB_DIR] == 0.25
    assert readings["backupready_inodes_available_ratio", waagent.LIB_DIR] == 0.1


@pytest.mark.parametrize("key", [setting.key for setting in PROBE.settings])
@pytest.mark.parametrize("text", ["", "x", "-1", "1.5", "٣", "9" * 20])
def test_a_setting_that_makes_no_sense_is_refused(key: str, text: str) -> None:
    """With words about what it should be."""
    (setting,) = [setting for setting in PROBE.settings if setting.key == key]
    with pytest.raises(ValueError, match="is no whole number"):
        setting.parse(text)


def test_a_mount_over_another_counts_and_blanks_in_names_are_read() -> None:
    """As mountinfo writes them: the last line about a place holds, a blank is \\040."""
    lines = (
        b"20 1 8:1 / / rw - ext4 /dev/sda1 rw\n"
        b"21 20 8:2 / /var ro - xfs /dev/sdb rw\n"
        b"22 20 8:3 / /var rw - xfs /dev/sdc rw\n"
        b"23 20 8:4 / /my\\040data rw shared:1 master:2 - ext4 /dev/sdd ro\n"
    )
    mounts = space._mounts(FakeMachine(files={"/proc/1/mountinfo": lines}), "/proc/1/mountinfo")
    found = [space._covering(mounts, path) for path in ("/var/log", "/my data/x", "/variable")]
    assert [(m.device, m.kind, m.read_only) for m in found if m] == [
        ("8:3", "xfs", False),
        ("8:4", "ext4", True),
        ("8:1", "ext4", False),
    ]


def test_a_large_table_is_read_to_its_end() -> None:
    """A read-only image is full, and nobody means to write there, however many containers there are."""
    machine = healthy()
    many = "".join(f"{n} 26 0:{n} / /containers/{n}/{'x' * 80} rw - tmpfs tmpfs rw\n" for n in range(1000, 12000))
    machine.files["/proc/1/mountinfo"] = (
        f"26 1 8:1 / / rw - ext4 /dev/sda1 rw\n{many}27 26 7:1 / /etc ro - squashfs x ro\n"
    )
    machine.spaces["/etc"] = Space(1 << 20, 0, 100, 0, 0)
    assert seen(machine) == []


_WORDS = st.sampled_from(
    [b"20 1 8:1 / / rw", b" - ", b"ext4 /dev/sda rw", b"\n", b"\\777", b" ", b"/var", b"ro", b"\xff"]
)
ANY_MOUNTS = st.one_of(st.binary(max_size=200), st.lists(_WORDS, max_size=20).map(b"".join))
NUMBER = st.integers(0, 1 << 70) | st.integers(0, 3)
ROOM = st.builds(Space, NUMBER, NUMBER, NUMBER, NUMBER, NUMBER | st.none()) | st.none() | st.just(CannotTell("why"))


@given(
    host=ANY_MOUNTS,
    own=ANY_MOUNTS,
    spaces=st.dictionaries(st.sampled_from(space._PATHS), ROOM),
)
def test_mounts_and_rooms_of_any_form(host: bytes, own: bytes, spaces: dict[str, Space | CannotTell | None]) -> None:
    """Whatever the kernel says, no look breaks, and each file system is found full at most once."""
    machine = healthy()
    machine.files.update({"/proc/1/mountinfo": host, "/proc/self/mountinfo": own})
    machine.spaces = spaces
    found = seen(machine)
    assert len(found) == len(set(found))


@pytest.mark.parametrize(
    ("kind", "told"), [("ext4", "var 5 MiB"), ("nfs4", None), ("fuse.sshfs", None), ("cifs", None)]
)
def test_nobody_walks_where_a_file_server_may_not_answer(kind: str, told: str | None) -> None:
    """Who fills a file system is left out when something remote is mounted below it; that it is full is not."""
    machine = healthy()
    lines = f"20 1 8:1 / / rw - ext4 /dev/sda rw\n21 20 0:50 / /mnt rw - {kind} x rw\n"
    machine.files["/proc/1/mountinfo"] = lines
    machine.spaces = dict.fromkeys(space._PATHS, Space(32 << 30, 0, 1000, 1000, 0))
    machine.sizes["/"] = {"var": 5 << 20}
    (finding,) = look(machine).findings
    assert (finding.problem, finding.evidence.get("largest")) == ("SPACE_EXHAUSTED", told)
