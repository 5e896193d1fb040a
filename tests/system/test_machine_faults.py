"""Everything else that can be wrong with a machine: each fault is told exactly, and so is its end."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import pytest

from backupready import vmsnapshot, waagent
from backupready.probes import PROBES
from history import Run, history
from lab.disk import LoopDisk
from lab.guest import AGENT_UNIT, HANDLER, HANDLER_DIRECTORY, LIBRARY
from lab.hang import Hang
from measured import measured
from system import faults
from system.inside import BACKUPREADY, Inside


@dataclass(frozen=True)
class Fault:
    """How it is made, and what is active meanwhile; `daemon` where the daemon's looks, which have no capability, see
    less than a check by root does."""

    made: Callable[[Inside], AbstractContextManager[None]]
    expect: tuple[str, ...]
    daemon: tuple[str, ...] | None = None
    perhaps: tuple[str, ...] = ()


# Without the wire server this agent on this Python crashes, and after minutes that is a loop, beside its cause.
CRASHING = ("AGENT_CRASH_LOOPING",)


FAULTS: dict[str, Fault] = {
    "the route leads into a tunnel": Fault(
        faults.route_into_a_tunnel, ("ROUTE_LEAVES_BY_WRONG_DEVICE",), perhaps=CRASHING
    ),
    "a hardening rule drops": Fault(
        faults.nft_drop, ("FOREIGN_FIREWALL_RULE",), ("WIRE_SERVER_UNREACHABLE",), CRASHING
    ),
    "the agent's own rules stand in the wrong order": Fault(
        faults.agents_rules_in_the_wrong_order,
        ("AGENT_FIREWALL_BLOCKS_ROOT",),
        ("WIRE_SERVER_UNREACHABLE",),
        CRASHING,
    ),
    "no name server answers": Fault(faults.names_dead, ("NAME_RESOLUTION_FAILS",)),
    "the storage refuses, and is not needed": Fault(
        lambda inside: faults.switched(inside, "storage", "refused"), ("STORAGE_UNREACHABLE",)
    ),
    "somebody looks into what goes to the storage": Fault(
        lambda inside: faults.switched(inside, "storage", "impostor"), ("TLS_INTERCEPTED",)
    ),
    "the instance metadata refuses": Fault(
        lambda inside: faults.switched(inside, "metadata", "refused"), ("METADATA_UNREACHABLE",)
    ),
    "the clock is behind the fabric's": Fault(
        lambda inside: faults.switched(inside, "clock_ahead", 3600), ("CLOCK_SKEWED",)
    ),
    "a mount does not answer": Fault(faults.hanging, ("MOUNT_UNRESPONSIVE",)),
    "a mount does not answer and cannot be given up": Fault(
        lambda inside: faults.hanging(inside, Hang.IN_KERNEL), ("MOUNT_UNRESPONSIVE",)
    ),
    "noexec over the agent's library": Fault(
        lambda inside: faults.remounted(inside, "/var/lib/waagent", "noexec"), ("MOUNT_NOEXEC",)
    ),
    "the agent's log can only be read": Fault(
        lambda inside: faults.remounted(inside, "/var/log/azure", "ro"), ("MOUNT_READ_ONLY",)
    ),
    "the library is full of bytes": Fault(
        lambda inside: faults.small_library(inside, "size=8m", faults.FULL_OF_BYTES), ("SPACE_EXHAUSTED",)
    ),
    "the library is full of inodes": Fault(
        lambda inside: faults.small_library(inside, "size=64m,nr_inodes=400", faults.FULL_OF_INODES),
        ("INODES_EXHAUSTED",),
    ),
    "blanks around an equals sign": Fault(
        lambda inside: faults.configured(inside, "Logs.Console = y"), ("CONFIG_BREAKS_EXTENSION",)
    ),
    "the documentation's key": Fault(
        lambda inside: faults.configured(inside, "Extensions.Enable=n"), ("CONFIG_KEY_INEFFECTIVE",)
    ),
    "the library is elsewhere": Fault(
        lambda inside: faults.configured(inside, "Lib.Dir=/data/waagent"), ("LIB_DIR_MOVED",)
    ),
    "there is no configuration": Fault(
        lambda inside: faults.moved_away(inside, "/etc/waagent.conf"), ("CONFIG_MISSING",)
    ),
    "verbose logging was left on": Fault(
        lambda inside: faults.reconfigured(inside, "Logs.Verbose=n", "Logs.Verbose=y"), ("VERBOSE_LEFT_ON",)
    ),
    "a policy leaves the extension out": Fault(
        lambda inside: faults.written(inside, "/etc/waagent_policy.json", faults.EXCLUDING_POLICY),
        ("POLICY_EXCLUDES_EXTENSION",),
    ),
    "the agent is to be switched off": Fault(
        lambda inside: faults.written(inside, f"{LIBRARY}/disable_agent", ""), ("AGENT_SWITCH_OFF_PENDING",)
    ),
    "the agent's unit is not enabled": Fault(faults.not_enabled, ("AGENT_NOT_ENABLED",)),
    "two versions of the extension are enabled": Fault(
        lambda inside: faults.written(inside, f"{LIBRARY}/{HANDLER}-1.0.9000.0/config/HandlerState", "Enabled"),
        ("EXTENSION_SEVERAL_VERSIONS",),
    ),
    "a file stands where the extension's logs belong": Fault(
        faults.log_directory_blocked, ("EXTENSION_LOG_PATH_BLOCKED",)
    ),
    "the time for the freeze is no time": Fault(
        lambda inside: faults.written(inside, "/etc/azure/vmbackup.conf", "[SnapshotThread]\ntimeout: 0\n"),
        ("FREEZE_CONFIG_WRONG",),
    ),
    "a reboot is pending": Fault(
        lambda inside: faults.written(inside, "/run/reboot-required", "*** System restart required ***\n"),
        ("REBOOT_PENDING",),
    ),
    "packages are being installed": Fault(
        lambda inside: faults.lock_held(inside, "/var/lib/dpkg/lock-frontend"), (), ("PACKAGE_LOCK_HELD",)
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_fault(name: str, steady: Inside) -> None:
    """Exactly what it says is active while it lasts, and nothing after it."""
    fault = FAULTS[name]
    with fault.made(steady):
        steady.expect(*fault.expect, within=150, daemon=fault.daemon, perhaps=fault.perhaps)
    steady.expect(within=200, perhaps=fault.perhaps)


# ------------------------------------------------------------------------------------------- the path of the snapshot

_BACKUP_CONFIG = "/etc/azure/vmbackup.conf"


def test_storage_dead_on_the_way_of_the_snapshot(steady: Inside) -> None:
    """Where the guest itself takes the snapshot, an unreachable storage blocks it; by the host it is a mere notice."""
    with faults.switched(steady, "storage", "refused"):
        assert steady.expect("STORAGE_UNREACHABLE", within=60).document["verdict"] == "ready"
        with faults.written(steady, _BACKUP_CONFIG, "[SnapshotThread]\nSnapshotMethod: onlyGuest\n"):
            assert steady.expect("STORAGE_UNREACHABLE", within=60).document["verdict"] == "blocked"
    steady.expect(within=60)


def test_proxy_dead(steady: Inside) -> None:
    """A proxy that nobody serves: told with what goes through it, and no more than a notice on the host's path."""
    text = steady.guest.read("/etc/waagent.conf") + "HttpProxy.Host=10.0.0.1\nHttpProxy.Port=3128\n"
    with faults.written(steady, "/etc/waagent.conf", text):
        checked = steady.expect("PROXY_UNREACHABLE", "PROXY_NOT_FOR_EXTENSION", within=60)
        assert checked.document["verdict"] == "ready"
    steady.expect(within=60)


