"""What do the VMSnapshot extension's own files say? Their places and formats.

Pure functions over bytes, and a few that fetch those bytes through a Machine. Whatever the bytes are, the only
exceptions are Absent and CannotTell.
"""

from __future__ import annotations

import configparser
import contextlib
import enum
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from backupready import waagent
from backupready.model import Absent, CannotTell, Happened, Machine, Process, Run

LOG = f"{waagent.EXTENSION_LOGS}/{waagent.VMSNAPSHOT}/extension.log"

BACKUP_CONFIG = "/etc/azure/vmbackup.conf"
# Held during a freeze, by Site Recovery's extension as well.
FREEZE_LOCK = "/etc/azure/MicrosoftRecoverySvcsSafeFreezeLock/SafeFreezeLockFile"
SNAPSHOT_METHODS = ("onlyGuest", "firstGuestThenHost", "firstHostThenGuest", "onlyHost")
DEFAULT_SNAPSHOT_METHOD = "firstHostThenGuest"


def backup_config(machine: Machine) -> Mapping[str, str]:
    """The [SnapshotThread] of vmbackup.conf, key in small letters → text; empty where there is no such file or section,
    or the extension cannot parse it. Raises CannotTell."""
    try:
        data = machine.read(BACKUP_CONFIG)
    except Absent:
        return {}
    return effective_config(data)[0].get("SnapshotThread", {})


def effective_config(data: bytes) -> tuple[Mapping[str, Mapping[str, str]], str]:
    """What the extension makes of vmbackup.conf under Python 3: section → key in small letters → text, and why all of
    it is lost, if it is. A value that it cannot expand is left out, as it then takes its default."""
    sections, why = parse_sections(data)
    found: dict[str, dict[str, str]] = {}
    for section, values in sections.items():
        texts = {key: expanded(values, key) for key in values}
        found[section] = {key: text for key, text in texts.items() if text is not None}
    return found, why


def parse_sections(data: bytes) -> tuple[Mapping[str, Mapping[str, str]], str]:
    """A file of the extension's as its configparser reads it, before a `%` is expanded: section → key in small letters
    → text, and why all of it is lost, if it is."""
    parser = configparser.RawConfigParser()
    try:
        parser.read_string(data.decode("utf-8"))
    except (configparser.Error, UnicodeDecodeError) as error:
        return {}, " ".join(str(error).split())
    return {section: dict(parser.items(section)) for section in parser.sections()}, ""


_REFERENCE = re.compile(r"%(?:(%)|\(([^)]+)\)s)")
_DEEPEST = configparser.MAX_INTERPOLATION_DEPTH
# configparser has no such bounds: a file of some hundred bytes can take it minutes.
_MOST_REFERENCES = 1000
_MOST_EXPANDED_TEXT = 1 << 16  # characters


def expanded(values: Mapping[str, str], key: str) -> str | None:
    """A value with its `%(name)s` replaced as configparser does it; None where it cannot be."""
    budget = _MOST_REFERENCES
    length = 0

    def expand(text: str, depth: int) -> str:
        nonlocal budget, length
        if depth > _DEEPEST:
            raise ValueError("too deep")
        pieces: list[str] = []
        at = 0
        while (start := text.find("%", at)) >= 0:
            match = _REFERENCE.match(text, start)
            budget -= 1
            if match is None or budget < 0:
                raise ValueError("no reference, or too many of them")
            pieces.append(text[at:start])
            inner = "" if match.group(1) else values[match.group(2).lower()]
            pieces.append("%" if match.group(1) else expand(inner, depth + 1) if "%" in inner else inner)
            length += len(inner)
            if length > _MOST_EXPANDED_TEXT:
                raise ValueError("too long")
            at = match.end()
        return "".join([*pieces, text[at:]])

    try:
        return expand(values[key], 1)
    except (KeyError, ValueError):
        return None


def mounts_to_skip(config: Mapping[str, str]) -> tuple[str, ...]:
    """The entries of MountsToSkip as the extension compares them: blanks inside the list belong to them."""
    text = config.get("mountstoskip", "")
    return tuple(text.split(",")) if text else ()


@dataclass(frozen=True)
class ExtensionView:
    """waagent.conf as the extension reads it: what it has read until `broken`, the number and text of the line at which
    it gives the whole file up, or None."""

    values: Mapping[str, str | None] = field(default_factory=dict)
    broken: tuple[int, str] | None = None


def extension_view(data: bytes) -> ExtensionView:
    """Replay the extension's own parser over the agent's configuration.

    It takes of every line with a `=`, unless `#` is its first character, the first word, and of that what stands
    between the first and the second `=`. A first word without `=` is an error that loses it everything.
    """
    values: dict[str, str | None] = {}
    for number, line in enumerate(data.decode("utf-8", "replace").split("\n"), 1):
        if line.startswith("#") or "=" not in line:
            continue
        parts = line.split()[0].split("=")
        if len(parts) < 2:
            return ExtensionView(values, (number, line.strip()))
        value = parts[1].strip('" ')
        values[parts[0]] = value if value != "None" else None
    return ExtensionView(values)


# The interpreters of handle.sh in its order; each that fails is followed by the next.
INTERPRETERS = tuple(
    f"{place}/{name}"
    for name in (
        "python3.8", "python3.7", "python3.6", "python3.5", "python3.4", "python3.3", "python3",
        "python2.7", "python2.6", "python2", "python",
    )
    for place in ("/usr/bin", "/usr/local/bin")
)  # fmt: skip
WITHOUT_IMP = (1, 0, 9220, 0)  # the first version that loads its library without the module imp
# At the beginning of a line, outside of any try, an import must succeed.
_REMOVED = re.compile(rb"(?m)^(?:import|from)[ \t]+(crypt|distutils\.version|imp)\b")


