"""What holds for every test: a guard around the unit tests, one switch for goldens, hypothesis without a stopwatch, and
the built packages."""

from __future__ import annotations

import fcntl
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable

import pytest
from hypothesis import settings

from built import OLDER, SOURCE, build
from measured import MEASURED

settings.register_profile("backupready", deadline=None, max_examples=60)
settings.register_profile("ci", deadline=None, max_examples=100, derandomize=True, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "backupready"))

_STARTS_A_PROCESS = ("subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.exec", "os.system")
_REACHES_OUT = ("socket.connect", "socket.sendto")

# What the unit test that runs now has reached for; None while a marked test or none runs.
_reached: list[str] | None = None


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    """An audit hook cannot be taken back, and sees what C code does as well."""
    if _reached is None:
        return
    if event in _STARTS_A_PROCESS:
        what = f"starts a process ({event})"
    elif event in _REACHES_OUT and isinstance(arguments[1], tuple):
        what = f"reaches {arguments[1]} ({event})"
    else:
        return
    _reached.append(what)
    pytest.fail(f"a test without the mark `integration` {what}")


sys.addaudithook(_watch)


@pytest.fixture(autouse=True)
def guard(request: pytest.FixtureRequest) -> Iterator[list[str]]:
    """An unmarked test fails when it opens a connection other than a unix one, or starts a process, also when the code
    under test swallows the refusal or does it in a thread. Gives what was reached for."""
    global _reached
    exempt = any(request.node.get_closest_marker(name) for name in ("integration", "system"))
    reached: list[str] = []
    _reached = None if exempt else reached
    yield reached
    _reached = None
    if reached:
        pytest.fail(f"a test without the mark `integration` {'; '.join(reached)}")


def pytest_sessionfinish(session: pytest.Session) -> None:
    """One of several processes that share the tests hands over what it measured."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["measured"] = MEASURED


class _Collected:
    """What such processes hand over."""

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        MEASURED.extend(getattr(node, "workeroutput", {}).get("measured", []))


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(_Collected())


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if MEASURED:
        terminalreporter.section("measured")
        for line in MEASURED:
            terminalreporter.line(line)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-goldens", action="store_true", help="write what is rendered now into the golden files")


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[Path, str], None]:
    """Hold a text against a golden file, or with --update-goldens write it there."""

    def compare(path: Path, text: str) -> None:
        if request.config.getoption("--update-goldens"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        assert path.is_file(), f"there is no {path}; write it with --update-goldens"
        assert path.read_text(encoding="utf-8") == text, f"{path} is not what is rendered now; see --update-goldens"

    return compare


# The packages, each built once for all tests, in however many processes those run.


def _once(factory: pytest.TempPathFactory, kind: str, name: str, *options: str) -> Path:
    place = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        place = place.parent
    with (place / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        found = list((place / name).glob(f"*.{kind}"))
        return found[0] if found else build(SOURCE, kind, place / name, *options)


@pytest.fixture(scope="session")
def deb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _once(tmp_path_factory, "deb", "deb")


@pytest.fixture(scope="session")
def older_deb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with a lower version, to upgrade from."""
    return _once(tmp_path_factory, "deb", "older-deb", "--version", OLDER)


@pytest.fixture(scope="session")
def rpm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For this machine's architecture."""
    return _once(tmp_path_factory, "rpm", "rpm")


@pytest.fixture(scope="session")
def older_rpm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with a lower version, to upgrade from."""
    return _once(tmp_path_factory, "rpm", "older-rpm", "--version", OLDER)