# --------------------------------------------------------------------------------------------------------- leases


def test_leased_with_option_245(steady: Inside) -> None:
    """The endpoint comes with a real lease, and there is no route of its own to it: nothing is wrong."""
    with faults.without_a_host_route(steady), faults.leased(steady, endpoint=True):
        assert "unknown-245 a8:3f:81:10" in steady.guest.read("/var/lib/dhcp/dhclient.eth0.leases")
        steady.expect(within=60)
        # Nobody renews it any more.
        steady.guest.run("sh", "-c", "kill $(cat /run/dhclient.eth0.pid)")
        steady.expect("DHCP_CLIENT_GONE", within=60)


def test_leased_without_option_245(steady: Inside) -> None:
    """Neither a route nor a lease says where the wire server is. An agent that runs knows it still; one that starts
    asks in vain, where the wire server cannot be reached."""
    guest = steady.guest
    with faults.without_a_host_route(steady), faults.leased(steady, endpoint=False):
        steady.expect(within=60)
        guest.stop_agent()
        guest.run("rm", "-f", "/var/lib/waagent/WireServerEndpoint")
        guest.fabric.set("wire_server", "refused")
        guest.fabric.set("host_plugin", "refused")
        try:
            checked = steady.expect("AGENT_STOPPED", "WIRE_SERVER_UNREACHABLE", within=150)
            told = {reason["problem"]: reason for reason in checked.document["reasons"]}
            assert "DHCP_NO_ENDPOINT" in told["WIRE_SERVER_UNREACHABLE"]["consequences"]
        finally:
            guest.fabric.reset()
            guest.start_agent()
    steady.heal()
    steady.expect(within=200)