def removed_modules(library: bytes, loader: bytes) -> tuple[str, ...]:
    """The modules, gone from newer versions of Python, that the extension cannot do without, by its main/WaagentLib.py
    and main/Utils/WAAgentUtil.py."""
    # The library carries a script for the resource disk in a string, whose import of imp is not its own.
    needed = {match.decode() for match in _REMOVED.findall(library)} - {"imp"}
    if b"imp.load_source" in loader and b"spec_from_file_location" not in loader:
        needed.add("imp")
    return tuple(sorted(needed))


# ---------------------------------------------------------------------------------------------------- its codes


class Health(enum.Enum):
    """The colour that the extension gives a code in its own report (0, 128, 256 there)."""

    GREEN = "green"
    YELLOW = "yellow"
    RED = "red"
    NONE = "none"  # it has none for this code


class Kind(enum.Enum):
    """What a code says of the run that ended with it."""

    SUCCESS = "a snapshot was taken"
    UNDERWAY = "the run has not ended"
    SKIPPED = "there was nothing to do"
    FAILURE = "no snapshot was taken"
    ELSEWHERE = "no snapshot was taken, through nothing on this machine"


@dataclass(frozen=True)
class Code:
    """A code of the extension. `portal` are the names under which the platform shows it where that is documented,
    `points` the problems of ours that would be its cause."""

    number: int
    name: str
    health: Health
    kind: Kind
    meaning: str
    fix: str
    portal: tuple[str, ...] = ()
    points: tuple[str, ...] = ()


CODES_SOURCE = "https://github.com/Azure/azure-linux-extensions/blob/master/VMBackup/main/ExtensionErrorCodeHelper.py"
SUCCESS_APPLICATION, SUCCESS, UNDERWAY, NO_NETWORK = 0, 1, 4, 76
RESTRICTED_NETWORK = 761
# What the extension notes in place of an HTTP status of the host's backup service.
NO_ANSWER, SERVICE_DOWN, EMPTY_ANSWER, EXCEPTION = 555, 556, 557, 558

_NOTHING = "Nothing is to be done."
_CONSOLE = "Read extension.log below /var/log/azure around that time: what precedes the code says why."
_MODES = "Let root own the file, with mode 600 for configuration and 700 for scripts."


def _script(number: int, name: str, meaning: str, fix: str, points: str = "", portal: str = "") -> Code:
    """Scripts before and after the snapshot; all of these are yellow."""
    return Code(
        number,
        f"FailedPrepost{name}",
        Health.YELLOW,
        Kind.FAILURE,
        meaning,
        fix,
        (portal,) if portal else (),
        (points,) if points else (),
    )


def _workload(number: int, name: str, meaning: str) -> Code:
    """Databases that the extension itself quiesces, as /etc/azure/workload.conf asks; all of these are yellow."""
    fix = "Check /etc/azure/workload.conf, and the database's log at the time of the run."
    return Code(number, f"FailedWorkload{name}", Health.YELLOW, Kind.FAILURE, meaning, fix)


