"""Is the VM agent alive, and is it getting on?

The agent is two processes: a daemon, and a worker that fetches goal states, runs extensions and reports. Only the
worker makes the VM "Ready" to the platform, so a daemon alone is a dead agent.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import timedelta

from backupready import waagent
from backupready.model import (
    Absent,
    Access,
    CannotTell,
    Cause,
    Effect,
    Finding,
    Machine,
    Metric,
    Observation,
    Probe,
    Problem,
    Process,
    Reading,
    Remember,
    Scalar,
    Setting,
    Settings,
    Watch,
    is_there,
    whole_minutes,
)
from backupready.waagent import AgentProcesses, LogFacts

_TROUBLESHOOTING = "https://learn.microsoft.com/azure/backup/backup-azure-troubleshoot-vm-backup-fails-snapshot-timeout"
_UPDATE_AGENT = "https://learn.microsoft.com/azure/virtual-machines/extensions/update-linux-agent"
_AGENT_SOURCE = "https://github.com/Azure/WALinuxAgent"

# While an extension's command runs (enable 300 s, install 900 s) the report stands still.
_BUSY_REPORT_LIMIT = timedelta(minutes=90).total_seconds()
# The worker is there within seconds of the daemon, unless the daemon waits for something.
_WORKER_GRACE = 30.0  # s
_PROVISIONING_GRACE = 240.0  # s
# A worker that starts over this often is in a loop …
_LOOP_FAILURES = 3
_LOOP_SPAN = 300.0  # s
# … until it has outlived the loop's own beat twice, and at least this long.
_LOOP_CALM = 60.0  # s
_STATUS_ERRORS_LAST = 60.0  # s
_STATUS_ERRORS_OLD = 300.0  # s
_MINIMUM_VERSION = (2, 2, 53, 1)
# The packages that the agent calls for in normal operation, and where they may be.
_TOOLS = ("openssl", "ip")
_TOOL_DIRECTORIES = ("/usr/bin", "/usr/sbin", "/bin", "/sbin", "/usr/local/bin", "/usr/local/sbin")

_DOWN = (
    "AGENT_WORKER_MISSING",
    "AGENT_HUNG",
    "AGENT_CANNOT_FETCH_GOAL_STATE",
    "AGENT_STATUS_NOT_UPLOADED",
    "AGENT_CERTIFICATES_FAIL",
)

# Whoever installs packages holds one of these; an agent that is down meanwhile is about to be started.
_PACKAGE_LOCKS = ("/var/lib/dpkg/lock", "/var/lib/rpm/.rpm.lock", "/usr/lib/sysimage/rpm/.rpm.lock")
_INSTALLATION = 900.0  # s; a longer one hangs

PROBLEMS = (
    Problem(
        "AGENT_NOT_INSTALLED",
        "The VM agent is not installed",
        Effect.BLOCKS,
        Cause.AGENT,
        meaning="None of the places where distributions install the agent holds it. Azure Backup has nobody to talk"
        " to in this guest, and cannot install its extension.",
        diagnosis="`command -v waagent`; `dpkg -l waagent walinuxagent` or `rpm -q WALinuxAgent`.",
        fix="Install the agent from the distribution's repository (Debian `waagent`, Ubuntu `walinuxagent`, others"
        " `WALinuxAgent` or `python-azure-agent`), then enable and start its unit.",
        source=_UPDATE_AGENT,
        explains=(
            "AGENT_STOPPED",
            *_DOWN,
            "AGENT_UNSUPPORTED",
            "AGENT_DEFECT_ON_PYTHON",
            "AGENT_VERSION_BLACKLISTED",
            "AGENT_TOOL_MISSING",
            "AGENT_START_SKIPPED",
            "AGENT_START_LIMIT",
            "AGENT_MASKED",
            "AGENT_NOT_ENABLED",
            "AGENT_NO_AUTO_RESTART",
            "CONFIG_MISSING",
            "EXTENSION_VANISHED",
        ),
        sightings=2,
        apart=timedelta(seconds=5),
        patience="an upgrade of the package replaces the program",
    ),
    Problem(
        "AGENT_STOPPED",
        "The VM agent is not running",
        Effect.BLOCKS,
        Cause.AGENT,
        meaning="The agent is installed, but its daemon is not among the processes. The platform sees the VM as not"
        " ready, and the backup job ends with UserErrorGuestAgentStatusUnavailable.",
        diagnosis="`systemctl status walinuxagent` (Debian, Ubuntu) or `waagent` (others); the end of"
        " /var/log/waagent.log and `journalctl -u walinuxagent`.",
        fix="Start it: `systemctl restart walinuxagent` (Debian, Ubuntu) or `systemctl restart waagent` (others).",
        source=_TROUBLESHOOTING,
        remedy="restart-agent",
        explains=(*_DOWN, "AGENT_CRASH_LOOPING"),
        sightings=2,
        apart=timedelta(seconds=1),
        patience="a restart leaves no daemon for a moment",
    ),
    Problem(
        "AGENT_WORKER_MISSING",
        "The VM agent's daemon has no worker",
        Effect.BLOCKS,
        Cause.AGENT,
        meaning="The daemon lives, but the process that fetches goal states and runs extensions does not. The unit"
        " shows active, and yet the agent is dead to the platform.",
        diagnosis="`ps -ef | grep run-exthandlers`; the end of /var/log/waagent.log says what the daemon waits for.",
        fix="Restart the agent.",
        source=_TROUBLESHOOTING,
        remedy="restart-agent",
        explains=("AGENT_HUNG", "AGENT_CANNOT_FETCH_GOAL_STATE", "AGENT_STATUS_NOT_UPLOADED"),
        sightings=4,
        apart=timedelta(seconds=1),
        patience="a worker that died is back within 2 s, and one in a crash loop is gone for moments only",
    ),
    Problem(
        "AGENT_SWITCHED_OFF",
        "The VM agent is switched off by its disable_agent file",
        Effect.BLOCKS,
        Cause.AGENT,
        meaning="/var/lib/waagent/disable_agent makes the daemon sleep forever, without a worker. The unit shows"
        " active. It was created by an administrator, or by provisioning with ProvisionGuestAgent=false.",
        diagnosis="`ls -l /var/lib/waagent/disable_agent`; in the portal, osProfile.allowExtensionOperations.",
        fix="If nobody wants it off: remove /var/lib/waagent/disable_agent and restart the agent.",
        source=_AGENT_SOURCE,
        explains=_DOWN,
    ),
    Problem(
        "AGENT_SWITCH_OFF_PENDING",
        "The VM agent will be switched off at its next start",
        Effect.RISKS,
        Cause.AGENT,
        meaning="/var/lib/waagent/disable_agent exists, but the agent that runs was started before it: the next"
        " restart or reboot switches the agent off.",
        diagnosis="`ls -l /var/lib/waagent/disable_agent`",
        fix="If nobody wants it off: remove the file.",
        source=_AGENT_SOURCE,
        sightings=2,
        apart=timedelta(seconds=5),
        patience="while the agent restarts, the old worker may still be seen",
    ),
    Problem(
        "AGENT_HUNG",
        "The VM agent is hung",
        Effect.BLOCKS,
        Cause.AGENT,
        meaning="The worker is stopped, or sits in the kernel, or has not written its report for longer than it may,"
        " although no extension's command runs. Its unit shows active.",
        diagnosis="`ps -o pid,stat,wchan,cmd -p $(pgrep -f run-exthandlers)`; the time of the newest"
        " /var/lib/waagent/waagent_status*.json or history/*/waagent_status.json.",
        fix="Restart the agent. A process in state D (uninterruptible) will not go: then look at the disk or mount"
        " that it waits for.",
        source=_TROUBLESHOOTING,
        remedy="restart-agent",
        explains=("AGENT_CANNOT_FETCH_GOAL_STATE", "AGENT_STATUS_NOT_UPLOADED"),
        sightings=2,
        apart=timedelta(seconds=10),
        patience="after a suspension or a step of the clock the report looks old until the next loop, 6 s later; a"
        " debugger may stop the process for a moment",
    ),
    Problem(
        "AGENT_CRASH_LOOPING",
        "The VM agent's worker keeps crashing",
        Effect.BLOCKS,
        Cause.AGENT,
        meaning="The daemon had to relaunch its worker three times within five minutes. Each time, every extension is"
        " enabled anew, and in between nothing is reported.",
        diagnosis="`grep 'failed with' /var/log/waagent.log | tail`",
        fix="By cause. `unexpected keyword argument 'etype'` is a defect of agents 2.5.0.2 to 2.8.0.11 on Python 3.10"
        " and later, set off by a wire server that cannot be reached: restore the connection, then update the agent.",
        source=_AGENT_SOURCE,
        explains=("AGENT_WORKER_MISSING", "AGENT_HUNG", "AGENT_CANNOT_FETCH_GOAL_STATE", "AGENT_STATUS_NOT_UPLOADED"),
    ),
    Problem(
        "AGENT_DEFECT_ON_PYTHON",
        "This VM agent has a known defect on this Python",
        # A notice: it does no harm until something else fails, the agent recovers from it by itself, and where the
        # distribution has no newer package nothing can be done. What it does when it bites is AGENT_CRASH_LOOPING.
        Effect.NOTICE,
        Cause.AGENT,
        meaning="Agents 2.5.0.2 to 2.8.0.11 on Python 3.10 and later crash in their own error handling (`etype`) when"
        " the wire server cannot be reached; agents before 2.9 on Python 3.13 and later cannot import `crypt`.",
        diagnosis="`waagent --version`",
        fix="Update the agent from the distribution's repository to 2.9.0.4 or later, or set AutoUpdate.Enabled=y so"
        " that a newer worker is downloaded; let the unit restart by itself.",
        source=f"{_AGENT_SOURCE}/pull/2663",
        remedy="update-agent",
    ),
    Problem(
        "AGENT_UNSUPPORTED",
        "The VM agent is older than the platform supports",
        Effect.RISKS,
        Cause.AGENT,
        meaning="The minimum supported version is 2.2.53.1; the platform may refuse older agents.",
        diagnosis="`waagent --version`, the line `Goal state agent`",
        fix="Update the agent from the distribution's repository.",
        source="https://learn.microsoft.com/troubleshoot/azure/virtual-machines/windows/support-extensions-agent-version",
        remedy="update-agent",
    ),
    Problem(
        "AGENT_VERSION_BLACKLISTED",
        "A downloaded version of the VM agent has been given up",
        Effect.NOTICE,
        Cause.AGENT,
        meaning="The daemon has recorded a fatal failure, or three failures, of a downloaded version and will not"
        " launch it again; an older one runs instead.",
        diagnosis="`cat /var/lib/waagent/WALinuxAgent-*/error.json`",
        fix="Find out why it failed from /var/log/waagent.log. Removing that version's directory makes the agent"
        " download it anew.",
        source=_AGENT_SOURCE,
    ),
    Problem(
        "AGENT_CANNOT_FETCH_GOAL_STATE",
        "The VM agent cannot fetch its goal state",
        Effect.BLOCKS,
        Cause.AGENT,
        meaning="The agent's own requests to the wire server fail, so it will not hear of the backup. If the wire"
        " server answers us, the agent has lost its way to it.",
        diagnosis="`grep -i 'goal state' /var/log/waagent.log | tail`",
        fix="If the wire server answers root (`curl http://168.63.129.16/?comp=versions`), restart the agent.",
        source=_TROUBLESHOOTING,
        remedy="restart-agent",
        explains=("AGENT_STATUS_NOT_UPLOADED", "AGENT_CERTIFICATES_FAIL"),
        sightings=2,
        apart=timedelta(seconds=10),
        patience="one failed request is retried and recovers",
    ),
    Problem(
        "AGENT_STATUS_NOT_UPLOADED",
        "The VM agent cannot deliver its report",
        Effect.BLOCKS,
        Cause.AGENT,
        meaning="Uploads of the status blob fail, by the host plugin and directly, for more than a minute. The"
        " platform sees the VM as not ready.",
        diagnosis="`grep 'Failed to report vm agent status' /var/log/waagent.log | tail`",
        fix="Check 168.63.129.16:32526 and the storage account's firewall; then restart the agent.",
        source=_TROUBLESHOOTING,
        sightings=2,
        apart=timedelta(seconds=10),
        patience="a single upload may fail",
    ),
    Problem(
        "AGENT_CERTIFICATES_FAIL",
        "The VM agent cannot decrypt its certificates",
        Effect.BLOCKS,
        Cause.AGENT,
        meaning="Without the tenant certificates the extension cannot read its protected settings. Known causes are"
        " FIPS mode without OS.EnableFIPS=y, and an OpenSSL policy that forbids the cipher.",
        diagnosis="`grep -i certificate /var/log/waagent.log | tail`; `cat /proc/sys/crypto/fips_enabled`;"
        " `grep FIPS /etc/waagent.conf`",
        fix="Make OS.EnableFIPS agree with the kernel, or update the agent; then restart it.",
        source=_AGENT_SOURCE,
        sightings=2,
        apart=timedelta(seconds=10),
        patience="the fetch is repeated with the next goal state",
    ),
    Problem(
        "AGENT_NOT_PROVISIONED",
        "The VM agent still waits for provisioning",
        Effect.BLOCKS,
        Cause.AGENT,
        meaning="The daemon waits for cloud-init (ovf-env.xml, ssh host key) and has no worker until that is done.",
        diagnosis="`tail /var/log/waagent.log`; `cloud-init status --long`",
        fix="Repair cloud-init, or correct Provisioning.Agent in waagent.conf; then restart the agent.",
        source=_AGENT_SOURCE,
        explains=_DOWN,
    ),
    Problem(
        "AGENT_PID_FILE_STALE",
        "A foreign process keeps the VM agent from starting",
        Effect.BLOCKS,
        Cause.AGENT,
        meaning="The agent's pid file names a living process that is not the agent: the agent takes that for itself"
        " and ends at once, with success.",
        diagnosis="`ps -fp $(cat /run/waagent.pid)`",
        fix="Move the pid file away, then start the agent.",
        source=_AGENT_SOURCE,
        explains=("AGENT_STOPPED", *_DOWN),
        sightings=2,
        patience="at its start the agent writes the file before it can be seen",
    ),
    Problem(
        "AGENT_TOOL_MISSING",
        "A program that the VM agent calls is missing",
        Effect.RISKS,
        Cause.AGENT,
        meaning="Without openssl certificates cannot be decrypted; without ip routes and addresses cannot be read."
        " (Where VMSnapshot is installed, openssl is told of as EXTENSION_TOOL_MISSING.)",
        diagnosis="`command -v openssl ip`",
        fix="Install the package that brings it (openssl, iproute2 or iproute).",
        source=f"{_AGENT_SOURCE}#requirements",
    ),
)

METRICS = (
    Metric("backupready_agent_info", "The VM agent's versions.", ("version", "daemon_version", "python")),
    Metric(
        "backupready_agent_process_start_time_seconds",
        "When the agent's process started, seconds since the epoch.",
        ("role",),
        clause="When it started.",
    ),
    Metric("backupready_agent_status_timestamp_seconds", "When the agent wrote its newest report."),
    Metric(
        "backupready_agent_heartbeat_timestamp_seconds",
        "The newest heartbeat in the agent's log, seconds since the epoch.",
        clause="The newest in the agent's log.",
    ),
    Metric(
        "backupready_agent_goal_state_errors",
        "Failed goal state fetches that the agent's newest heartbeat counts.",
        clause="Failed fetches.",
    ),
)


SETTINGS = (
    Setting(
        "agent",
        "report_limit_minutes",
        "15",
        "How old the agent's newest report may be. The agent writes it every 6 s, every 300 s when extensions are"
        " switched off, and not at all while an extension's command runs.",
        whole_minutes,
        "a number of minutes",
    ),
)


def look(machine: Machine, settings: Settings) -> Iterator[Observation]:
    """Processes first, then the files that say how the processes get on."""
    try:
        processes = waagent.agent_processes(machine.processes())
    except CannotTell as error:
        processes = None
        yield CannotTell(
            error.why,
            ("AGENT_NOT_INSTALLED", "AGENT_STOPPED", "AGENT_WORKER_MISSING", "AGENT_SWITCHED_OFF",
             "AGENT_SWITCH_OFF_PENDING", "AGENT_HUNG", "AGENT_NOT_PROVISIONED", "AGENT_PID_FILE_STALE"),
        )  # fmt: skip
    facts: LogFacts | None = None
    try:
        facts, memory = waagent.follow_log(machine)
        yield Remember(memory)
    except Absent:
        facts = LogFacts()  # an agent that has never run has no log
    except CannotTell as error:
        yield CannotTell(
            error.why,
            ("AGENT_CRASH_LOOPING", "AGENT_CANNOT_FETCH_GOAL_STATE", "AGENT_STATUS_NOT_UPLOADED",
             "AGENT_CERTIFICATES_FAIL", "AGENT_NOT_PROVISIONED"),
        )  # fmt: skip
    if processes is not None:
        yield from _presence(machine, processes, facts)
    report: waagent.Report | None = None
    try:
        report = waagent.newest_report(machine)
        yield Reading("backupready_agent_status_timestamp_seconds", report.written)
    except Absent:
        pass
    except CannotTell as error:
        if processes is not None:
            yield CannotTell(error.why, ("AGENT_HUNG",))
    if processes is not None and processes.worker is not None:
        yield from _progress(machine, processes, processes.worker, report, facts, settings)
    if facts is not None:
        yield from _log(machine, facts)
    yield from _versions(facts, report)
    yield from _given_up(machine)
    yield from _tools(machine)


def _presence(machine: Machine, processes: AgentProcesses, facts: LogFacts | None) -> Iterator[Observation]:
    """Which of the two processes are there, and why one is not."""
    daemon, worker = processes.daemon, processes.worker
    for role, process in (("daemon", daemon), ("worker", worker)):
        if process is not None:
            yield Watch(role, process.pid)
            yield Reading("backupready_agent_process_start_time_seconds", process.started, {"role": role})
    try:
        switched_off = is_there(machine, f"{waagent.LIB_DIR}/disable_agent")
    except CannotTell as error:
        switched_off = False
        yield CannotTell(error.why, ("AGENT_SWITCHED_OFF", "AGENT_SWITCH_OFF_PENDING"))
    if switched_off and worker is None:
        yield Finding("AGENT_SWITCHED_OFF", evidence={"file": f"{waagent.LIB_DIR}/disable_agent"})
    elif switched_off:
        yield Finding("AGENT_SWITCH_OFF_PENDING", evidence={"file": f"{waagent.LIB_DIR}/disable_agent"})
    if daemon is None:
        yield from _no_daemon(machine, worker)
    elif worker is None and not switched_off:
        since = machine.now() - daemon.started
        waits = facts is not None and facts.provisioning_waits is not None and facts.worker_started is None
        if waits and facts is not None and not is_there(machine, f"{waagent.LIB_DIR}/provisioned"):
            if since > _PROVISIONING_GRACE:
                yield Finding("AGENT_NOT_PROVISIONED", evidence={"log": facts.provisioning_text})
            else:
                why = "the agent waits for provisioning, as at every first boot"
                yield CannotTell(why, ("AGENT_NOT_PROVISIONED", "AGENT_WORKER_MISSING"))
                return
        if since > _WORKER_GRACE:
            evidence = {
                "daemon_pid": daemon.pid,
                "daemon_age_seconds": round(since),
                "protocol_retries": facts.protocol_retries if facts else None,
            }
            yield Finding("AGENT_WORKER_MISSING", evidence=evidence)


def _no_daemon(machine: Machine, worker: Process | None) -> Iterator[Observation]:
    try:
        installed = [path for path in waagent.BINARIES if is_there(machine, path)]
    except CannotTell as error:
        installed = ["unknown"]
        yield CannotTell(error.why, ("AGENT_NOT_INSTALLED",))
    if not installed:
        yield Finding("AGENT_NOT_INSTALLED", evidence={"searched": " ".join(waagent.BINARIES)})
        return
    if (holder := _package_manager(machine)) is not None:
        why = f"a package is being installed or removed by process {holder}, which stops and starts the agent"
        yield CannotTell(why, ("AGENT_STOPPED", "AGENT_PID_FILE_STALE"))
        return
    yield Finding("AGENT_STOPPED", evidence={"orphaned_worker_pid": worker.pid if worker else None})
    try:
        text = machine.read(waagent.PID_FILE, 64).decode("ascii", "replace").strip()
    except Absent:
        return
    except CannotTell as error:
        yield CannotTell(error.why, ("AGENT_PID_FILE_STALE",))
        return
    other = next((p for p in machine.processes() if str(p.pid) == text and p.state != "Z"), None)
    if other is not None and not (worker and worker.pid == other.pid):
        yield Finding("AGENT_PID_FILE_STALE", evidence={"pid": other.pid, "command": waagent.program(other)})


def _package_manager(machine: Machine) -> int | None:
    """The process that installs or removes packages since so short a time that it may be about the agent's."""
    for path in _PACKAGE_LOCKS:
        try:
            holder = machine.lock_holder(path)
        except (Absent, CannotTell):
            continue
        for process in machine.processes() if holder else ():
            if process.pid == holder and machine.now() - process.started < _INSTALLATION:
                return holder
    return None