def test_static_address(steady: Inside) -> None:
    """An address that is written down in the guest: a notice while a route leads to the wire server, a risk without."""
    text = "auto eth0\niface eth0 inet static\n    address 10.0.0.4/24\n    gateway 10.0.0.1\n"
    with faults.written(steady, "/etc/network/interfaces", text):
        assert steady.expect("DHCP_STATIC_ADDRESS", within=60).document["verdict"] == "ready"
        with faults.without_a_host_route(steady):
            assert steady.expect("DHCP_STATIC_ADDRESS", within=60).document["verdict"] == "at_risk"
    steady.expect(within=60)


# ------------------------------------------------------------------------------------------------ interpreter, tools


def test_without_lsblk(steady: Inside) -> None:
    """A tool that the extension calls is missing."""
    with faults.moved_away(steady, "/usr/bin/lsblk"):
        steady.expect("EXTENSION_TOOL_MISSING", within=60)
    steady.expect(within=60)


def test_an_interpreter_without_crypt(steady: Inside) -> None:
    """What this version of the extension imports, its interpreter has not. The agent has loaded its own long ago."""
    main = f"{HANDLER_DIRECTORY}/main"
    steady.guest.run("mkdir", "-p", f"{main}/Utils")
    with (
        faults.written(steady, f"{main}/WaagentLib.py", "import crypt\n"),
        faults.written(steady, f"{main}/Utils/WAAgentUtil.py", "import imp\n"),
    ):
        steady.expect(within=60)
        with faults.moved_away(steady, "/usr/lib/python3.11/crypt.py"):
            steady.expect("INTERPRETER_INCOMPATIBLE", within=120)
        steady.expect(within=120)


def test_python_hidden(steady: Inside) -> None:
    """None of the names is there by which the extension looks for an interpreter; this program needs another one."""
    with faults.moved_away(steady, "/usr/bin/python3"), contextlib.ExitStack() as stack:
        steady.guest.run("systemctl", "stop", AGENT_UNIT)  # the last resort is the interpreter of the running agent
        stack.callback(steady.heal)
        done = steady.guest.run("/usr/bin/python3.11", BACKUPREADY, "check", "--json", check=False, timeout=120)
        active = {entry["problem"] for entry in json.loads(done.stdout)["reasons"]}
        assert {"AGENT_STOPPED", "INTERPRETER_MISSING"} <= active
        stack.pop_all()
    steady.heal()
    steady.expect(within=200)


# -------------------------------------------------------------------------------------------------------- scripts

_SCRIPTS = "/etc/azure/VMSnapshotScriptPluginConfig.json"
_RIGHT = {
    "pluginName": "ScriptRunner",
    "preScriptLocation": "/etc/azure/pre.sh",
    "postScriptLocation": "/etc/azure/post.sh",
    "preScriptParams": ["", ""],
    "postScriptParams": ["", ""],
    "preScriptNoOfRetries": 0,
    "postScriptNoOfRetries": 0,
    "timeoutInSeconds": 30,
    "continueBackupOnFailure": False,
    "fsFreezeEnabled": True,
}