CODES: Mapping[int, Code] = {
    code.number: code
    for code in (
        Code(0, "success_appconsistent", Health.GREEN, Kind.SUCCESS,
             "An application-consistent snapshot was taken.", _NOTHING),
        Code(1, "success", Health.GREEN, Kind.SUCCESS, "A file-system-consistent snapshot was taken.", _NOTHING),
        Code(2, "error", Health.GREEN, Kind.FAILURE,
             "The run failed, for no reason that has a code of its own. (The extension still calls that green.)",
             _CONSOLE),
        Code(3, "SuccessAlreadyProcessedInput", Health.GREEN, Kind.SKIPPED,
             "This request had been dealt with before.", _NOTHING),
        Code(4, "ExtensionTempTerminalState", Health.GREEN, Kind.UNDERWAY,
             "The run is under way, or died before it could say how it ended.",
             "Wait; after 140 minutes the extension itself gives a request up.",
             ("UserErrorBackupOperationInProgress",), ("EXTENSION_STUCK",)),
        Code(11, "error_parameter", Health.YELLOW, Kind.FAILURE,
             "The request's settings are incomplete or wrong.", "Start a backup anew; a new request is sent then."),
        Code(12, "error_12", Health.GREEN, Kind.FAILURE,
             "A file or program that the extension needs does not exist.", _CONSOLE,
             (), ("EXTENSION_TOOL_MISSING", "EXTENSION_FILES_MISSING")),
        Code(13, "error_wrong_time", Health.NONE, Kind.FAILURE, "The request's time is wrong.",
             "Make sure that the clock of this machine is right.", (), ("CLOCK_SKEWED",)),
        Code(14, "error_same_taskid", Health.NONE, Kind.SKIPPED, "This task had been dealt with before.", _NOTHING),
        Code(15, "error_http_failure", Health.RED, Kind.FAILURE, "An HTTP request failed.",
             "Make sure that 168.63.129.16:80 answers root, and the storage endpoint where the guest takes the"
             " snapshot.", (), ("WIRE_SERVER_UNREACHABLE", "STORAGE_UNREACHABLE")),
        Code(16, "FailedHandlerGuestAgentCertificateNotFound", Health.YELLOW, Kind.FAILURE,
             "The certificate that the request's protected settings are encrypted for is not in /var/lib/waagent.",
             "Restart the agent, which fetches its certificates anew.", (), ("AGENT_CERTIFICATES_FAIL",)),
        Code(17, "FailedInvalidDataDiskLunList", Health.GREEN, Kind.ELSEWHERE,
             "The platform's request excludes disks but names none to include.",
             "Look at the disks that the backup item excludes; the request comes from the platform."),
        Code(76, "FailedRetryableSnapshotFailedNoNetwork", Health.RED, Kind.FAILURE,
             "The snapshot could not be asked for: neither the host's backup service nor the storage took the request."
             " The extension says this of any failure of the request, whatever its cause.",
             "Make sure that 168.63.129.16:80 answers root without a proxy, and that waagent.conf has no blanks"
             " around `=`; enable DHCP in the guest.",
             ("ExtensionSnapshotFailedNoNetwork",),
             ("WIRE_SERVER_UNREACHABLE", "DHCP_NO_ENDPOINT", "CONFIG_BREAKS_EXTENSION", "STORAGE_UNREACHABLE")),
        Code(85, "FailedSnapshotLimitReached", Health.RED, Kind.FAILURE,
             "A disk's blob has as many snapshots as it may have; Site Recovery's count too.",
             "Set isanysnapshotfailed to False in /etc/azure/vmbackup.conf, reschedule Site Recovery, or delete old"
             " snapshots of the blob.", ("ExtensionFailedSnapshotLimitReachedError",)),
        Code(121, "FailedRetryableFsFreezeFailed", Health.YELLOW, Kind.FAILURE,
             "A file system could not be frozen.",
             "extension.log names the mount. Unmount, check and mount it again; or name it in MountsToSkip of"
             " /etc/azure/vmbackup.conf; remove duplicate mounts of one device.", ("UserErrorFsFreezeFailed",),
             ("MOUNT_TWICE", "FILE_SYSTEM_ERRORS", "MOUNT_READ_ONLY", "FREEZE_LOCK_HELD")),
        Code(122, "FailedRetryableFsFreezeTimeout", Health.YELLOW, Kind.FAILURE,
             "Freezing the file systems took longer than it may.",
             "Relieve the disks, or raise SafeFreezeWaitInSeconds (and timeout below it) in"
             " /etc/azure/vmbackup.conf.", ("UserErrorFsFreezeFailed",), ("IO_STALLED", "FREEZE_CONFIG_WRONG")),
        Code(123, "FailedRetryableUnableToOpenMount", Health.YELLOW, Kind.FAILURE, "A mount could not be opened.",
             "extension.log names the mount: make it accessible, or name it in MountsToSkip of"
             " /etc/azure/vmbackup.conf.", ("UserErrorUnableToOpenMount",), ("MOUNT_UNRESPONSIVE",)),
        Code(124, "FailedSafeFreezeBinaryNotFound", Health.YELLOW, Kind.FAILURE,
             "The extension's own freeze binary is missing.",
             "Uninstall the extension in the portal; the next backup installs it anew.",
             (), ("EXTENSION_TOOL_MISSING", "EXTENSION_FILES_MISSING")),
        Code(173, "FailedRetryableSnapshotRateExceeded", Health.GREEN, Kind.ELSEWHERE,
             "The storage takes no more snapshot requests for now; the platform tries again.", _NOTHING),
        _script(300, "PreScriptFailed", "The script before the snapshot failed.",
                "Run it by hand as root, and mend it.", "", "Pre-ScriptExecutionFailed"),
        _script(301, "PostScriptFailed", "The script after the snapshot failed.",
                "Run it by hand as root, and mend it.", "", "Post-ScriptExecutionFailed"),
        _script(302, "PreScriptNotFound", "The script before the snapshot is not where the configuration says.",
                "Correct preScriptLocation in /etc/azure/VMSnapshotScriptPluginConfig.json.",
                "SCRIPT_MISSING", "Pre-ScriptNotFound"),
        _script(303, "PostScriptNotFound", "The script after the snapshot is not where the configuration says.",
                "Correct postScriptLocation in /etc/azure/VMSnapshotScriptPluginConfig.json.",
                "SCRIPT_MISSING", "Post-ScriptNotFound"),
        _script(304, "PluginhostConfigParsing", "VMSnapshotPluginHost.conf cannot be parsed.",
                "Correct it, or take the extension's own instead.", "SCRIPT_CONFIG_INVALID", "IncorrectPluginhostFile"),
        _script(305, "PluginConfigParsing", "VMSnapshotScriptPluginConfig.json cannot be parsed.",
                "Correct it.", "SCRIPT_CONFIG_INVALID", "IncorrectJSONConfigFile"),
        _script(306, "PreScriptPermissionError", "The script before the snapshot has wrong permissions.", _MODES,
                "SCRIPT_PERMISSIONS", "InsufficientPermissionforPre-Script"),
        _script(307, "PostScriptPermissionError", "The script after the snapshot has wrong permissions.", _MODES,
                "SCRIPT_PERMISSIONS", "InsufficientPermissionforPost-Script"),
        _script(308, "PreScriptTimeout", "The script before the snapshot took longer than it may.",
                "Make it faster, or raise timeoutInSeconds.", "SCRIPT_TIMEOUT", "Pre-ScriptTimeout"),
        _script(309, "PostScriptTimeout", "The script after the snapshot took longer than it may.",
                "Make it faster, or raise timeoutInSeconds.", "SCRIPT_TIMEOUT", "Post-ScriptTimeout"),
        _script(310, "PluginhostPreTimeout", "All scripts before the snapshot together took longer than they may.",
                "Make them faster, or raise timeoutInSeconds in VMSnapshotPluginHost.conf.", "SCRIPT_TIMEOUT"),
        _script(311, "PluginhostPostTimeout", "All scripts after the snapshot together took longer than they may.",
                "Make them faster, or raise timeoutInSeconds in VMSnapshotPluginHost.conf.", "SCRIPT_TIMEOUT"),
        _script(312, "CheckSumMismatch", "The plug-in that runs the scripts is not the one that was shipped.",
                "Uninstall the extension in the portal; the next backup installs it anew."),
        _script(313, "PluginhostConfigNotFound", "There is no VMSnapshotPluginHost.conf.",
                "Uninstall the extension in the portal; the next backup installs it anew."),
        _script(314, "PluginhostConfigPermissionError", "VMSnapshotPluginHost.conf has wrong permissions.", _MODES,
                "SCRIPT_PERMISSIONS"),
        _script(315, "PluginhostConfigOwnershipError", "VMSnapshotPluginHost.conf does not belong to root.", _MODES,
                "SCRIPT_PERMISSIONS"),
        _script(316, "PluginConfigNotFound", "There is no VMSnapshotScriptPluginConfig.json.",
                "Put it to /etc/azure if scripts are to run."),
        _script(317, "PluginConfigPermissionError", "VMSnapshotScriptPluginConfig.json has wrong permissions.",
                _MODES, "SCRIPT_PERMISSIONS"),
        _script(318, "PluginConfigOwnershipError", "VMSnapshotScriptPluginConfig.json does not belong to root.",
                _MODES, "SCRIPT_PERMISSIONS"),
        Code(402, "FailedGuestAgentInvokedCommandTooLate", Health.RED, Kind.FAILURE,
             "The agent started the extension more than 140 minutes after the backup had been asked for.",
             "Find out what kept the agent: it hung or was stopped, another extension ran, or the clock is wrong.",
             (), ("AGENT_HUNG", "AGENT_STOPPED", "CLOCK_SKEWED")),
        _workload(500, "PreError", "The database could not be prepared for the snapshot."),
        _workload(501, "ConfParsingError", "/etc/azure/workload.conf cannot be parsed."),
        _workload(502, "InvalidRole", "The database's role is none that can be backed up."),
        _workload(503, "InvalidWorkloadName", "/etc/azure/workload.conf names a database that is not supported."),
        _workload(504, "PostError", "The database could not be set going again after the snapshot."),
        _workload(505, "AuthorizationMissing", "The extension may not log in to the database."),
        _workload(506, "ConnectionError", "The database cannot be reached."),
        _workload(507, "IPCDirectoryMissing", "A directory that the database is spoken to through is missing."),
        _workload(508, "DatabaseStatusChanged", "The database's state changed during the snapshot."),
        _workload(509, "QuiescingError", "The database could not be quiesced."),
        _workload(510, "QuiescingTimeout", "Quiescing the database took longer than it may."),
        _workload(511, "DatabaseInNoArchiveLog", "The database writes no archive log."),
        _workload(512, "LogModeChanged", "The database's log mode changed during the snapshot."),
        Code(NO_ANSWER, "no HTTP answer of the host", Health.NONE, Kind.FAILURE,
             "168.63.129.16:80 gave no HTTP answer to the request for the snapshot. (Noted in the place of an HTTP"
             " status; no code of a run.)", "Make sure that 168.63.129.16:80 answers root without a proxy.",
             ("ExtensionSnapshotFailedNoNetwork",), ("WIRE_SERVER_UNREACHABLE",)),
        Code(SERVICE_DOWN, "FailedHostSnapshotRemoteServerError", Health.NONE, Kind.ELSEWHERE,
             "The backup service of the host failed or does not run.",
             "Nothing on this machine; if it lasts, stop the VM and start it again, which moves it to another host."),
        Code(EMPTY_ANSWER, "empty answer of the host", Health.NONE, Kind.ELSEWHERE,
             "The host's backup service answered with success and nothing in it. (Noted in the place of an HTTP"
             " status; no code of a run.)", "Nothing on this machine; if it lasts, ask Azure's support."),
        Code(EXCEPTION, "exception while asking the host", Health.NONE, Kind.FAILURE,
             "The extension failed while it asked the host. (Noted in the place of an HTTP status; no code of a run.)",
             _CONSOLE),
        Code(RESTRICTED_NETWORK, "FailedRetryableSnapshotFailedRestrictedNetwork", Health.RED, Kind.FAILURE,
             "The storage refused the snapshot, with HTTP 409 or 403, or only some disks' snapshots failed.",
             "Look at the network rules of the storage account and of the disks, and at their encryption.",
             (), ("STORAGE_UNREACHABLE",)),
    )
}  # fmt: skip


