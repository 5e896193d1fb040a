"""Policy that a machine can hold: who imports whom, who may reach out, and that the unit tests may not."""

from __future__ import annotations

import ast
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "daemon/backupready"
FILES = {str(file.relative_to(PACKAGE)): file for file in sorted(PACKAGE.rglob("*.py"))}


def imports(path: str) -> set[str]:
    """The dotted names that a file imports anywhere, ours without `backupready.`; `version` for our version.

    `from backupready.x import y` counts as x, or as x.y where that is a module.
    """
    found: set[str] = set()
    for node in ast.walk(ast.parse(FILES[path].read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path} imports relatively"
            module = node.module or ""
            for alias in node.names:
                whole = f"{module}.{alias.name}"
                is_module = module.split(".")[0] == "backupready" and _module(whole)
                found.add(whole if is_module else "backupready.version" if alias.name == "__version__" else module)
    return {name[len("backupready.") :] if name.startswith("backupready.") else name for name in found}


def _module(dotted: str) -> bool:
    place = PACKAGE.joinpath(*dotted.split(".")[1:])
    return place.is_dir() or place.with_suffix(".py").is_file()


OURS = {"backupready", "version", *(path.split("/")[0].split(".py")[0] for path in FILES)}


def ours(path: str) -> set[str]:
    return {name for name in imports(path) if name.split(".")[0] in OURS and name != "version"} - {"__future__"}


# Which of our modules each file may import; a folder stands for all that is in it.
MAY_IMPORT: dict[str, set[str]] = {
    "__init__.py": set(),
    "__main__.py": {"cli"},
    "model.py": set(),
    "config.py": {"model"},
    "plan.py": {"model", "waagent"},
    "wire.py": {"model", "plan"},
    "activation.py": set(),
    "journal.py": set(),
    "packages.py": {"model"},
    "zones.py": set(),
    "window.py": {"model", "zones"},
    "learn.py": {"model", "window"},
    "catalogue/__init__.py": {"config", "model", "probes"},
    "waagent.py": {"model"},
    "report.py": {"model", "plan", "vmsnapshot"},
    "vmsnapshot.py": {"model", "waagent"},
    "mountinfo.py": {"model"},
    "netfilter.py": {"model"},
    "forecast.py": {"model"},
    "redaction.py": set(),
    "observe.py": {"config", "model", "redaction"},
    "bundle.py": {"fixes", "model", "waagent", "vmsnapshot", "mountinfo", "redaction"},
    "preconditions.py": {"model", "waagent", "vmsnapshot", "plan"},
    "remedies/__init__.py": {"model"},
    "remedies/": {"model", "waagent", "vmsnapshot", "preconditions"},
    "fixes.py": {"model", "observe"},
    "probes/__init__.py": {"model"},
    "probes/": {"model", "packages", "waagent", "vmsnapshot", "mountinfo", "netfilter", "forecast", "window", "fixes"},
    "eyes/": {"config", "model", "wire", "observe", "eyes"},
    "mind/": {
        "activation",
        "config",
        "journal",
        "model",
        "wire",
        "report",
        "observe",
        "window",
        "learn",
        "fixes",
        "mind",
    },
    "hands/": {
        "activation",
        "config",
        "journal",
        "model",
        "packages",
        "wire",
        "waagent",
        "vmsnapshot",
        "mountinfo",
        "observe",
        "fixes",
        "plan",
        "hands",
    },
}
MAY_IMPORT_ANYTHING = {"cli.py", "cli_fix.py", "demo.py", *(path for path in FILES if path.startswith("catalogue/"))}


@pytest.mark.parametrize("path", [path for path in FILES if path in MAY_IMPORT or path not in MAY_IMPORT_ANYTHING])
def test_a_layer_imports_only_what_lies_below_it(path: str) -> None:
    """model ← config, journal, packages, waagent, vmsnapshot, mountinfo, forecast, observe ← fixes ← probes ← eyes and
    mind, which never import each other; waagent ← plan ← wire, report, hands; model, zones ← window ← learn, and the
    probes and the mind; waagent, vmsnapshot, plan ← preconditions ← remedies, which never import probes, nor they them,
    and hands, which import none of these; activation ← mind, hands."""
    folder = path.rpartition("/")[0] + "/"
    allowed = MAY_IMPORT[path] if path in MAY_IMPORT else MAY_IMPORT[folder]
    assert {name for name in ours(path) if name not in allowed and name.split(".")[0] not in allowed} == set()


def test_the_reading_of_imports_sees_our_modules() -> None:
    """The test of the layers cannot hold by seeing nothing."""
    assert {"config", "wire", "eyes.confine", "eyes.machine", "model", "observe"} == ours("eyes/look.py")
    assert {"mind.judge", "mind.metrics", "mind.web", "mind.service", "report", "wire"} <= ours("mind/monitor.py")
    assert {"eyes", "mind.judge", "catalogue", "probes"} <= {n.rsplit(".look")[0] for n in ours("cli.py")}
    assert "requests" in imports("eyes/network.py")
    assert {"model", "preconditions", "waagent"} == ours("remedies/reload_extension.py")
    assert "version" in imports("mind/web.py")


# Who may reach beyond this process, to what, and why. Everything else is pure.
REACHES_OUT: dict[str, tuple[set[str], str]] = {
    "eyes/machine.py": ({"psutil", "subprocess"}, "it is the only door for looking"),
    "eyes/network.py": (
        {"dns", "http", "requests", "socket", "ssl", "tenacity", "urllib", "urllib3"},
        "it is that door's way to the network",
    ),
    "mind/sampler.py": ({"psutil"}, "it samples the kernel's counters"),
    "eyes/look.py": ({"socket"}, "it answers on the socket that it is started with"),
    "wire.py": ({"socket", "subprocess"}, "it carries the questions, and starts the child that answers"),
    "mind/web.py": ({"http", "socket"}, "it is the listener"),
    "mind/webconfig.py": ({"ssl"}, "it makes the listener's TLS"),
    "mind/service.py": ({"socket"}, "it tells the service manager"),
    "mind/monitor.py": ({"socket"}, "a signal wakes the loop through a pair of sockets"),
    "hands/serve.py": ({"socket"}, "it answers on the socket that it is started with"),
    "hands/programs.py": ({"subprocess"}, "it is the only way to change this machine by a program"),
    "cli.py": ({"http", "socket"}, "`status` asks the daemon"),
    "demo.py": ({"http", "socket", "subprocess"}, "it emulates a guest and its fabric"),
}
REACHING = {
    "subprocess",
    "socket",
    "requests",
    "dns",
    "psutil",
    "tenacity",
    "http",
    "urllib",
    "urllib3",
    "ssl",
    "asyncio",
}


@pytest.mark.parametrize("path", FILES)
def test_only_named_files_reach_out(path: str) -> None:
    """A file imports exactly those reaching modules that the table allows it, with a reason."""
    reaching = {name.split(".")[0] for name in imports(path)} & REACHING
    allowed, _ = REACHES_OUT.get(path, (set(), ""))
    assert reaching == allowed


def test_no_file_starts_processes_by_another_way() -> None:
    """os.system, os.fork and their like are used nowhere."""
    forbidden = {"system", "popen", "fork", "forkpty", "posix_spawn", "posix_spawnp", "startfile"}
    for path, file in FILES.items():
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "os":
                assert node.attr not in forbidden, f"{path}:{node.lineno}"
                assert not node.attr.startswith(("exec", "spawn")), f"{path}:{node.lineno}"


@pytest.mark.integration
def test_the_mind_does_not_load_what_only_looks_need(tmp_path: Path) -> None:
    """A resident process with its Monitor constructed has neither requests nor dns nor tenacity in memory."""
    config = tmp_path / "x.conf"
    config.write_text("[web]\nlisten_address = 127.0.0.1:0\n")
    code = f"""
import pathlib, sys
from backupready import catalogue, cli, config, probes, remedies
from backupready.mind.monitor import Monitor
settings = config.load(catalogue.SETTINGS, pathlib.Path({str(config)!r}))
monitor = Monitor(settings, lambda: settings, probes.PROBES, probes.METRICS, ["true"], remedies=remedies.REMEDIES)
unwanted = {{"requests", "urllib3", "dns", "tenacity", "subprocess", "backupready.eyes", "backupready.hands"}}
print(sorted(unwanted & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONPATH": str(PACKAGE.parent)},
    )
    assert (done.stdout.strip(), done.stderr) == ("['subprocess']", "")


# ------------------------------------------------------------------------------------------- the tests' own guard


def test_a_unit_test_cannot_start_a_process(guard: list[str]) -> None:
    """An unmarked test that does is stopped, and fails although it swallows the refusal."""
    with pytest.raises(pytest.fail.Exception, match="starts a process"):
        subprocess.run(["true"], check=False)
    assert guard == ["starts a process (subprocess.Popen)"]
    guard.clear()


def test_a_unit_test_cannot_connect_beyond_unix_sockets(guard: list[str], tmp_path: Path) -> None:
    """Also not from a thread, where the refusal is not seen; a unix socket is fine."""
    with socket.socket() as connection, pytest.raises(pytest.fail.Exception, match="reaches"):
        connection.connect(("127.0.0.1", 9))
    refused = []

    def reach() -> None:
        try:
            with socket.socket() as connection:
                connection.connect_ex(("127.0.0.1", 9))
        except BaseException as error:  # noqa: BLE001 - that is the point
            refused.append(error)

    thread = threading.Thread(target=reach)
    thread.start()
    thread.join()
    assert len(refused) == 1
    assert guard == ["reaches ('127.0.0.1', 9) (socket.connect)"] * 2
    guard.clear()
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as connection:
        listener.bind(str(tmp_path / "x"))
        listener.listen()
        connection.connect(str(tmp_path / "x"))
    assert guard == []
