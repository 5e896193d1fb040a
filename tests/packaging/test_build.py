"""What is in the packages, and are they the same wherever they are built?"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from built import OLDER, SOURCE, build
from requirement import need

RPM = SOURCE / "packaging/rpm"

# What both packages have, at the same place.
COMMON = (
    "/etc/backupready/backupready.conf",
    "/etc/backupready/conf.d",
    "/usr/bin/backupready",
    "/usr/lib/sysusers.d/backupready.conf",
    "/usr/lib/tmpfiles.d/backupready.conf",
    "/usr/lib/systemd/catalog/backupready.catalog",
    "/usr/lib/systemd/system-preset/80-backupready.preset",
    "/usr/share/bash-completion/completions/backupready",
    "/usr/share/doc/backupready/CHANGELOG.md",
    "/usr/share/doc/backupready/README.md",
    "/usr/share/doc/backupready/examples/alertmanager.yml",
    "/usr/share/doc/backupready/examples/alerts-keep-firing.yml",
    "/usr/share/doc/backupready/examples/alerts.yml",
    "/usr/share/doc/backupready/examples/dashboards/fleet.json",
    "/usr/share/doc/backupready/examples/dashboards/vm.json",
    "/usr/share/doc/backupready/examples/prometheus.yml",
    "/usr/share/doc/backupready/examples/web.yml",
    "/usr/share/doc/backupready/metrics.md",
    "/usr/share/doc/backupready/runbook/README.md",
    "/usr/share/doc/backupready/runbook/agent_stopped.md",
    "/usr/share/fish/vendor_completions.d/backupready.fish",
    "/usr/share/man/man5/backupready.conf.5.gz",
    "/usr/share/man/man8/backupready.8.gz",
)
UNITS = (
    *("backupready.service", "backupready-look.socket", "backupready-look@.service"),
    *("backupready-fix.socket", "backupready-fix@.service", "backupready-fix-end.timer"),
    "backupready-fix@end.service.d/unfinished.conf",
)

pytestmark = pytest.mark.integration


@pytest.fixture(scope="session")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the working tree in another place, which git knows nothing of."""
    ignored = shutil.ignore_patterns(".git", ".venv", ".nox", "build", "dist", ".*_cache", ".hypothesis", "__pycache__")
    return Path(shutil.copytree(SOURCE, tmp_path_factory.mktemp("elsewhere") / "a tree", ignore=ignored))


def output(*command: str | Path) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_deb_has_everything(deb: Path) -> None:
    """The deb has the program, its units, its pages and its completions where Debian looks for them."""
    files = {line.split()[5].lstrip(".").rstrip("/") for line in output("dpkg-deb", "-c", deb).splitlines()}
    wanted = {
        *COMMON,
        *(f"/lib/systemd/system/{unit}" for unit in UNITS),
        "/usr/lib/python3/dist-packages/backupready/cli.py",
        "/usr/lib/python3/dist-packages/sos/report/plugins/backupready.py",
        "/usr/share/doc/backupready/changelog.gz",
        "/usr/share/doc/backupready/copyright",
        "/usr/share/zsh/vendor-completions/_backupready",
    }
    assert wanted <= files


def test_rpm_has_everything(rpm: Path) -> None:
    """The rpm has the program with its libraries but not their tests, its units, its pages and its completions."""
    files = set(output("rpm", "-qpl", rpm).splitlines())
    wanted = {
        *COMMON,
        *(f"/usr/lib/systemd/system/{unit}" for unit in UNITS),
        "/usr/lib64/backupready/__main__.py",
        "/usr/lib64/backupready/backupready/cli.py",
        "/usr/lib64/backupready/requests/__init__.py",
        "/usr/lib64/backupready/psutil/_psutil_linux.abi3.so",
        "/usr/share/backupready/sos/backupready.py",
        "/usr/share/licenses/backupready/LICENSE",
        "/usr/share/zsh/site-functions/_backupready",
    }
    assert wanted <= files
    assert not [name for name in files if "/tests/" in name or "__pycache__" in name]


def test_configuration_is_kept(deb: Path, rpm: Path) -> None:
    """Both packages know the configuration as the administrator's."""
    assert output("dpkg-deb", "--info", deb, "conffiles").split() == ["/etc/backupready/backupready.conf"]
    assert output("rpm", "-qpc", rpm).split() == ["/etc/backupready/backupready.conf"]


