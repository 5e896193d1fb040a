"""What no remedy may ignore: each precondition, told by its name when it does not hold."""

from __future__ import annotations

import pytest

from backupready import preconditions, vmsnapshot, waagent
from backupready.model import CannotTell, NotNow, Process, Space, Unreachable, Unsuitable
from fake import NOW, PLUGIN, WIRE, FakeMachine, File, answer, healthy

UNIT = "walinuxagent.service"
LIBRARY = waagent.LIB_DIR


def with_unit(**properties: str) -> FakeMachine:
    machine = healthy()
    assert not isinstance(machine.units, CannotTell)
    machine.units[UNIT] = {**machine.units[UNIT], **properties}
    return machine


def with_files(changes: dict[str, File | None]) -> FakeMachine:
    machine = healthy()
    for path, text in changes.items():
        if text is None:
            for known in [known for known in machine.files if known == path or known.startswith(f"{path}/")]:
                del machine.files[known]
        else:
            machine.files[path] = text
    return machine


def test_the_unit_is_the_first_that_is_there() -> None:
    """walinuxagent.service on Debian and Ubuntu, waagent.service elsewhere."""
    assert preconditions.agent_unit(healthy())[0] == UNIT
    elsewhere = healthy()
    assert not isinstance(elsewhere.units, CannotTell)
    elsewhere.units["waagent.service"] = elsewhere.units.pop(UNIT)
    name, shown = preconditions.restartable_unit(elsewhere)
    assert (name, shown["Restart"]) == ("waagent.service", "always")


@pytest.mark.parametrize(
    ("machine", "why"),
    [
        (FakeMachine(), "there is no unit walinuxagent.service or waagent.service"),
        (with_unit(LoadState="masked"), "walinuxagent.service is masked"),
        (with_unit(UnitFileState="masked-runtime"), "walinuxagent.service is masked"),
        (with_unit(ActiveState="inactive", ConditionResult="no"), "a condition of walinuxagent.service does not hold"),
        (with_files({f"{LIBRARY}/disable_agent": ""}), "disable_agent would switch the agent off"),
        (with_files({"/usr/sbin/waagent": None}), "the agent's program is missing"),
        (with_files({"/etc/waagent.conf": None}), "there is no /etc/waagent.conf"),
        (with_files({"/etc/waagent.conf": ""}), "/etc/waagent.conf is empty"),
        (with_files({"/etc/waagent.conf": b"\xff=y\n"}), "/etc/waagent.conf is not UTF-8"),
    ],
)
def test_an_agent_that_would_not_come_back_is_not_restarted(machine: FakeMachine, why: str) -> None:
    """Whatever keeps it from starting, also where one that was started before it still runs."""
    with pytest.raises(Unsuitable, match=why):
        preconditions.restartable_unit(machine)


def test_a_condition_that_nobody_has_tried_says_nothing() -> None:
    """A unit that was never started shows ConditionResult=no as well."""
    never = with_unit(ActiveState="inactive", ConditionResult="no", ConditionTimestampMonotonic="0")
    assert preconditions.restartable_unit(never)[0] == UNIT


def test_a_stranger_in_the_pid_file_keeps_the_agent_from_starting() -> None:
    """A living process that is not the agent; the agent itself, a dead process and nobody do not."""
    machine = healthy()
    machine.files[waagent.PID_FILE] = "77\n"
    assert preconditions.restartable_unit(machine)
    machine.table = (*healthy().processes(), Process(77, 1, ("/usr/bin/sleep", "9"), "Z", NOW - 9))
    assert preconditions.restartable_unit(machine)
    machine.table = (*healthy().processes(), Process(77, 1, ("/usr/bin/sleep", "9"), "S", NOW - 9))
    with pytest.raises(Unsuitable, match=r"/run/waagent.pid names process 77 \(/usr/bin/sleep\)"):
        preconditions.restartable_unit(machine)
    machine.files[waagent.PID_FILE] = "100"
    assert preconditions.restartable_unit(machine)


def test_what_cannot_be_told_is_not_taken_for_granted() -> None:
    """No service manager, no process table, a file that cannot be read: no plan."""
    silent, blind, closed = healthy(), healthy(), healthy()
    silent.units = CannotTell("the service manager cannot be asked")
    blind.files[waagent.PID_FILE] = "100"
    blind.table = CannotTell("the process table cannot be told")
    closed.files["/etc/waagent.conf"] = CannotTell("it cannot be read")
    for machine in (silent, blind, closed):
        with pytest.raises(CannotTell):
            preconditions.restartable_unit(machine)


