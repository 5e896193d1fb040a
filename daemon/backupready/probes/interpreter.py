"""Will the VMSnapshot extension find a Python that it can run on, and the programs that it calls?"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from backupready import vmsnapshot, waagent
from backupready.model import (
    Absent,
    Access,
    CannotTell,
    Cause,
    Effect,
    Finding,
    Machine,
    Observation,
    Probe,
    Problem,
    Settings,
    is_file,
)
from backupready.waagent import HandlerDirectory

_SOURCE = "https://github.com/Azure/azure-linux-extensions/tree/master/VMBackup"
# The PATH that a service has, and so the agent and its extensions.
_PATH = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")
_TOOLS = ("openssl", "lsblk", "mount", "df")
_TIMEOUT = 4.0  # s for the start of an interpreter and three imports
_MOST_TRIED = 4  # interpreters that are started in one look
# e_machine of ELF, by what uname says; the extension takes everything else for x86_64 (VMBackup/main/fsfreezer.py).
_ELF_MACHINES = {"x86_64": 62, "aarch64": 183}

PROBLEMS = (
    Problem(
        "INTERPRETER_MISSING",
        "The VMSnapshot extension finds no Python",
        Effect.BLOCKS,
        Cause.EXTENSION,
        meaning="None of the interpreters that the extension's handle.sh looks for is there; it ends with 3, and its"
        " shell.log says `python version unknown`.",
        diagnosis="`ls -l /usr/bin/python* /usr/local/bin/python*`;"
        " `tail /var/log/azure/Microsoft.Azure.RecoveryServices.VMSnapshotLinux/shell.log`",
        fix="Install the distribution's python3 package, so that there is a /usr/bin/python3.",
        source="https://github.com/Azure/azure-linux-extensions/issues/946",
        explains=("INTERPRETER_INCOMPATIBLE", "EXTENSION_NOT_READY"),
        sightings=2,
        apart=timedelta(seconds=5),
        patience="an upgrade of the package replaces the program",
    ),
    Problem(
        "INTERPRETER_INCOMPATIBLE",
        "The VMSnapshot extension cannot run on any Python here",
        Effect.BLOCKS,
        Cause.EXTENSION,
        meaning="This version of the extension imports modules that newer versions of Python have removed (imp and"
        " distutils in 3.12, crypt in 3.13), and none of the interpreters that handle.sh tries has them.",
        diagnosis="`python3 --version`; `python3 -c 'import imp, distutils.version, crypt'`;"
        " `tail /var/log/azure/Microsoft.Azure.RecoveryServices.VMSnapshotLinux/shell.log`",
        fix="Let the extension update itself (from 1.0.9220.0 on it does without imp), or install an older Python"
        " beside; for distutils, the distribution's setuptools package.",
        source="https://github.com/Azure/azure-linux-extensions/issues/1922",
        explains=("EXTENSION_NOT_READY",),
        sightings=2,
        apart=timedelta(seconds=5),
        patience="an upgrade of the package replaces the modules",
    ),
    Problem(
        "EXTENSION_TOOL_MISSING",
        "A program that the VMSnapshot extension calls cannot be run",
        Effect.BLOCKS,
        Cause.EXTENSION,
        meaning="The extension decrypts its settings with openssl, finds the disks with lsblk, mount and df, and"
        " freezes with a safefreeze of its own: one is not there, not executable, or made for another processor.",
        diagnosis="`command -v openssl lsblk mount df`; `ls -l /var/lib/waagent/"
        "Microsoft.Azure.RecoveryServices.VMSnapshotLinux-*/main/safefreeze*/bin/`",
        fix="Install the package (openssl; util-linux for lsblk and mount; coreutils for df). Where safefreeze is gone,"
        " let the agent unpack the extension again, and look at what removes it (a virus scanner).",
        source=_SOURCE,
        sightings=2,
        apart=timedelta(seconds=5),
        patience="an upgrade of a package replaces the program",
    ),
)


def look(machine: Machine, settings: Settings) -> Iterator[Observation]:
    """Replay handle.sh's choice for the version of the extension that counts. Without one nothing is needed."""
    try:
        directory = waagent.current_directory(machine, waagent.VMSNAPSHOT)
    except Absent:
        return
    if directory is None:
        return
    try:
        yield from _interpreters(machine, directory)
    except (Absent, CannotTell) as error:
        yield CannotTell(f"cannot try the interpreters: {error}", ("INTERPRETER_MISSING", "INTERPRETER_INCOMPATIBLE"))
    yield from _tools(machine)
    try:
        yield from _safefreeze(machine, directory)
    except (Absent, CannotTell) as error:
        yield CannotTell(f"cannot examine safefreeze: {error}", ("EXTENSION_TOOL_MISSING",))


