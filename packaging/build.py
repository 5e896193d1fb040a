#!/usr/bin/env python3
"""How does the working tree become one package, byte for byte the same wherever the same tools build it?"""

# ruff: noqa: T201 (a command line prints)

from __future__ import annotations

import argparse
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from datetime import timezone
from email.utils import parsedate_to_datetime
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[1]
LOCK = Path("packaging/rpm/requirements.lock")
ARCHITECTURES = ("x86_64", "aarch64")

# What is no part of the sources where git cannot tell.
_NO_SOURCE = {".git", ".venv", ".nox", "build", "dist", "__pycache__", ".hypothesis"}
_NO_SOURCE |= {".mypy_cache", ".pytest_cache", ".ruff_cache"}

# Where the version is written: file, and the text around it. The newest entry of the changelog comes first.
VERSIONS: Mapping[str, str] = {
    "pyproject.toml": r'(?m)(^version = ")([^"]+)(")',
    "daemon/backupready/__init__.py": r'(?m)(^__version__ = ")([^"]+)(")',
    "packaging/debian/changelog": r"(\Abackupready \()([^)]+)(\))",
    "packaging/rpm/backupready.spec": r"(?m)(^Version: +)(\S+)($)",
}

# What each kind of package is built with: a command or a file, and the Debian package that has it.
_TOOLS: Mapping[str, Mapping[str, str]] = {
    "deb": {
        "dpkg-buildpackage": "dpkg-dev",
        "dh": "debhelper",
        "dh_python3": "dh-python",
        "/usr/share/doc/pybuild-plugin-pyproject": "pybuild-plugin-pyproject",
        "/usr/share/doc/python3-all": "python3-all",
        "/usr/lib/python3/dist-packages/setuptools": "python3-setuptools",
        "gcc": "build-essential",
    },
    "rpm": {"rpmbuild": "rpm"},
}


class CannotBuild(Exception):
    """What is missing or went wrong, for whoever builds."""


def missing_tools(kind: str) -> list[str]:
    """The Debian packages without which a package of this kind cannot be built here."""
    missing = {package for tool, package in _TOOLS[kind].items() if not shutil.which(tool) and not Path(tool).exists()}
    if kind == "rpm" and importlib.util.find_spec("pip") is None:
        missing.add("python3-pip")
    return sorted(missing)


def _sources(tree: Path) -> Iterator[Path]:
    """The files of the tree that git has or would take, relative to it; without git, all that are not built ones."""
    if (tree / ".git").exists() and shutil.which("git"):
        command = ["git", "-c", f"safe.directory={tree}", "ls-files", "-z", "-c", "-o", "--exclude-standard"]
        listed = subprocess.run(command, cwd=tree, stdout=subprocess.PIPE, check=True).stdout
        names = sorted(set(os.fsdecode(listed).split("\0")) - {""})
        yield from (Path(name) for name in names if (tree / name).is_file())
        return
    for directory, directories, files in os.walk(tree):
        directories[:] = sorted(name for name in set(directories) - _NO_SOURCE if not name.endswith(".egg-info"))
        yield from (Path(directory, name).relative_to(tree) for name in sorted(files))


def copy_tree(tree: Path, target: Path) -> None:
    """Copy the sources, each with the mode that git would give it: 0644 or 0755."""
    for name in _sources(tree):
        copy = target / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(tree / name, copy)
        copy.chmod(0o755 if os.access(tree / name, os.X_OK) and (tree / name).stat().st_mode & 0o111 else 0o644)


def version_of(tree: Path, name: str) -> str:
    """The version as this file of the tree has it."""
    found = re.search(VERSIONS[name], (tree / name).read_text(encoding="utf-8"))
    if found is None:
        raise CannotBuild(f"cannot find the version in {name}")
    return found[2]


def set_version(tree: Path, version: str) -> None:
    """Write another version everywhere, in a copy of the tree."""
    for name, pattern in VERSIONS.items():
        path = tree / name
        if path.exists():
            text = path.read_text(encoding="utf-8")
            path.write_text(re.sub(pattern, rf"\g<1>{version}\g<3>", text, count=1), encoding="utf-8")


def source_date(tree: Path) -> int:
    """The time that everything in the package gets: that of the newest entry of debian/changelog, in seconds."""
    text = (tree / "packaging/debian/changelog").read_text(encoding="utf-8")
    found = re.search(r"(?m)^ -- .+ <.+>  (.+)$", text)
    if found is None:
        raise CannotBuild("cannot find the date in packaging/debian/changelog")
    return int(parsedate_to_datetime(found[1]).astimezone(timezone.utc).timestamp())


