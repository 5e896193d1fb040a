"""One file: installed, running, upgraded, and gone without a trace, on every release that it is for."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import stat
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from built import OLDER, SOURCE
from lab.guest import AGENT_UNIT, OTHER_RELEASES, Guest, Release
from measured import measured
from system.inside import BACKUPREADY

UNITS = ("backupready.service", "backupready-look.socket")
# What is none of the package's: the package managers' own records, logs, caches, what the system rewrites by itself.
NOT_OURS = re.compile(
    "|".join(
        (
            r"/(proc|sys|dev|run|tmp|root)(/.*)?",
            r"/var/(cache|log|tmp)(/.*)?",
            r"/var/lib/(dpkg|apt|rpm|waagent|systemd/random-seed|systemd/timers)(/.*)?",
            r"/var/lib/systemd/catalog(/database)?",  # the journal's index of all catalogues
            r"/usr/lib/sysimage/rpm(/.*)?",
            r"/etc/(passwd|group|shadow|gshadow|subuid|subgid)-",  # the copies before the last change
            r"/etc/\.(pwd\.lock|updated)|/var/\.updated",
            r"/etc/ld\.so\.cache",
        )
    )
)
# An administrator's own settings, which tell what this guest does not: its root is an overlay, it has no firmware where
# the machine that it runs on has none, and how busy the processors are says nothing of it.
OWN = "[wire]\ninterval = 7s\n[guest]\nazure = yes\n[mounts]\naccept_crash_consistent = yes\n[pressure]\nenabled = no\n"
Tree = Mapping[str, tuple[object, ...]]


def tree(guest: Guest) -> Tree:
    """Everything on the guest's disks but what is none of ours: kind, mode, owner, and content."""
    found: dict[str, tuple[object, ...]] = {}
    root = str(guest.root)
    for directory, directories, files in os.walk(root):
        inside = directory[len(root) :]
        directories[:] = [name for name in directories if not NOT_OURS.fullmatch(f"{inside}/{name}")]
        for name in directories + files:
            if NOT_OURS.fullmatch(f"{inside}/{name}"):
                continue
            path = Path(directory, name)
            status = path.lstat()
            content: object = None
            if stat.S_ISLNK(status.st_mode):
                content = os.readlink(path)  # noqa: PTH115 - the path, not an object
            elif stat.S_ISREG(status.st_mode):
                content = hashlib.blake2b(path.read_bytes()).hexdigest()
            found[f"{inside}/{name}"] = (status.st_mode, status.st_uid, status.st_gid, content)
    return found


def difference(before: Tree, after: Tree) -> dict[str, str]:
    """Which paths are there no more, are new, or are not as they were."""
    return {
        path: "gone" if path not in after else "new" if path not in before else "changed"
        for path in sorted(set(before) | set(after))
        if before.get(path) != after.get(path)
    }


def commands(heading: str) -> list[list[str]]:
    """The commands of a section of the README, in their order, as root runs them."""
    section = (SOURCE / "README.md").read_text().split(f"\n### {heading}\n")[1].split("\n#")[0]
    lines = [line for block in re.findall(r"```sh\n(.*?)```", section, re.DOTALL) for line in block.splitlines()]
    assert lines
    return [[word for word in shlex.split(line, comments=True) if word != "sudo"] for line in lines]