def _progress(
    machine: Machine,
    processes: AgentProcesses,
    worker: Process,
    report: waagent.Report | None,
    facts: LogFacts | None,
    settings: Settings,
) -> Iterator[Observation]:
    """Does the worker move? A fresh report proves it; a stopped process disproves it."""
    if worker.state in "Tt":
        yield Finding("AGENT_HUNG", evidence={"pid": worker.pid, "state": worker.state})
        return
    limit = max(settings["report_limit_minutes"].total_seconds(), 3 * _period(machine))
    now = machine.now()
    # A report from before the worker's start says nothing about this worker.
    written = max(report.written if report else 0.0, worker.started)
    age = now - written
    if age < -limit:
        yield CannotTell(f"the newest report is {-age:.0f} s ahead of the clock", ("AGENT_HUNG",))
    elif age > (_BUSY_REPORT_LIMIT if processes.busy else limit):
        version = waagent.version_key((facts.version if facts else None) or "")
        if report is None and version < waagent.REPORTS_SINCE:
            yield CannotTell("there is no report, and this agent may be too old to write one", ("AGENT_HUNG",))
            return
        evidence: dict[str, Scalar] = {
            "pid": worker.pid,
            "state": worker.state,
            "report_age_seconds": round(age),
            "report": report.path if report else None,
        }
        yield Finding("AGENT_HUNG", evidence=evidence)