@dataclass(frozen=True)
class PortalError:
    """An error as the portal names it: `codes` are the extension's that lie behind it, `points` the problems of ours
    that would be its cause."""

    name: str
    meaning: str
    fix: str
    codes: tuple[int, ...] = ()
    points: tuple[str, ...] = ()


PORTAL_SOURCE = "https://learn.microsoft.com/azure/backup/backup-azure-vms-troubleshoot"
_AGENT_POINTS = ("AGENT_STOPPED", "AGENT_NOT_INSTALLED", "AGENT_HUNG", "AGENT_WORKER_MISSING", "AGENT_SWITCHED_OFF")
_RESTART = "Restart the agent, or update it from the distribution's repository."


def _outside(name: str, meaning: str) -> PortalError:
    return PortalError(name, f"{meaning} Nothing in the guest shows it.", "Read the job's details in the portal.")


def _of_code(number: int) -> Iterator[PortalError]:
    code = CODES[number]
    for name in code.portal:
        yield PortalError(name, code.meaning, code.fix, (number,), code.points)


PORTAL_ERRORS: Mapping[str, PortalError] = {
    error.name.lower(): error
    for error in (
        *(error for number in CODES if number not in (122, NO_ANSWER) for error in _of_code(number)),
        PortalError("UserErrorFsFreezeFailed", "A file system could not be frozen, or not in time.", CODES[121].fix,
                    (121, 122), tuple(dict.fromkeys(CODES[121].points + CODES[122].points))),
        PortalError("UserErrorGuestAgentStatusUnavailable",
                    "The platform has no report of the agent: it is stopped, outdated, or not installed.", _RESTART,
                    (), (*_AGENT_POINTS, "AGENT_STATUS_NOT_UPLOADED")),
        PortalError("GuestAgentSnapshotTaskStatusError",
                    "The agent is out of date, the snapshot cannot be taken, or the agent's configuration or an access"
                    " control is in the way.", f"{_RESTART} Set Extensions.Enabled=y in waagent.conf.",
                    (), ("AGENT_UNSUPPORTED", "EXTENSIONS_SWITCHED_OFF", "ACCESS_CONTROL_DENIES")),
        PortalError("UserErrorVmProvisioningStateFailed", "Some extension of this machine has failed.",
                    "Repair or uninstall that extension.", (), ("OTHER_EXTENSION_FAILED",)),
        *(PortalError(name, "The agent does not respond or is out of date, or the snapshot cannot be taken.", _RESTART,
                      (), (*_AGENT_POINTS, "WIRE_SERVER_UNREACHABLE"))
          for name in ("ExtensionOperationFailedForManagedDisks", "BackUpOperationFailed", "BackUpOperationFailedV2",
                       "VMRestorePointInternalError", "VMRestorePointClientError",
                       "VMAgentStatusCommunicationError")),
        *(PortalError(name, "The machine is in no state to be backed up: its state, SELinux, or the agent's absence.",
                      "Exclude /var/lib/waagent from the policy; make sure that the agent runs.",
                      (), ("ACCESS_CONTROL_DENIES", "AGENT_NOT_INSTALLED"))
          for name in ("UserErrorVmNotInDesirableState", "VmNotInDesirableState")),
        PortalError("ExtensionStuckInDeletionState", "The extension is half deleted.",
                    "Uninstall the extension in the portal and try again.", (), ("EXTENSION_STATE_WRONG",)),
        PortalError("ExtensionFailedTimeoutVMNetworkUnresponsive", "Too few resources, or slow network calls.",
                    "Back up at another time, or give the machine more resources.",
                    (), ("WIRE_SERVER_SLOW", "CPU_SATURATED", "MEMORY_EXHAUSTED", "IO_STALLED")),
        PortalError("AzureVmOffline", "The agent is not installed, or the platform does not know that it is.",
                    "Install the agent.", (), ("AGENT_NOT_INSTALLED",)),
        PortalError("380008", "AzureVmOffline: the agent is not installed, or the platform does not know that it is.",
                    "Install the agent.", (), ("AGENT_NOT_INSTALLED",)),
        PortalError("UserErrorCrpReportedUserError", "The machine itself reported an error; the job's details say"
                    " which.", "Read the job's details; they hold one of the other names or codes."),
        _outside("RpCollectionLimitReached", "The collection of restore points is full, or locked."),
        _outside("KeyvaultPermissionsNotConfigured", "The vault may not read the disks' keys."),
        _outside("UnsupportedDiskSize", "A disk is larger than can be backed up."),
        _outside("RequestDisallowedByPolicy", "An Azure policy forbids it."),
        _outside("ResourceNotFound", "The machine or one of its resources is not where the vault looks for it."),
        _outside("BcmDatasourceNotPresent", "The vault does not know this machine any more."),
    )
}  # fmt: skip


