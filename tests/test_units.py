"""The units: correct, closed, and every hole in them with the name of who needs it."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
from datetime import timedelta
from pathlib import Path

import pytest

from backupready import fixes, plan, waagent
from backupready.hands import ledger
from backupready.model import LONGEST_CHECK
from backupready.remedies import REMEDIES
from built import MOST_EXPOSED
from measured import measured
from requirement import need

SOURCE = Path(__file__).parents[1]
UNITS = SOURCE / "systemd"
MIND, EYES, DOOR = "backupready.service", "backupready-look@.service", "backupready-look.socket"
HANDS, FIX_DOOR, END = "backupready-fix@.service", "backupready-fix.socket", "backupready-fix-end.timer"
UNFINISHED = "backupready-fix@end.service.d/unfinished.conf"

pytestmark = pytest.mark.integration


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A root directory with the units and the program where the packages put them, and this machine's service manager's
    own units."""
    need("systemd-analyze", "systemd")
    place = tmp_path / "usr/lib/systemd/system"
    shutil.copytree("/usr/lib/systemd/system", place, symlinks=True)
    for unit in UNITS.glob("backupready*.*"):
        (shutil.copytree if unit.is_dir() else shutil.copy)(unit, place / unit.name)
    (tmp_path / "usr/bin").mkdir(parents=True)
    (tmp_path / "usr/bin/backupready").write_text("#!/bin/sh\n")
    (tmp_path / "usr/bin/backupready").chmod(0o755)
    shutil.copy("/bin/sh", tmp_path / "usr/bin/sh")
    (tmp_path / "bin").symlink_to("usr/bin")
    return tmp_path


def test_the_service_manager_finds_nothing_to_say(installed: Path) -> None:
    """`systemd-analyze verify` is silent about all of them."""
    units = (MIND, EYES, DOOR, HANDS, "backupready-fix@end.service", FIX_DOOR, END)
    command = ["systemd-analyze", "verify", f"--root={installed}", "--man=no", *units]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    ours = [line for line in (done.stdout + done.stderr).splitlines() if "backupready" in line]
    assert (ours, done.returncode) == ([], 0)


@pytest.mark.parametrize("unit", MOST_EXPOSED)
def test_exposure(unit: str, installed: Path) -> None:
    """Each service stays below its bound, by the service manager's own measure."""
    command = ["systemd-analyze", "security", "--offline=true", f"--root={installed}", "--no-pager", unit]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", done.stdout)
    assert found, done.stdout + done.stderr
    measured(f"exposure of {unit}: {found[1]} (at most {MOST_EXPOSED[unit]})")
    assert float(found[1]) <= MOST_EXPOSED[unit]


def test_everything_below_run_that_a_probe_reads_is_let_in() -> None:
    """What the sandbox hides would look missing: whatever below /run is named in a probe is bound into it."""
    read = set()
    package = SOURCE / "daemon/backupready"
    for file in [*(package / "probes").glob("*.py"), package / "waagent.py", package / "packages.py"]:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                read |= set(re.findall(r"^(?:/var)?(/run/\S+)$", node.value))
    assert read, "the pattern finds nothing, although the agent's pid file lies there"
    bound = re.findall(r"(?m)^BindReadOnlyPaths=(.*)$", (UNITS / EYES).read_text())
    assert read == {word.lstrip("-") for line in bound for word in line.split()}


def test_nothing_is_changed_unless_the_administrator_says_so() -> None:
    """The preset leaves the door to the hands shut, and so do the packages; the timer sees to what is left without it,
    through the instance that the condition is for."""
    lines = (UNITS / "80-backupready.preset").read_text().splitlines()
    preset = {unit: verb for verb, unit in (line.split() for line in lines if line[0] != "#")}
    assert preset == {MIND: "enable", DOOR: "enable", END: "enable", FIX_DOOR: "disable"}
    rules = (SOURCE / "packaging/debian/rules").read_text()
    assert re.findall(r"dh_installsystemd --no-enable (.*)", rules) == [FIX_DOOR]
    assert {*re.findall(r"dh_installsystemd (b.*)", rules)[0].split()} == {MIND, DOOR, END}
    (spec,) = re.findall(r"%global units (.*)", (SOURCE / "packaging/rpm/backupready.spec").read_text())
    assert {*spec.split()} == {*preset}
    assert f"Unit={UNFINISHED.partition('.d/')[0]}\n" in (UNITS / END).read_text()
    assert f"ConditionPathExists={ledger.DIRECTORY}/unfinished\n" in (UNITS / UNFINISHED).read_text()
    assert "Condition" not in (UNITS / HANDS).read_text() + (UNITS / END).read_text()