def _period(machine: Machine) -> float:
    """The seconds between the worker's loops."""
    text: str | None = None
    with contextlib.suppress(Absent, CannotTell):
        text = waagent.agent_config(machine).values.get("Extensions.GoalStatePeriod")
    return float(text) if text and text.isascii() and text.isdigit() and len(text) < 8 else 0.0


def _log(machine: Machine, facts: LogFacts) -> Iterator[Observation]:
    """What the log complains of and has not taken back."""
    if facts.heartbeat is not None:
        yield Reading("backupready_agent_heartbeat_timestamp_seconds", facts.heartbeat)
        yield Reading("backupready_agent_goal_state_errors", facts.heartbeat_goal_state_errors)
    if len(facts.worker_failures) >= _LOOP_FAILURES or facts.status_error is not None:
        try:
            yield from _timed(facts, machine.now())
        except CannotTell as error:
            yield CannotTell(error.why, ("AGENT_CRASH_LOOPING", "AGENT_STATUS_NOT_UPLOADED"))
    if facts.goal_state_error is not None:
        yield Finding(
            "AGENT_CANNOT_FETCH_GOAL_STATE",
            evidence={"log": facts.goal_state_error_text, "errors_in_heartbeat": facts.heartbeat_goal_state_errors},
        )
    elif facts.heartbeat_errors_stand:
        # Counted in the heartbeat, but neither the errors nor a recovery are in what we have read of the log.
        yield Finding(
            "AGENT_CANNOT_FETCH_GOAL_STATE",
            evidence={"log": None, "errors_in_heartbeat": facts.heartbeat_goal_state_errors},
        )
    if facts.certificate_error is not None:
        yield Finding("AGENT_CERTIFICATES_FAIL", evidence={"log": facts.certificate_error_text, **_fips(machine)})