def _environment(date: int, home: Path) -> dict[str, str]:
    """All that a build may see of whoever starts it: nothing but where programs are."""
    return {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": str(home),
        "LC_ALL": "C.UTF-8",
        "TZ": "UTC",
        "SOURCE_DATE_EPOCH": str(date),
        "PYTHONHASHSEED": "0",
    }


def _run(command: Sequence[str], directory: Path, environment: Mapping[str, str]) -> None:
    done = subprocess.run(
        command, cwd=directory, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    if done.returncode:
        output = done.stdout.decode(errors="replace")
        raise CannotBuild(f"{output}\n{command[0]} ended with status {done.returncode}")


def build_deb(tree: Path, work: Path, environment: Mapping[str, str]) -> list[Path]:
    """Build in a copy of the tree."""
    (tree / "packaging/debian").rename(tree / "debian")
    _run(["dpkg-buildpackage", "--build=binary", "--no-sign"], tree, environment)
    return sorted(work.glob("*.deb"))


def download_wheels(tree: Path, architecture: str, target: Path) -> None:
    """Fetch the libraries that the rpm carries, and nothing but what the lock has."""
    fetch = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "download"]
    exactly = ["--require-hashes", "--only-binary=:all:", "--no-deps", "--requirement", str(tree / LOCK)]
    wanted = ["--python-version", "3.9", "--implementation", "cp", "--abi", "abi3"]
    for oldest in ("manylinux_2_28", "manylinux_2_17", "manylinux2014"):
        wanted += ["--platform", f"{oldest}_{architecture}"]
    _run([*fetch, *exactly, *wanted, "--dest", str(target)], tree, os.environ)


def _pack(tree: Path, name: str, archive: Path) -> None:
    """The sources as rpmbuild takes them. Nobody keeps the archive: what is packed is given its date in the spec."""
    with tarfile.open(archive, "w:gz") as packed:
        packed.add(tree, name)


def build_rpm(tree: Path, work: Path, environment: Mapping[str, str], architecture: str) -> list[Path]:
    """Build from a copy of the tree; offline, but for the locked wheels."""
    top = work / "rpmbuild"
    sources = top / "SOURCES"
    sources.mkdir(parents=True)
    name = f"backupready-{version_of(tree, 'packaging/rpm/backupready.spec')}"
    _pack(tree, name, sources / f"{name}.tar.gz")
    download_wheels(tree, architecture, sources)
    spec = str(tree / "packaging/rpm/backupready.spec")
    _run(
        ["rpmbuild", "-bb", "--define", f"_topdir {top}", "--target", f"{architecture}-linux", spec], work, environment
    )
    return sorted(top.glob("RPMS/*/*.rpm"))


def build(kind: str, *, version: str | None, output: Path, architecture: str) -> list[Path]:
    """Build the package of a kind from the working tree; its files, as they lie in the output directory."""
    missing = missing_tools(kind)
    if missing:
        install = f"apt-get install --no-install-recommends {' '.join(missing)}"
        raise CannotBuild(f"cannot build the {kind}: as root, {install}")
    os.umask(0o022)
    with tempfile.TemporaryDirectory(prefix="backupready-build-") as scratch:
        work = Path(scratch)
        tree = work / "backupready"
        copy_tree(SOURCE, tree)
        if version is not None:
            set_version(tree, version)
        environment = _environment(source_date(tree), work)
        if kind == "deb":
            built = build_deb(tree, work, environment)
        else:
            built = build_rpm(tree, work, environment, architecture)
        output.mkdir(parents=True, exist_ok=True)
        return [Path(shutil.copyfile(path, output / path.name)) for path in built]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=("deb", "rpm"))
    parser.add_argument("--missing", action="store_true", help="only name the Debian packages that it lacks here")
    parser.add_argument("--version", help="instead of the version in pyproject.toml")
    parser.add_argument(
        "--arch", choices=ARCHITECTURES, default=platform.machine(), help="of the rpm; the deb has none"
    )
    parser.add_argument("--output", type=Path, metavar="DIR", help="instead of build/deb and build/rpm")
    options = parser.parse_args()
    if options.missing:
        print(*missing_tools(options.kind))
        return 0
    output = options.output or SOURCE / "build" / options.kind
    try:
        for path in build(options.kind, version=options.version, output=output, architecture=options.arch):
            print(path)
    except CannotBuild as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