def portal_error(name: str) -> PortalError | None:
    """By the portal's name, in any case, with or without its usual `UserError`."""
    word = name.lower()
    short = word[len("usererror") :] if word.startswith("usererror") else word
    return next((PORTAL_ERRORS[key] for key in (word, short, f"usererror{short}") if key in PORTAL_ERRORS), None)


# ------------------------------------------------------------------------------------------------------- its runs


@dataclass(frozen=True)
class Outcome:
    """How one run of the extension ended, or that it has not. Times are seconds since the epoch.

    `code` is what it reports to the platform; `health` the code beside it that is more precise in some cases.
    `consistency` is application, file_system, crash or none, `path` who took the snapshot: host, guest or nobody known.
    `host` are the host's and the storage's answers other than success, `trouble` what else the log says of that run.
    """

    code: int
    time: float
    sequence: int | None = None
    started: float | None = None
    requested: float | None = None
    health: int | None = None
    consistency: str = "none"
    path: str = ""
    task: str = ""
    message: str = ""
    host: tuple[int, ...] = ()
    trouble: tuple[str, ...] = ()
    source: str = ""

    @property
    def kind(self) -> Kind:
        """A code that is not in the table is a failure: those of success are all known."""
        return CODES[self.code].kind if self.code in CODES else Kind.FAILURE

    @property
    def duration(self) -> float | None:
        """Seconds of the run, or from its request where its start is not on record; None where neither is."""
        begin = self.started if self.started is not None else self.requested
        if begin is None or self.kind is Kind.UNDERWAY or not 0 <= self.time - begin <= _LONGEST_RUN:
            return None
        return self.time - begin

    @property
    def run(self) -> Run | None:
        """What the record keeps of it; None of a run that has not ended, or had nothing to do."""
        happened = _HAPPENED[self.kind]
        if happened is None:
            return None
        if happened is Happened.SUCCEEDED and self.consistency == "crash":
            happened = Happened.CRASH_CONSISTENT
        duration = self.duration
        return Run(self.time, self.code, happened, None if duration is None else self.time - duration, self.path)


_HAPPENED = {
    Kind.SUCCESS: Happened.SUCCEEDED,
    Kind.FAILURE: Happened.FAILED,
    Kind.ELSEWHERE: Happened.FAILED_ELSEWHERE,
    Kind.UNDERWAY: None,
    Kind.SKIPPED: None,
}
_LONGEST_RUN = 86400.0  # s; what is longer is a clock that was wrong
_TICKS_PER_SECOND = 10_000_000
_TICKS_OF_EPOCH = 621_355_968_000_000_000  # .NET counts from the year 1
_DATE = re.compile(r"\\?/Date\((\d{1,15})\)\\?/")
_TELEMETRY = re.compile(r"\b(snapshotCreator|hostStatusCodePreSnapshot|hostStatusCodeDoSnapshot)=(\w{1,40})")
_CREATORS = {"backupHostService": "host", "guestExtension": "guest"}
_HOST_ANSWERS = 8  # of one run are kept
_SECRET = re.compile(r"(https?://[^\s?\"']{1,300})\?[^\s\"']*|\b(sig|token|password)=[^\s&,]+", re.IGNORECASE)
_MOST_TEXT = 500  # characters


def clean(text: str) -> str:
    """One line, without the query of an address, which may be a signature."""
    kept = _SECRET.sub(lambda found: f"{found.group(1)}?…" if found.group(1) else f"{found.group(2)}=…", text[:4000])
    return " ".join(kept.split())[:_MOST_TEXT]


def _number(value: object) -> int | None:
    """A number of the extension's, which writes most of them as text."""
    if type(value) is int:
        return value if abs(value) < 1 << 63 else None
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20:
        return int(value)
    return None