def _fips(machine: Machine) -> dict[str, Scalar]:
    """The known cause. Alone it is no finding: OS.EnableFIPS only sets OPENSSL_FIPS, which OpenSSL 1.1 and later do not
    heed, so that with them the shipped OS.EnableFIPS=n is right on a kernel in FIPS mode too."""
    facts: dict[str, Scalar] = {}
    with contextlib.suppress(Absent, CannotTell):
        facts["fips_enabled"] = machine.read("/proc/sys/crypto/fips_enabled", 64).decode("ascii", "replace").strip()
    with contextlib.suppress(Absent, CannotTell):
        facts["OS.EnableFIPS"] = waagent.agent_config(machine).values.get("OS.EnableFIPS")
    return facts


def _timed(facts: LogFacts, now: float) -> Iterator[Observation]:
    failures = facts.worker_failures[-_LOOP_FAILURES:]
    if len(failures) == _LOOP_FAILURES and failures[-1] - failures[0] <= _LOOP_SPAN:
        beat = max(later - earlier for earlier, later in zip(failures, failures[1:]))
        if 0 <= now - failures[-1] <= max(2 * beat, _LOOP_CALM):
            evidence: dict[str, Scalar] = {
                "failures": sum(now - time <= _LOOP_SPAN for time in facts.worker_failures),
                "last_failure_seconds_ago": round(now - failures[-1]),
                "error": facts.worker_failure,
            }
            yield Finding("AGENT_CRASH_LOOPING", evidence=evidence)
    if facts.status_error is not None and facts.status_errors_since is not None:
        lasting = facts.status_error - facts.status_errors_since >= _STATUS_ERRORS_LAST
        if lasting and 0 <= now - facts.status_error <= _STATUS_ERRORS_OLD:
            yield Finding("AGENT_STATUS_NOT_UPLOADED", evidence={"log": facts.status_error_text})