def test_the_hands_may_write_what_the_steps_write() -> None:
    """The agent's library and configuration, the service manager's units, and what they keep and tell; and they have
    time for the longest remedy, there and back."""
    text = (UNITS / HANDS).read_text()
    written = {word.lstrip("-") for line in re.findall(r"(?m)^ReadWritePaths=(.*)$", text) for word in line.split()}
    written |= {f"/var/lib/{name}" for name in re.findall(r"(?m)^StateDirectory=(.*)$", text)}
    needed = {waagent.LIB_DIR, "/etc/systemd/system", ledger.DIRECTORY, str(Path(fixes.SUMMARY).parent)}
    needed |= {str(Path(path).parent) for path in waagent.CONFIG_PATHS[:1]}
    assert {path for path in written if any(f"{need}/".startswith(f"{path}/") for need in needed)} == written
    assert all(any(f"{need}/".startswith(f"{path}/") for path in written) for need in needed)
    # The gate's look and the attempt; to undo it takes no longer than to do it, and a unit that has changed.
    undoing = timedelta(seconds=plan.CHANGE_UNIT)
    longest = max(LONGEST_CHECK + remedy.longest + remedy.worst_case + undoing for remedy in REMEDIES)
    (hours,) = re.findall(r"(?m)^RuntimeMaxSec=(\d+)h$", text)
    assert timedelta(hours=int(hours)) > longest


def _reasons(text: str) -> dict[str, str]:
    """The comment that each directive stands below; a blank line ends what a comment speaks of."""
    reasons: dict[str, str] = {}
    comment, fresh = "", True
    for line in text.splitlines():
        if line.startswith("#"):
            comment = line if fresh else f"{comment} {line}"
            fresh = False
            continue
        fresh = True
        comment = comment if line else ""
        if comment and "=" in line:
            reasons[line.partition("=")[0]] = comment
    return reasons


PROTECTIONS = (
    *("ProtectProc", "ProcSubset", "PrivateUsers", "PrivateDevices", "ProtectHome", "PrivateTmp", "ProtectClock"),
    *("ProtectHostname", "ProtectKernelLogs", "ProtectKernelModules", "ProtectKernelTunables", "ProtectControlGroups"),
)


@pytest.mark.parametrize("unit", MOST_EXPOSED)
def test_every_hole_has_its_reason(unit: str) -> None:
    """A directive that lets something in stands below a comment, and a protection that is left out is spoken of."""
    text = (UNITS / unit).read_text()
    lets_in = {"RestrictAddressFamilies", "BindReadOnlyPaths" if unit == EYES else "StateDirectory"}
    if unit == MIND:
        lets_in |= {"RuntimeDirectory"}
    if unit == HANDS:
        lets_in |= {"ReadWritePaths", "CapabilityBoundingSet"}
        (opened,) = re.findall(r"(?m)^CapabilityBoundingSet=(.+)$", text)
        assert {f"{name}" for name in opened.split()} <= set(
            re.findall(r"CAP_\w+", _reasons(text)["CapabilityBoundingSet"])
        )
        named = {remedy.name for remedy in REMEDIES if remedy.name in text}
        assert {"add-auto-restart", "enable-extensions", "reload-extension", "update-agent"} <= named
    assert lets_in <= set(_reasons(text))
    comments = " ".join(line for line in text.splitlines() if line.startswith("#"))
    for directive in PROTECTIONS:
        assert re.search(rf"(?m)^{directive}=", text) or directive in comments, directive


# Directives that systemd 239 has.
_OLD = """
After AmbientCapabilities BindReadOnlyPaths CapabilityBoundingSet CollectMode ConfigurationDirectory CPUQuota
Description Documentation Environment ExecReload ExecStart Group InaccessiblePaths IOSchedulingClass
IOSchedulingPriority IPAddressAllow IPAddressDeny KillMode LimitCORE LockPersonality LogLevelMax
MemoryDenyWriteExecute MemoryMax Nice NoNewPrivileges NotifyAccess PrivateDevices PrivateMounts PrivateTmp
ProtectControlGroups ProtectKernelModules ProtectKernelTunables ProtectSystem ReadOnlyPaths RemoveIPC Restart
RestartPreventExitStatus RestartSec RestrictAddressFamilies RestrictNamespaces RestrictRealtime RuntimeDirectory
RuntimeDirectoryMode RuntimeMaxSec
SendSIGKILL StandardError StandardInput StandardOutput StartLimitIntervalSec StateDirectory StateDirectoryMode
SyslogLevel SystemCallArchitectures SystemCallErrorNumber SystemCallFilter TasksMax TemporaryFileSystem
TimeoutStartSec TimeoutStopSec Type UMask User Wants WantedBy WatchdogSec
Accept DirectoryMode ListenStream MaxConnections SocketMode SocketUser TriggerLimitIntervalSec
AccuracySec ConditionPathExists OnBootSec OnCalendar ReadWritePaths Unit
"""


def test_nothing_depends_on_a_newer_service_manager() -> None:
    """Everything that makes the daemon run at all is understood by systemd 239; what is newer only protects more."""
    # Directive → the version that brought it, where that is later than 239 (systemd.exec(5) and its siblings).
    newer = {
        "OOMPolicy": 243, "ProtectHostname": 242, "RestrictSUIDSGID": 242, "ProtectKernelLogs": 244,
        "ProtectClock": 245, "ProtectProc": 247, "LoadCredential": 247, "SetCredential": 247,
    }  # fmt: skip
    for unit in (MIND, EYES, DOOR, HANDS, FIX_DOOR, END, UNFINISHED):
        found = set(re.findall(r"(?m)^(\w+)=", (UNITS / unit).read_text()))
        assert found - set(_OLD.split()) - set(newer) == set(), f"{unit}: look up since when there is such a directive"
    assert "Type=notify\n" in (UNITS / MIND).read_text()