def test_the_wire_server_must_answer_as_itself() -> None:
    """Not at all, with an error, or as somebody else: it is not there."""
    url = f"http://{WIRE}/?comp=versions"
    machine = healthy()
    preconditions.wire_server_answers(machine)
    assert machine.asked == [url]
    for wrong in (Unreachable("timeout", "", 3), answer(b"<Versions/>", 503), answer(b"<html>log in</html>")):
        machine.http[url] = wrong
        with pytest.raises(NotNow, match="comp=versions"):
            preconditions.wire_server_answers(machine)


def test_the_package_must_be_to_be_had() -> None:
    """The host plugin answers, and the library has room and inodes, of which some file systems have no end."""
    url = f"http://{PLUGIN}/versions"
    machine = healthy()
    preconditions.package_can_be_had(machine)
    assert machine.asked == [url]
    machine.http[url] = Unreachable("refused", "", 3)
    with pytest.raises(NotNow, match="32526/versions does not answer: refused"):
        preconditions.package_can_be_had(machine)
    machine = healthy()
    for full in (Space(1 << 40, 99 << 20, 9000, 9000), Space(1 << 40, 1 << 40, 9000, 1999)):
        machine.spaces[LIBRARY] = full
        with pytest.raises(NotNow, match="too little room"):
            preconditions.package_can_be_had(machine)
    for roomy in (Space(1 << 40, 0, 9000, 2000, free=100 << 20), Space(1 << 40, 100 << 20, 0, 0)):
        machine.spaces[LIBRARY] = roomy
        preconditions.package_can_be_had(machine)
    machine.spaces[LIBRARY] = None
    with pytest.raises(NotNow, match="does not answer"):
        preconditions.package_can_be_had(machine)
    machine.spaces[LIBRARY] = CannotTell("it cannot be told")
    with pytest.raises(CannotTell):
        preconditions.package_can_be_had(machine)


def test_no_snapshot_may_be_under_way() -> None:
    """The words of the extension's own record go into the refusal."""
    preconditions.no_snapshot(healthy())
    machine = healthy()
    machine.table = (*healthy().processes(), Process(9, 1, ("/x/main/safefreeze/bin/safefreeze", "60"), "S", NOW))
    with pytest.raises(NotNow, match="a snapshot may be under way: process 9 is the freeze binary"):
        preconditions.no_snapshot(machine)


def test_a_run_that_hangs_takes_no_snapshot() -> None:
    """A process of the extension's that has been there for longer than any run lasts keeps nobody from ending it."""
    machine = healthy()
    argv = ("/usr/bin/python3", f"{LIBRARY}/{waagent.VMSNAPSHOT}-1.0.9220.0/main/handle.py", "-daemon")
    for age, at_work in ((60.0, True), (-60.0, True), (vmsnapshot.STUCK_AFTER + 1, False)):
        machine.table = (*healthy().processes(), Process(9, 1, argv, "S", machine.now() - age))
        assert vmsnapshot.running(machine.processes()) is not None
        assert (vmsnapshot.under_way(machine) == "process 9 is the extension's and runs") is at_work
        assert (vmsnapshot.at_work(machine) is not None) is at_work


def test_the_extension_must_be_wanted_in_the_version_that_is_there() -> None:
    """The agent installs anew only what the newest goal state wants enabled."""
    goal = f"{LIBRARY}/history/2026-01-01T00-00-00__1/ExtensionsConfig.xml"
    machine = healthy()
    version, directory = preconditions.wanted_extension(machine)
    assert (version, directory and directory.version) == ("1.0.9220.0", "1.0.9220.0")
    wanted = str(machine.files[goal])
    for text, kind, why in (
        (wanted.replace("enabled", "uninstall"), Unsuitable, "does not want the extension enabled"),
        (wanted.replace(waagent.VMSNAPSHOT, "A.B"), Unsuitable, "does not want the extension enabled"),
        (wanted.replace("1.0.9220.0", "1.0.9300.0"), NotNow, "wants version 1.0.9300.0, and 1.0.9220.0 is there"),
    ):
        machine.files[goal] = text
        with pytest.raises(Unsuitable, match=why) as raised:
            preconditions.wanted_extension(machine)
        assert raised.type is kind
    machine.files[goal] = wanted.replace("1.0.9220.0", "../../etc")
    with pytest.raises(CannotTell, match="is no version"):
        preconditions.wanted_extension(machine)
    del machine.files[goal]
    with pytest.raises(Unsuitable, match="has kept no goal state"):
        preconditions.wanted_extension(machine)
    gone = with_files({f"{LIBRARY}/{waagent.VMSNAPSHOT}-1.0.9220.0": None})
    assert preconditions.wanted_extension(gone) == ("1.0.9220.0", None)