def _versions(facts: LogFacts | None, report: waagent.Report | None) -> Iterator[Observation]:
    """What is known to be wrong with this version."""
    version = (report.agent_version if report else None) or (facts.version if facts else None)
    python = facts.python if facts else None
    if version is None:
        yield CannotTell(
            "neither the agent's log nor its report says its version", ("AGENT_UNSUPPORTED", "AGENT_DEFECT_ON_PYTHON")
        )
        return
    daemon = (facts.daemon_version if facts else None) or ""
    yield Reading("backupready_agent_info", 1, {"version": version, "daemon_version": daemon, "python": python or ""})
    try:
        number = waagent.version_of(version)
    except CannotTell as error:
        yield CannotTell(error.why, ("AGENT_UNSUPPORTED", "AGENT_DEFECT_ON_PYTHON"))
        return
    if number < _MINIMUM_VERSION:
        yield Finding("AGENT_UNSUPPORTED", evidence={"version": version, "minimum": "2.2.53.1"})
    if not (2, 5, 0, 2) <= number < (2, 9):
        return
    try:
        release = waagent.version_of(python or "")
    except CannotTell:
        yield CannotTell("the agent's log does not say its Python any more", ("AGENT_DEFECT_ON_PYTHON",))
        return
    evidence = {"version": version, "python": python}
    if release >= (3, 13) and number >= (2, 7):
        yield Finding("AGENT_DEFECT_ON_PYTHON", evidence={**evidence, "defect": "import crypt"})
    elif release >= (3, 10) and number <= (2, 8, 0, 11):
        yield Finding("AGENT_DEFECT_ON_PYTHON", evidence={**evidence, "defect": "etype"})