def _table(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _nested(value: object) -> Any:
    """A JSON document that stands in a string; None where it is none."""
    if not isinstance(value, str):
        return None
    try:
        return waagent.parse_json(value.encode("utf-8", "replace"), "")
    except CannotTell:
        return None


def _only(value: object) -> Mapping[str, Any]:
    """The one element of an array."""
    return _table(value[0]) if isinstance(value, list) and value else {}


def parse_status(data: bytes, path: str, modified: float | None = None) -> Outcome:
    """One N.status or N_status; `modified` is its time where it holds none. Raises CannotTell when it is no such file.

    Of a V2 machine the outer `status` is success whatever happened: only the codes and the inner report tell.
    """
    top = _only(waagent.parse_json(data, path))
    status = _table(top.get("status"))
    code = _number(status.get("code"))
    if code is None:
        raise CannotTell(f"{path} is no status file: it has no code")
    parts = status.get("substatus")
    inner_top = _only(_nested(_only(parts).get("name")))
    inner = _table(inner_top.get("status"))
    date = _DATE.fullmatch(str(inner_top.get("timestampUTC", "")))
    time = waagent.timestamp(top.get("timestampUTC"))
    if time is None:
        time = int(date.group(1)) / 1000 if date else modified
    if time is None:
        raise CannotTell(f"{path} has no time")
    outer = _table(status.get("formattedMessage")).get("message")
    told = _table(_nested(outer))
    message = str(told.get("messageStr", "")) if told else str(outer or "")
    telemetry = dict(_TELEMETRY.findall(message))
    entries = inner.get("telemetryData")
    for entry in entries[:100] if isinstance(entries, list) else ():
        if isinstance(entry, dict) and isinstance(entry.get("Key"), str):
            telemetry[entry["Key"]] = str(entry.get("Value", ""))
    answers = (_number(telemetry.get(f"hostStatusCode{call}Snapshot")) for call in ("Pre", "Do"))
    ticks = _number(status.get("commandStartTimeUTCTicks"))
    return Outcome(
        code,
        time,
        sequence=_sequence(path),
        requested=(ticks - _TICKS_OF_EPOCH) / _TICKS_PER_SECOND if ticks and ticks > _TICKS_OF_EPOCH else None,
        health=_number(_table(inner.get("vmHealthInfo")).get("vmHealthStatusCode")),
        consistency=_consistency(code, _number(told.get("snapshotConsistency")), telemetry.get("consistencyType", "")),
        path=_CREATORS.get(telemetry.get("snapshotCreator", ""), ""),
        task=str(status.get("taskId") or "")[:64],
        message=clean(message),
        host=tuple(dict.fromkeys(answer for answer in answers if answer is not None and not 200 <= answer < 300)),
        source=path,
    )


def _consistency(code: int, told: int | None, word: str) -> str:
    """The extension itself says `none` of most successes (it compares a text with a number); its code tells more."""
    if told == 3 or (told is None and word == "crashConsistent"):
        return "crash" if code in (SUCCESS, SUCCESS_APPLICATION) else "none"
    return {SUCCESS_APPLICATION: "application", SUCCESS: "file_system"}.get(code, "none")


_STATUS_NAME = re.compile(r"(\d{1,9})[._]status", re.ASCII)


def _sequence(path: str) -> int | None:
    match = _STATUS_NAME.fullmatch(path.rpartition("/")[2])
    return int(match.group(1)) if match else None


# ------------------------------------------------------------------------------------------------------- its log

# `2024-01-14 22:16:48.792020 [name-1.0]text`, before 2022 `2017/11/14 03:06:52 [name-1.0.9110.0]text`, and what was
# held back while the file systems were frozen: `2021/02/26 09:41:45.748281  Info  text`.
_LINE = re.compile(
    r"(\d{4}[-/]\d\d[-/]\d\d \d\d:\d\d:\d\d(?:\.\d{1,6})?)(?: \[[^\]]{1,200}\]|  (?:Info|Warning|Error|Verbose)  )(.*)",
    re.ASCII,
)
_MOST_RECORD_TEXT = 4000  # characters; a traceback that says what happened is shorter
_MOST_RUNS = 200
_MOST_TROUBLE = 5
_ENABLE = re.compile(r"Enable,(\w{1,20}),(\d{1,4}),(.*)", re.DOTALL | re.ASCII)
_FLAG = re.compile(r",(?:True|False|None)?\s*$")
_START = re.compile(r"starting (enable|daemon initially)")
_SEQUENCE = re.compile(
    r"(?:sequence number (?:from environment variable|based on config file-names) is|current seq no is"
    r"|set most recent sequence number to) (\d{1,9})",
    re.ASCII,
)
_TASK = re.compile(r"taskId: ([\w-]{1,64})", re.ASCII)
_SAME = re.compile(r"same, so skip|same as last, so skip")
_SNAPSHOT = re.compile(r"\*{6} (\d)\. (?:.*\((Host|Guest-parallel|Guest-seq)\))?")
_HOST_ANSWER = re.compile(r"PreSnapshot: Status Code: (\d{3})\b|From Host- .*\bStatusCode:\s*(\d{3})\b", re.DOTALL)
_GUEST_ANSWER = re.compile(r"\bresp status: ?(\d{3})\b")
_HOST_WORDS = (
    ("BHS is not runnning", SERVICE_DOWN),
    ("Hitting wrong WireServer IP", NO_ANSWER),
    ("responseBody is empty but http status code is success", EMPTY_ANSWER),
    ("Failed to do the snapshot in host with error", EXCEPTION),
    ("Failed to do the pre snapshot in host with error", EXCEPTION),
)
_TRACEBACK = "Traceback (most recent call last)"
CONFIGURATION_PROVIDER = "Failed to construct ConfigurationProvider"


def _records(data: bytes) -> Iterator[tuple[float, str]]:
    """Time and text of each record; lines that begin with no time belong to the record before them."""
    time, length = 0.0, 0
    lines: list[str] = []
    for line in data.decode("utf-8", "replace").splitlines():
        match = _LINE.match(line)
        moment = waagent.timestamp(match.group(1)) if match else None
        if match and moment is not None:
            if lines:
                yield time, "\n".join(lines)
            time, lines, length = moment, [match.group(2)[:_MOST_RECORD_TEXT]], len(match.group(2))
        elif lines and length < _MOST_RECORD_TEXT:
            lines.append(line[:_MOST_RECORD_TEXT])
            length += len(line) + 1
    if lines:
        yield time, "\n".join(lines)


@dataclass(frozen=True)
class LogRun:
    """One run as extension.log tells it; times are seconds since the epoch, None where there is no such line."""

    time: float  # of its newest Enable line, before that of its newest line
    started: float | None = None
    frozen: float | None = None
    thawed: float | None = None
    sequence: int | None = None
    task: str = ""
    status: str = ""
    code: int | None = None
    message: str = ""
    path: str = ""
    asking: bool = False  # the guest asks the storage for the snapshot
    host: tuple[int, ...] = ()
    trouble: tuple[str, ...] = ()

    @property
    def ended(self) -> bool:
        return self.code is not None and self.code != UNDERWAY


def parse_log(data: bytes) -> tuple[LogRun, ...]:
    """The runs of extension.log, oldest first."""
    runs: list[LogRun] = []
    sequence: int | None = None  # is noted before the start
    for time, text in _records(data):
        if number := _SEQUENCE.search(text):
            sequence = int(number.group(1))
        start = _START.search(text)
        if start and not (start.group(1) != "enable" and runs and not runs[-1].ended):
            runs = [*runs[-_MOST_RUNS:], LogRun(time, started=time, sequence=sequence)]
        elif _SAME.search(text) and runs and runs[-1].code is None:
            # The agent was started again: no run, and one that is under way goes on.
            runs.pop()
        elif runs:
            runs[-1] = _fold(runs[-1], time, text)
        elif _ENABLE.match(text):
            runs.append(_fold(LogRun(time), time, text))  # its beginning was cut off
    return tuple(runs)


def _fold(run: LogRun, time: float, text: str) -> LogRun:
    """What one more record says of a run."""
    if run.ended:
        return run  # uploads and farewells
    if enable := _ENABLE.match(text):
        message = clean(_FLAG.sub("", enable.group(3)))
        return replace(run, time=time, status=enable.group(1), code=int(enable.group(2)), message=message)
    if number := _SEQUENCE.search(text):
        # Of one that died the next request's number must not become its own.
        return run if run.sequence is not None else replace(run, sequence=int(number.group(1)))
    if task := _TASK.match(text):
        return replace(run, task=task.group(1))
    if step := _SNAPSHOT.search(text):
        path = run.path if step.group(2) is None else "host" if step.group(2) == "Host" else "guest"
        asking = path == "guest" and (step.group(1) == "5" or (run.asking and step.group(1) != "6"))
        frozen = time if step.group(1) == "4" and run.frozen is None else run.frozen
        thawed = time if step.group(1) == "9" else run.thawed
        return replace(run, path=path, asking=asking, frozen=frozen, thawed=thawed)
    run = replace(run, time=time) if run.code is None else run
    answers = [number for words, number in _HOST_WORDS if words in text]
    found = _HOST_ANSWER.search(text) or (_GUEST_ANSWER.search(text) if run.asking else None)
    if found:
        answers += [int(digits) for digits in found.groups() if digits and not digits.startswith("2")]
    if answers:
        run = replace(run, host=tuple(dict.fromkeys((*run.host, *answers)))[:_HOST_ANSWERS])
    if CONFIGURATION_PROVIDER in text or _TRACEBACK in text:
        run = replace(run, trouble=tuple(dict.fromkeys((*run.trouble, _trouble(text))))[:_MOST_TROUBLE])
    return run


def _trouble(text: str) -> str:
    """The head of a record with a traceback, and the exception at its end."""
    head, _, stack = text.partition(_TRACEBACK)
    words = re.sub(r",?\s*(?:with error: .*)?stack trace:\s*$", "", head, flags=re.DOTALL).strip()
    last = [line.strip() for line in stack.splitlines() if line.strip()][-1:]
    return clean(": ".join(filter(None, [words, *last])) or "an exception")


_LOG_LIMIT = 512 * 1024  # bytes; a run writes some tens of kB
_STATUS_LIMIT = 256 * 1024
_MOST_STATUS_FILES = 64  # of one version; the extension keeps 60
_MOST_OLD_VERSIONS = 3
_SAME_RUN = 300.0  # s between a status file and the log's line of it


def log_runs(machine: Machine) -> tuple[LogRun, ...]:
    """The runs at the end of extension.log, oldest first. Raises Absent or CannotTell."""
    data, _, _ = machine.read_new(LOG, None, _LOG_LIMIT)
    return parse_log(data)


def outcomes(machine: Machine) -> tuple[Outcome, ...]:
    """How the past runs ended, newest first, from the status files of all versions that are there and from the log.

    Empty where there is no record. Raises CannotTell where the newest cannot be told.
    """
    found: list[Outcome] = []
    unread: CannotTell | None = None
    current: waagent.HandlerDirectory | None = None
    directories: list[waagent.HandlerDirectory] = []
    with contextlib.suppress(Absent):
        current = waagent.current_directory(machine, waagent.VMSNAPSHOT)
        names = machine.names(waagent.LIB_DIR)
        directories = [d for d in waagent.handler_directories(names) if d.name == waagent.VMSNAPSHOT and d != current]
    for directory in [*directories[-_MOST_OLD_VERSIONS:], *filter(None, [current])]:
        told, why = _status_files(machine, directory)
        found += told
        if directory == current:
            unread = why
    runs: tuple[LogRun, ...] = ()
    try:
        runs = log_runs(machine)
    except Absent:
        pass
    except CannotTell as error:
        if not found:
            unread = unread or error
    merged = merge(found, runs)
    newest_file = max((outcome.time for outcome in found), default=None)
    if unread is not None and (not merged or newest_file is None or merged[0].time <= newest_file):
        raise unread
    return merged


def _status_files(machine: Machine, directory: waagent.HandlerDirectory) -> tuple[list[Outcome], CannotTell | None]:
    """What the status files of one version say, and why the newest does not."""
    folder = f"{directory.path}/status"
    try:
        names = machine.names(folder)
    except Absent:
        return [], None
    except CannotTell as error:
        return [], error
    numbered = sorted((number, name) for name in names for number in [_sequence(name)] if number is not None)
    found: list[Outcome] = []
    unread: CannotTell | None = None
    for _, name in numbered[-_MOST_STATUS_FILES:]:
        path = f"{folder}/{name}"
        try:
            found.append(parse_status(machine.read(path, _STATUS_LIMIT), path, machine.status(path).modified))
            unread = None
        except Absent:
            continue  # renamed or removed while we looked
        except CannotTell as error:
            unread = error
    return found, unread


def merge(files: Iterable[Outcome], runs: Iterable[LogRun]) -> tuple[Outcome, ...]:
    """One outcome a run, newest first: what the log says is added to its status file's, and stands alone without."""
    by_run: dict[tuple[Any, ...], Outcome] = {}
    for outcome in files:
        # A version that takes over from another may take its files along.
        by_run[outcome.sequence, outcome.task, outcome.code, round(outcome.time)] = outcome
    merged = list(by_run.values())
    for run in runs:
        if run.code is None:
            continue
        place = next((index for index, outcome in enumerate(merged) if _are_the_same(outcome, run)), None)
        if place is not None:
            merged[place] = _with_log(merged[place], run)
        else:
            merged.append(
                Outcome(
                    run.code,
                    run.time,
                    sequence=run.sequence,
                    started=run.started,
                    consistency=_consistency(run.code, None, ""),
                    path=run.path,
                    task=run.task,
                    message=run.message,
                    host=run.host,
                    trouble=run.trouble,
                    source=LOG,
                )
            )
    return tuple(sorted(merged, key=lambda outcome: (outcome.time, outcome.sequence or 0), reverse=True))


def _are_the_same(outcome: Outcome, run: LogRun) -> bool:
    if outcome.code != run.code or abs(outcome.time - run.time) > _SAME_RUN or outcome.started is not None:
        return False
    return run.sequence is None or outcome.sequence is None or run.sequence == outcome.sequence


def _with_log(outcome: Outcome, run: LogRun) -> Outcome:
    return replace(
        outcome,
        started=run.started,
        path=outcome.path or run.path,
        task=outcome.task or run.task,
        message=outcome.message or run.message,
        host=tuple(dict.fromkeys((*outcome.host, *run.host))),
        trouble=run.trouble,
    )


# The extension's own process of one run, and its freeze binary.
_RUNS = re.compile(r"main/handle\.(?:py|sh)\b.* -?daemon\b|\bsafefreeze\b")


def running(processes: Iterable[Process]) -> Process | None:
    """The process of a run that is under way, if there is one."""
    for process in processes:
        if process.state != "Z" and _RUNS.search(" ".join(process.argv)):
            return process
    return None


# The extension itself gives up on a request that is older than 140 minutes.
STUCK_AFTER = 150 * 60.0  # s


def at_work(machine: Machine) -> Process | None:
    """The process of a run that may be taking a snapshot; one that has been there for longer than any run lasts hangs,
    and takes none. Raises CannotTell."""
    process = running(machine.processes())
    return process if process is not None and machine.now() - process.started <= STUCK_AFTER else None


_LAST_REQUEST = "mrseq"
_LAST_TASK = "task_identity_"  # then an identity of the extension's, the same everywhere
_NUMBERED_STATUS = re.compile(r"(\d{1,9})\.status", re.ASCII)


def known_requests(names: Iterable[str]) -> tuple[str, ...]:
    """Of the names in the extension's directory those of the files by which it knows the request that it has taken up.
    Without them, or with older ones, it takes the newest request up again."""
    return tuple(name for name in names if name == _LAST_REQUEST or name.startswith(_LAST_TASK))


def newest_status(machine: Machine, directory: waagent.HandlerDirectory) -> str | None:
    """The path of the status with the highest sequence number; None if there is none. Raises CannotTell."""
    try:
        names = machine.names(f"{directory.path}/status")
    except Absent:
        return None
    numbers = [int(match.group(1)) for match in map(_NUMBERED_STATUS.fullmatch, names) if match]
    return f"{directory.path}/status/{max(numbers)}.status" if numbers else None


def frozen(machine: Machine) -> str:
    """Why a file system may be frozen: the freeze binary runs, or the lock of a freeze is held. Empty if it is neither.
    Raises CannotTell."""
    try:
        holder = machine.lock_holder(FREEZE_LOCK)
    except Absent:
        holder = None
    if holder is not None:
        return f"process {holder or '?'} holds the lock of a freeze"
    for process in machine.processes():
        if process.state != "Z" and any(word.rpartition("/")[2] == "safefreeze" for word in process.argv):
            return f"process {process.pid} is the freeze binary"
    return ""


def under_way(machine: Machine) -> str:
    """Why a snapshot may be under way: a file system may be frozen, the extension's process runs, or a status that says
    so is not older than a run may last. Empty if none of that is so. Raises CannotTell."""
    if why := frozen(machine):
        return why
    process = at_work(machine)
    if process is not None:
        return f"process {process.pid} is the extension's and runs"
    try:
        directories = waagent.handler_directories(machine.names(waagent.LIB_DIR))
    except Absent:
        return ""
    for directory in directories:
        path = newest_status(machine, directory) if directory.name == waagent.VMSNAPSHOT else None
        if path is None:
            continue
        try:
            outcome = parse_status(machine.read(path, _STATUS_LIMIT), path, machine.status(path).modified)
        except Absent:
            return f"{path} was written anew just now"
        # One from the future is no older than a run may last.
        if outcome.kind is Kind.UNDERWAY and machine.now() - outcome.time <= STUCK_AFTER:
            return f"{path} says that a snapshot is under way"
    return ""