@pytest.mark.parametrize(
    ("what", "change", "mode", "script_mode", "problem"),
    [
        ("right", {}, 0o600, 0o700, None),
        ("no JSON", None, 0o600, 0o700, "SCRIPT_CONFIG_INVALID"),
        ("no such script", {"preScriptLocation": "/etc/azure/none.sh"}, 0o600, 0o700, "SCRIPT_MISSING"),
        ("a script that others may read", {}, 0o600, 0o755, "SCRIPT_PERMISSIONS"),
        ("a configuration that others may read", {}, 0o644, 0o700, "SCRIPT_PERMISSIONS"),
        ("no time", {"timeoutInSeconds": 0}, 0o600, 0o700, "SCRIPT_TIMEOUT"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_scripts(
    steady: Inside, what: str, change: dict[str, Any] | None, mode: int, script_mode: int, problem: str | None
) -> None:
    """The rules of codes 300 to 318, ahead of time; what the evidence says mends it, mends it."""
    text = "{" if change is None else json.dumps({**_RIGHT, **change})
    with (
        faults.written(steady, "/etc/azure/pre.sh", "#!/bin/sh\n", script_mode),
        faults.written(steady, "/etc/azure/post.sh", "#!/bin/sh\n", script_mode),
        faults.written(steady, _SCRIPTS, text, mode),
    ):
        checked = steady.expect(*([problem] if problem else []), within=60)
        if problem == "SCRIPT_PERMISSIONS":
            for reason in checked.document["reasons"]:
                steady.guest.run("sh", "-c", reason["evidence"]["mend"])
            steady.expect(within=60)
    steady.expect(within=60)


# ----------------------------------------------------------------------------------------------------- the handler


@pytest.mark.parametrize("code", sorted(set(waagent.HANDLER_CODES) - {-1, 0, 1000}))
def test_handler_code(steady: Inside, code: int) -> None:
    """Every code that the agent can report of the handler, reported by the real agent."""
    path = f"{HANDLER_DIRECTORY}/config/HandlerStatus"
    before = json.loads(steady.guest.read(path))
    spoilt = {**before, "status": "NotReady", "code": code, "message": f"as code {code} has it"}
    problem = "EXTENSION_PACKAGE_UNAVAILABLE" if code in (1001, 1004, 1005) else "EXTENSION_NOT_READY"
    with faults.written(steady, path, json.dumps(spoilt)):
        steady.guest.wait_handler("NotReady", code)
        checked = steady.expect(problem, within=90)
        assert checked.document["reasons"][0]["evidence"]["code"] == code
    steady.expect(within=90)


# ------------------------------------------------------------------------------------------------------- the past


def test_a_history_with_every_code(steady: Inside) -> None:
    """Thirty runs, the last a success: the readings tell it. Then one more run with each code that is a failure of the
    machine's, which is told with its name."""
    guest, now = steady.guest, time.time()
    codes = [code for code, row in vmsnapshot.CODES.items() if row.kind is vmsnapshot.Kind.FAILURE]
    runs = [Run(now - (60 - n) * 86400, codes[n % len(codes)]) for n in range(30)]
    with contextlib.ExitStack() as stack:

        def put(more: list[Run]) -> None:
            for path, text in history([*runs, *more], first=100).items():
                if "/config/" not in path:
                    stack.enter_context(faults.written(steady, f"/{path}", text))

        put([Run(now - 7200)])
        steady.expect(within=60)
        assert "\nbackupready_backup_last_result_code 1\n" in steady.get("/metrics")
    for code in codes:
        with contextlib.ExitStack() as stack:
            for path, text in history([*runs[:5], Run(time.time() - 5, code)], first=100).items():
                if "/config/" not in path:
                    stack.enter_context(faults.written(steady, f"/{path}", text))
            checked = steady.check()
            told = {entry["problem"]: entry for entry in [*checked.document["reasons"], *checked.document["notices"]]}
            assert told["LAST_BACKUP_FAILED"]["evidence"]["code"] == code, code
    measured(f"codes of the extension read back in the guest: {len(codes)}")
    assert guest.run(BACKUPREADY, "explain", "76").stdout
    steady.expect(within=60)


def test_only_crash_consistent(steady: Inside) -> None:
    """Two backups in a row of file systems that were not frozen."""
    now = time.time()
    with contextlib.ExitStack() as stack:
        runs = [Run(moment, health=121, consistency=3) for moment in (now - 2, now - 1)]
        for path, text in history(runs, first=100).items():
            if "/config/" not in path:
                stack.enter_context(faults.written(steady, f"/{path}", text))
        checked = steady.expect("BACKUP_ONLY_CRASH_CONSISTENT", within=60)
        assert checked.document["verdict"] == "degraded"
    steady.expect(within=60)


# ----------------------------------------------------------------------------------------------------------- freeze

_LOCK = "/etc/azure/MicrosoftRecoverySvcsSafeFreezeLock/SafeFreezeLockFile"


def test_freeze_lock_held(steady: Inside) -> None:
    """Another process holds the lock that the extension waits for, as Site Recovery may."""
    with faults.lock_held(steady, _LOCK):
        steady.guest.run("touch", "-d", "-10 min", _LOCK)
        steady.expect("FREEZE_LOCK_HELD", within=90)
    steady.expect(within=60)


def test_a_disk_left_frozen(steady: Inside) -> None:
    """A loop device is really frozen, a writer waits for it, the extension's log ends in the freeze, and the agent
    stands still as it does where its own disk is frozen: told, and gone when it is thawed. Nothing but that loop device
    is ever frozen."""
    guest = steady.guest
    guest.run("mkdir", "-p", "/srv/data")
    worker = str(guest.agent_pids().worker)
    with LoopDisk(guest, "/srv/data") as disk:
        began = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime())
        words = ("starting daemon initially", "****** 1. Starting Freeze Binary", "****** 2. Binary Freeze Started")
        lines = "".join(f"{began}.{n}00000 [{waagent.VMSNAPSHOT}-1.0]{text}\n" for n, text in enumerate(words))
        with faults.written(steady, f"/var/log/azure/{waagent.VMSNAPSHOT}/extension.log", lines):
            guest.run("kill", "-STOP", worker)
            disk.freeze(longest=420)
            try:
                # The kernel keeps who writes to it until it is thawed.
                with faults.running(steady, "sh", "-c", "exec dd if=/dev/zero of=/srv/data/file count=1"):
                    checked = steady.expect("FILE_SYSTEM_LEFT_FROZEN", within=380)
                    assert checked.document["verdict"] == "blocked"
                    disk.thaw()
            finally:
                disk.thaw()
                guest.run("kill", "-CONT", worker)
    steady.expect(within=120)


def test_a_freezer_that_does_not_end(steady: Inside) -> None:
    """A process of the extension's freezer that lives longer than any freeze lasts."""
    program = f"{HANDLER_DIRECTORY}/main/safefreeze/bin/safefreeze"
    # It has the freezer's name, and no number where the freezer's own time-out stands.
    with faults.running(steady, "bash", "-c", f"exec -a {program} tail -f /dev/null"):
        checked = steady.expect("FILE_SYSTEM_LEFT_FROZEN", within=240)
        assert checked.document["verdict"] == "blocked"
    steady.expect(within=60)


# ------------------------------------------------------------------------------------------------- the worst of all


_WHOLE_LOOK = 30.0  # s, the default of look.deadline


def test_everything_dead(steady: Inside) -> None:
    """Every endpoint is a black hole and a mount hangs: a look ends within its budget, and every probe has said what it
    can."""
    with faults.black_hole(steady), faults.hanging(steady, Hang.IN_KERNEL):
        began = time.monotonic()
        checked = steady.check()
        seconds = time.monotonic() - began
        measured(f"a whole check with every endpoint black-holed and one mount hanging: {seconds:.1f} s")
        probes = {entry["name"]: entry for entry in checked.document["probes"]}
        late = {name for name, entry in probes.items() if entry["state"] in ("given_up", "failed")}
        assert late == set()
        budgets = {probe.name: probe.budget.total_seconds() for probe in PROBES}
        for name, entry in probes.items():
            assert entry["seconds"] <= budgets[name], name
            assert entry["seconds"] <= _WHOLE_LOOK
        assert {"WIRE_SERVER_UNREACHABLE", "MOUNT_UNRESPONSIVE"} <= checked.active
        # Of what cannot be reached nothing is held to be well.
        doubted = {entry["problem"] for entry in checked.document["unknown"] if "problem" in entry}
        silent = {entry["probe"] for entry in checked.document["unknown"] if "probe" in entry}
        doubted |= {problem.code for probe in PROBES if probe.name in silent for problem in probe.problems}
        consequences = {code for reason in checked.document["reasons"] for code in reason["consequences"]}
        assert {
            *("HOST_PLUGIN_UNREACHABLE", "METADATA_UNREACHABLE", "CLOCK_SKEWED", "TLS_INTERCEPTED"),
            "NAME_RESOLUTION_FAILS",
        } <= checked.active | doubted | consequences
        steady.expect(
            "WIRE_SERVER_UNREACHABLE",
            "MOUNT_UNRESPONSIVE",
            "METADATA_UNREACHABLE",
            within=200,
            perhaps=("AGENT_CRASH_LOOPING", "AGENT_HUNG"),
        )
    steady.expect(within=200, perhaps=("AGENT_CRASH_LOOPING",))


def test_not_an_azure_vm(steady: Inside) -> None:
    """It is said in one line, with exit 3, and nothing else is judged."""
    path = "/etc/backupready/conf.d/90-test.conf"
    with faults.written(steady, path, "[guest]\nazure = no\n"):
        done = steady.guest.run(BACKUPREADY, "check", check=False)
        assert (done.returncode, done.stdout.count("\n"), done.stderr) == (3, 1, "")
        assert "NOT_AN_AZURE_VM" in done.stdout
        steady.guest.stop_agent()
        steady.guest.run("systemctl", "reload", "backupready.service")
        try:
            steady.expect("NOT_AN_AZURE_VM", within=60)
        finally:
            steady.guest.start_agent()
    steady.guest.run("systemctl", "reload", "backupready.service")
    steady.heal()
    steady.expect(within=200)