@pytest.mark.parametrize("kind", ["deb", "rpm"])
def test_reproducible(kind: str, elsewhere: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Another directory, without git, another time zone, language and umask give the same bytes."""
    first: Path = request.getfixturevalue(kind)
    umask = os.umask(0o077)
    try:
        second = build(elsewhere, kind, tmp_path, TZ="Pacific/Auckland", LC_ALL="C")
    finally:
        os.umask(umask)
    assert second.name == first.name
    assert second.read_bytes() == first.read_bytes()


def test_another_version(older_deb: Path) -> None:
    """--version gives a package of that version, to upgrade from."""
    assert older_deb.name == f"backupready_{OLDER}_all.deb"
    assert output("dpkg-deb", "--field", older_deb, "Version").strip() == OLDER
    assert f"dist-packages/backupready-{OLDER}.dist-info/" in output("dpkg-deb", "-c", older_deb)


def test_lintian(deb: Path) -> None:
    """lintian has neither an error nor a warning for the deb."""
    need("lintian", "lintian")
    output("lintian", "--fail-on", "error,warning", "--allow-root", deb)


def test_rpmlint(rpm: Path) -> None:
    """rpmlint has nothing to say but what rpmlint.toml gives a reason for."""
    need("rpmlint", "rpmlint")
    told = output("rpmlint", "--config", RPM / "rpmlint.toml", rpm, RPM / "backupready.spec")
    assert "0 errors, 0 warnings" in told, told


def test_bundled_is_locked() -> None:
    """The libraries that the rpm says it carries are those of the lock."""
    locked = re.findall(r"(?m)^([\w-]+)==(\S+)", (RPM / "requirements.lock").read_text(encoding="utf-8"))
    spec = (RPM / "backupready.spec").read_text(encoding="utf-8")
    bundled = re.findall(r"(?m)^Provides: +bundled\(python3dist\(([\w-]+)\)\) = (\S+)$", spec)
    assert bundled == locked


def test_one_version() -> None:
    """The version is the same wherever it is written."""
    places = {
        "pyproject.toml": r'(?m)^version = "(.+)"',
        "daemon/backupready/__init__.py": r'(?m)^__version__ = "(.+)"',
        "packaging/debian/changelog": r"\Abackupready \((.+)\)",
        "packaging/rpm/backupready.spec": r"(?m)^Version: +(.+)$",
    }
    found = {name: re.findall(regex, (SOURCE / name).read_text(encoding="utf-8"))[0] for name, regex in places.items()}
    assert len(set(found.values())) == 1, found


@pytest.mark.parametrize(
    ("interpreters", "link", "chosen"),
    [
        (["bin/python3.11"], "python3.11", "bin/python3"),
        (["bin/python3.9", "bin/python3.13"], "python3.9", "bin/python3"),
        (["bin/python3.14"], "python3.14", "bin/python3"),
        (["bin/python3.6", "bin/python3.9", "bin/python3.12"], "python3.6", "bin/python3.12"),
        (["bin/python3.6", "local/bin/python3.11"], "python3.6", "local/bin/python3.11"),
        (["bin/python3.11"], None, "bin/python3.11"),
        (["bin/python3.6"], "python3.6", None),
        (["bin/python3.11-config"], None, None),
        ([], None, None),
    ],
)
def test_interpreter(interpreters: Sequence[str], link: str | None, chosen: str | None, tmp_path: Path) -> None:
    """The rpm's launcher takes the distribution's own Python if it is of 3.9 or later, else the newest beside it,
    else it says what to install."""
    for name in ("bin", "local/bin", "lib64/backupready"):
        (tmp_path / name).mkdir(parents=True)
    for name in interpreters:
        (tmp_path / name).write_text('#!/bin/sh\necho "$0" "$@"\n', encoding="utf-8")
        (tmp_path / name).chmod(0o755)
    if link:
        (tmp_path / "bin/python3").symlink_to(link)
    for name, target in (("interpreter.sh", "lib64/backupready/interpreter.sh"), ("backupready.sh", "launcher")):
        text = (RPM / name).read_text(encoding="utf-8")
        (tmp_path / target).write_text(re.sub(r"/usr(?=/(bin|local|lib64))", str(tmp_path), text), encoding="utf-8")
    done = subprocess.run(
        ["sh", str(tmp_path / "launcher"), "explain", "a b"], capture_output=True, text=True, check=False
    )
    if chosen is None:
        assert done.returncode == 69
        assert "install python3.11" in done.stderr
    else:
        assert done.stdout == f"{tmp_path / chosen} -I {tmp_path}/lib64/backupready explain a b\n"


@pytest.fixture(scope="session")
def unpacked(rpm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of the program and its libraries, as the rpm installs it."""
    need("rpm2cpio", "rpm2cpio")
    need("cpio", "cpio")
    place = tmp_path_factory.mktemp("unpacked")
    output("sh", "-c", f"cd '{place}' && rpm2cpio '{rpm}' | cpio --quiet -idm")
    return place / "usr/lib64/backupready"


def test_rpm_tree_runs(unpacked: Path) -> None:
    """What the rpm installs runs isolated."""
    assert output("/usr/bin/python3", "-I", unpacked, "--version").startswith("backupready ")


CARRIED = """
import sys
sys.path.insert(0, sys.argv[1])
import dns.resolver, prometheus_client, psutil, requests, tenacity, urllib3
import backupready.cli, backupready.eyes.look, backupready.mind.monitor
modules = (dns, prometheus_client, psutil, requests, tenacity, urllib3, backupready)
strangers = [m.__file__ for m in modules if not m.__file__.startswith(sys.argv[1])]
assert not strangers, strangers
assert psutil.Process().name()
"""


@pytest.mark.parametrize("version", ["3.9", "3.10", "3.11", "3.12", "3.13"])
def test_the_carried_libraries_are_enough(version: str, unpacked: Path) -> None:
    """On every Python, with nothing of the machine's own but the standard library."""
    pyenv = sorted(str(path) for path in Path.home().glob(f".pyenv/versions/{version}.*/bin/python{version}"))
    python = next(iter(pyenv), None) or shutil.which(f"python{version}")
    if python is None:
        pytest.skip(f"there is no Python {version} here")
    output(python, "-I", "-S", "-c", CARRIED, str(unpacked))