class Package:
    """The package of one kind in a guest of its own."""

    def __init__(self, guest: Guest) -> None:
        self.guest = guest
        guest.write("/etc/apt/apt.conf.d/90yes", 'APT::Get::Assume-Yes "true";\n')

    def run(self, command: list[str], package: Path) -> None:
        """A command of the README, whose file name is that of the package that was built."""
        words = [re.sub(r"^(\./)?backupready[-_]\S+\.(deb|rpm)$", str(package), word) for word in command]
        done = self.guest.run("sh", "-c", f"cd /root && {shlex.join(words)}", timeout=180, check=False)
        assert done.returncode == 0, f"{shlex.join(words)}: {done.stdout}{done.stderr}"

    def served(self, verdict: str = "") -> dict[str, object]:
        """What the daemon serves once it has looked, and gives this verdict, or any that is known."""
        for unit in UNITS:
            assert self.guest.run("systemctl", "is-active", unit, check=False).stdout.strip() == "active", unit
            assert self.guest.run("systemctl", "is-enabled", unit, check=False).stdout.strip() == "enabled", unit

        def looked() -> dict[str, object] | None:
            done = self.guest.run(BACKUPREADY, "status", "--json", check=False)
            if not done.stdout:
                return None
            document: dict[str, object] = json.loads(done.stdout)
            probes = document["probes"]
            assert isinstance(probes, list)
            # Without an agent the probe of its unit has nothing to look at, and says so.
            told = [probe["state"] == "ok" or "there is no unit" in (probe["why"] or "") for probe in probes]
            right = document["verdict"] == verdict if verdict else document["verdict"] != "unknown"
            return document if all(told) and right else None

        return self.guest.wait_for("every probe to have looked", looked, 120)

    def reasons(self) -> list[str]:
        """The problems that the daemon gives as reasons."""
        document = json.loads(self.guest.run(BACKUPREADY, "status", "--json", check=False).stdout)
        return [reason["problem"] for reason in document["reasons"]]

    def starts(self) -> int:
        """How often the service manager has started the daemon."""
        return self.guest.journal("backupready.service").count("Started ")

    def quiet(self) -> None:
        """The service manager had nothing to say of our units' text."""
        journal = self.guest.run("journalctl", "--quiet", "--boot", "--output=cat", "_PID=1").stdout
        said = re.findall(r".*(?:backupready\S*:\d+: |Unknown (?:key|lvalue)|Invalid syntax).*", journal)
        assert [line for line in said if "backupready" in line] == []

    def gone(self) -> None:
        """Nothing of it runs, and nobody knows it."""
        for unit in UNITS:
            assert self.guest.run("systemctl", "is-active", unit, check=False).returncode != 0
        assert self.guest.run("pgrep", "-f", "[b]ackupready (run|look)", check=False).stdout == ""
        assert not self.guest.exists("/run/backupready")


@pytest.fixture
def fresh(lab: None) -> Iterator[Package]:
    """A guest without the package, whose agent is ready."""
    with Guest() as guest:
        guest.wait_agent_ready()
        yield Package(guest)


def kept(document: Mapping[str, object]) -> object:
    """Since when the verdict and each reason and notice hold."""
    reasons = [*document["reasons"], *document["notices"]]  # type: ignore[misc]
    return document["verdict"], document["since"], [(r["problem"], r["since"]) for r in reasons]


def upgrade_keeps_everything(package: Package, install: list[str], older: Path, newer: Path) -> None:
    """From an installed older version to the newer: one restart, the same configuration, the same since-when."""
    guest = package.guest
    package.run(install, older)
    guest.write("/etc/backupready/conf.d/10-own.conf", OWN)
    guest.run("systemctl", "reload", "backupready.service")
    main = guest.read("/etc/backupready/backupready.conf") + "# edited\n"
    guest.write("/etc/backupready/backupready.conf", main)
    before = package.served("ready")
    assert f"backupready {OLDER}" in guest.run(BACKUPREADY, "--version").stdout
    time.sleep(1.1)  # so that another since would be seen
    starts = package.starts()
    package.run([word.replace("-i", "-U") for word in install], newer)
    after = package.served("ready")
    assert package.starts() == starts + 1
    assert OLDER not in guest.run(BACKUPREADY, "--version").stdout
    assert (guest.read("/etc/backupready/backupready.conf"), guest.read("/etc/backupready/conf.d/10-own.conf")) == (
        main,
        OWN,
    )
    assert kept(after) == kept(before)


def test_deb(fresh: Package, deb: Path, older_deb: Path) -> None:
    """Installed by the README's command it runs and serves; upgraded it has forgotten nothing; removed it has stopped;
    purged it has left nothing."""
    guest = fresh.guest
    before = tree(guest)
    old, new = (Path(guest.take(file)) for file in (older_deb, deb))
    ((*install,), *asks) = commands("Debian and Ubuntu")
    remove, purge = commands("Remove")[:2]
    upgrade_keeps_everything(fresh, install, old, new)
    for ask in asks:
        assert "READY" in guest.run(*ask, check=False).stdout
    fresh.quiet()
    # What a later version has written is not misread, and not lost.
    guest.run("systemctl", "stop", "backupready.service")
    guest.write("/var/lib/backupready/state.json", '{"schema": 99}')
    guest.run("systemctl", "start", "backupready.service")
    fresh.served()
    (aside,) = guest.path("/var/lib/backupready").glob("state.json.schema-99.*")
    assert aside.read_text() == '{"schema": 99}'
    assert "a newer version wrote it" in guest.journal("backupready.service")
    explained = guest.run("journalctl", "--quiet", "--catalog", "--unit=backupready.service").stdout
    assert "Defined-By: backupready" in explained

    fresh.run(remove, new)
    fresh.gone()
    assert guest.exists("/etc/backupready/conf.d/10-own.conf")
    assert guest.exists("/var/lib/backupready/state.json")
    assert not guest.exists(BACKUPREADY)
    fresh.run(install, new)  # and back again, as it was configured
    assert guest.read("/etc/backupready/conf.d/10-own.conf") == OWN
    fresh.served()
    fresh.run(remove, new)
    fresh.run(purge, new)
    fresh.gone()
    assert difference(before, tree(guest)) == {}