def _given_up(machine: Machine) -> Iterator[Observation]:
    """Downloaded versions with a fatal failure, or three failures."""
    try:
        names = machine.names(waagent.LIB_DIR)
    except (Absent, CannotTell) as error:
        yield CannotTell(f"cannot list {waagent.LIB_DIR}: {error}", ("AGENT_VERSION_BLACKLISTED",))
        return
    for name in names:
        if not name.startswith("WALinuxAgent-") or name.endswith(".zip"):
            continue
        path = f"{waagent.LIB_DIR}/{name}/error.json"
        try:
            record = waagent.parse_json(machine.read(path), path)
        except Absent:
            continue
        except CannotTell as error:
            yield CannotTell(error.why, ("AGENT_VERSION_BLACKLISTED",))
            continue
        if not isinstance(record, dict):
            yield CannotTell(f"{path} is no error record", ("AGENT_VERSION_BLACKLISTED",))
            continue
        count = record.get("failure_count")
        if record.get("was_fatal") is True or (type(count) is int and count >= 3):
            yield Finding(
                "AGENT_VERSION_BLACKLISTED",
                key=name,
                evidence={"failures": count if type(count) is int else None, "reason": str(record.get("reason", ""))},
            )


def _tools(machine: Machine) -> Iterator[Observation]:
    extension = None
    with contextlib.suppress(Absent, CannotTell):
        extension = waagent.current_directory(machine, waagent.VMSNAPSHOT)
    for tool in _TOOLS:
        if tool == "openssl" and extension is not None:
            continue  # the extension needs it more: EXTENSION_TOOL_MISSING
        try:
            if not any(is_there(machine, f"{directory}/{tool}") for directory in _TOOL_DIRECTORIES):
                yield Finding("AGENT_TOOL_MISSING", key=tool, evidence={"program": tool})
        except CannotTell as error:
            yield CannotTell(error.why, ("AGENT_TOOL_MISSING",))
            return


PROBE = Probe(
    name="agent",
    question="Is the VM agent alive, and is it getting on?",
    access=Access.ROOT,
    problems=PROBLEMS,
    look=look,
    budget=timedelta(seconds=10),
    metrics=METRICS,
    settings=SETTINGS,
)