def _interpreters(machine: Machine, directory: HandlerDirectory) -> Iterator[Observation]:
    paths = [path for path in vmsnapshot.INTERPRETERS if is_file(machine, path)]
    # Of each name the one in /usr/bin hides the one in /usr/local/bin.
    paths = [p for p in paths if not (p.startswith("/usr/local/") and p.replace("/local", "", 1) in paths)]
    paths += [path for path in (f"{place}/python" for place in _PATH) if is_file(machine, path)][:1]
    if not paths:
        paths = _of_the_agent(machine)
    if not paths:
        yield Finding("INTERPRETER_MISSING", evidence={"extension": directory.version})
        return
    needed, doubtful = _modules(machine, directory)
    if not (needed or doubtful):
        return
    unsure = ""
    lacking: dict[str, str] = {}
    for path in list(dict.fromkeys(paths))[:_MOST_TRIED]:
        try:
            ran = machine.run((path, "-B", "-c", _ASK, *needed, *doubtful), _TIMEOUT)
        except Absent:
            continue
        except CannotTell as error:
            # One that does not come back holds handle.sh up as well.
            yield CannotTell(error.why, ("INTERPRETER_INCOMPATIBLE",))
            return
        missing = ran.output.decode("ascii", "replace").split()
        if ran.status != 0 or missing[-1:] != ["asked"]:
            unsure = f"{path} ends with {ran.status}: {ran.errors[:120]}"
        elif not missing[:-1]:
            return
        elif not set(missing) & set(needed):
            unsure = f"{path} lacks {' '.join(missing[:-1])}, and it is not known whether this version needs it"
        else:
            lacking[path] = " ".join(name for name in missing if name in needed)
    if unsure or not lacking or len(paths) > _MOST_TRIED:
        yield CannotTell(unsure or "the interpreters cannot all be tried", ("INTERPRETER_INCOMPATIBLE",))
        return
    path, names = next(iter(lacking.items()))
    evidence = {"extension": directory.version, "interpreter": path, "lacks": names, "tried": " ".join(lacking)}
    yield Finding("INTERPRETER_INCOMPATIBLE", evidence=evidence)


# Which of the modules named cannot be imported; also for Python 2.
_ASK = """
import sys
for name in sys.argv[1:]:
    try:
        __import__(name)
    except ImportError:
        print(name)
print("asked")
"""


def _of_the_agent(machine: Machine) -> list[str]:
    """The last resort of handle.sh: what the running agent runs on. While it is down, what it will run on."""
    daemon = waagent.agent_processes(machine.processes()).daemon
    program = daemon.argv[0] if daemon is not None else _first_word(machine)
    if program.startswith("/") and "python" in program and is_file(machine, program):
        return [program]
    return []


def _first_word(machine: Machine) -> str:
    """The interpreter in the first line of the agent's program: /usr/libexec/platform-python on RHEL 8."""
    for path in waagent.BINARIES:
        try:
            line = machine.read(path).partition(b"\n")[0]
        except Absent:
            continue
        words = line[2:].decode("utf-8", "replace").split() if line.startswith(b"#!") else []
        return words[0] if words else ""
    return ""


def _modules(machine: Machine, directory: HandlerDirectory) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The modules that this version of the extension needs for sure, and those that it may need."""
    try:
        library = machine.read(f"{directory.path}/main/WaagentLib.py")
        loader = machine.read(f"{directory.path}/main/Utils/WAAgentUtil.py")
    except (Absent, CannotTell):
        old = waagent.version_of(directory.version) < vmsnapshot.WITHOUT_IMP
        return (("imp",) if old else ()), ("distutils.version", "crypt")
    return vmsnapshot.removed_modules(library, loader), ()


def _tools(machine: Machine) -> Iterator[Observation]:
    for tool in _TOOLS:
        try:
            if not any(is_file(machine, f"{place}/{tool}") for place in _PATH):
                yield Finding("EXTENSION_TOOL_MISSING", key=tool, evidence={"program": tool, "why": "missing"})
        except CannotTell as error:
            yield CannotTell(error.why, ("EXTENSION_TOOL_MISSING",))


def _safefreeze(machine: Machine, directory: HandlerDirectory) -> Iterator[Observation]:
    """The freezing program that comes with the extension, if the extension is unpacked at all."""
    if not is_file(machine, f"{directory.path}/main/handle.py"):
        return
    processor = machine.kernel().machine
    arm = processor.startswith(("aarch64", "arm64"))
    path = f"{directory.path}/main/{'safefreezeArm64' if arm else 'safefreeze'}/bin/safefreeze"
    try:
        mode = machine.status(path).mode
        header = machine.read(path, 8 << 20)[:20]
    except Absent:
        yield Finding("EXTENSION_TOOL_MISSING", key="safefreeze", evidence={"program": path, "why": "missing"})
        return
    made_for = int.from_bytes(header[18:20], "little")
    if not mode & 0o111:
        why = f"not executable, its mode is {mode & 0o7777:o}"
    elif len(header) < 20 or header[:4] != b"\x7fELF":
        why = "no program"
    elif processor in _ELF_MACHINES and made_for != _ELF_MACHINES[processor]:
        why = f"made for the processor {made_for} of ELF, and this is {processor}"
    else:
        return
    yield Finding("EXTENSION_TOOL_MISSING", key="safefreeze", evidence={"program": path, "why": why})


PROBE = Probe(
    name="interpreter",
    question="Will the VMSnapshot extension find a Python that it can run on, and the programs that it calls?",
    access=Access.ROOT,
    problems=PROBLEMS,
    look=look,
    budget=timedelta(seconds=20),
    interval=timedelta(minutes=30),
)