def test_rpm(fresh: Package, rpm: Path, older_rpm: Path) -> None:
    """The same by rpm, on the system's own Python; erased it has left nothing but what was edited."""
    guest = fresh.guest
    guest.run("rpm", "--initdb", check=False)
    before = tree(guest)
    old, new = (Path(guest.take(file)) for file in (older_rpm, rpm))
    install, *asks = commands("RHEL, SLES and their like")
    assert install[:2] == ["rpm", "-i"]
    # --nodeps, since the guest's own packages are debs.
    upgrade_keeps_everything(fresh, ["rpm", "-i", "--nodeps", install[2]], old, new)
    for ask in asks:
        assert "READY" in guest.run(*ask, check=False).stdout
    fresh.quiet()
    # Its own libraries, compiled: the services could not write that, and every look would compile anew.
    command = guest.run("pgrep", "-af", "backupready run").stdout
    assert "python3 -I /usr/lib64/backupready run" in command
    loaded = guest.run("python3", "-I", "-v", "/usr/lib64/backupready", "check", check=False).stderr
    for library in ("psutil", "requests", "tenacity"):
        assert f"matches /usr/lib64/backupready/{library}/__init__.py" in loaded
        assert f"dist-packages/{library}/" not in loaded
    assert list(guest.path("/usr/lib64/backupready/backupready").glob("__pycache__/cli.*.pyc"))
    assert guest.run(BACKUPREADY, "check", "--json", check=False).returncode == 0
    guest.run("rpm", "-e", "--nodeps", "backupready")
    fresh.gone()
    left = difference(before, tree(guest))
    edited = {"/etc/backupready", "/etc/backupready/backupready.conf.rpmsave"}
    edited |= {"/etc/backupready/conf.d", "/etc/backupready/conf.d/10-own.conf"}
    files = ("", "/state.json", "/history.sqlite", "/history.sqlite-journal")
    state = {f"/var/lib/backupready{name}" for name in files}
    user = {f"/etc/{name}" for name in ("passwd", "group", "shadow", "gshadow")}
    theirs = {"/usr/share/licenses"}  # of an rpm system's own `filesystem` package
    assert set(left) - theirs == edited | state | user


@pytest.mark.parametrize("release", OTHER_RELEASES, ids=lambda release: str(release.suite))
def test_other_releases(release: Release, lab: None, deb: Path) -> None:
    """The same deb on the other releases, under their own service manager and with their own libraries: it runs, looks
    through both doors, finds that there is no agent, and is gone again."""
    with Guest(release) as guest:
        package = Package(guest)
        before = tree(guest)
        file = Path(guest.take(deb))
        (install, *_), (remove, purge) = commands("Debian and Ubuntu"), commands("Remove")[:2]
        package.run(install, file)
        package.served()
        guest.wait_for("the missing agent to be told", lambda: "AGENT_NOT_INSTALLED" in package.reasons(), 60)
        package.quiet()
        manager = guest.run("systemctl", "--version").stdout.split()[1]
        python = guest.run("python3", "--version").stdout.strip()
        security = guest.run("systemd-analyze", "security", "--no-pager", check=False).stdout
        exposure = re.findall(r"^backupready\.service\s+([\d.]+)", security, re.MULTILINE)
        measured(f"{release.suite}: systemd {manager}, {python}, exposure of the mind {exposure}")
        package.run(remove, file)
        package.run(purge, file)
        package.gone()
        assert difference(before, tree(guest)) == {}


def test_the_agent_is_not_touched(fresh: Package, deb: Path) -> None:
    """Neither installing nor purging restarts the agent or changes its configuration."""
    guest = fresh.guest
    config, pids = guest.read("/etc/waagent.conf"), guest.agent_pids()
    fresh.run(commands("Debian and Ubuntu")[0], Path(guest.take(deb)))
    fresh.served()
    fresh.run(commands("Remove")[1], deb)
    assert (guest.read("/etc/waagent.conf"), guest.agent_pids()) == (config, pids)
    assert guest.run("systemctl", "is-active", AGENT_UNIT).stdout.strip() == "active"
