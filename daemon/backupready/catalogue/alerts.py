"""What is Prometheus to tell, and when?

The page is for the symptom, on one machine: its next backup will fail. What is wrong with the machine is an alert of
severity info for each problem, which wakes nobody. What this program itself cannot do any more is told besides.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import groupby

from backupready import fixes, probes
from backupready.model import Effect, Problem, Result, Verdict

# No host of this name can exist (RFC 2606): whoever has the pages on a server puts its address in this one's place.
RUNBOOK = "https://runbook.example/backupready"
JOB = "backupready"  # what each job's name begins with that scrapes machines
SCRAPE_SECONDS = 60  # what the ranges in here are made for, and the longest that they are right for

# A state counts as going on over gaps so long: a scrape that fails, a daemon that is restarted.
HELD = "5m"

# Worth an alert although no reason for a verdict: who takes the machine out of the backup, and what is left behind.
TOLD_NOTICES = ("AGENT_DEFECT_ON_PYTHON", "EXTENSION_NEVER_INSTALLED", "EXTENSION_UNINSTALLED", "VERBOSE_LEFT_ON")

# So many machines that start at one moment are worth spreading. Azure names no number; this is one to be changed.
MANY_STARTS = 50

_STALE_INTERVALS = 6
_STALE_AT_LEAST = 1800  # s; a probe that hangs is asked again after ten minutes only

PROBLEMS = {problem.code: problem for problem in probes.PROBLEMS}


@dataclass(frozen=True)
class State:
    """A state that a series tells by 1; `without` are labels that are not the alert's."""

    selector: str
    without: str

    def expression(self, held: bool) -> str:
        series = f"max_over_time({self.selector}[{HELD}])" if held else self.selector
        return f"max without ({self.without}) ({series}) == 1"


@dataclass(frozen=True)
class Rule:
    """When an alert fires with which severity: in all of `states` at once, and where `expression` is true.

    `after` is how long that must be so, in Prometheus' own form.
    """

    severity: str
    after: str
    description: str
    states: tuple[State, ...] = ()
    expression: str = ""

    def expr(self, held: bool) -> str:
        """In PromQL; `held` bridges gaps in the states by what Prometheus has had for long."""
        states = "\nand ".join(state.expression(held) for state in self.states)
        return "\n".join(filter(None, [states, self.expression]))


@dataclass(frozen=True)
class Alert:
    """One name with its rules and its page. One that tells a problem has that problem's page and no text of its own."""

    name: str
    cause: str
    summary: str
    rules: tuple[Rule, ...]
    problem: str = ""
    meaning: str = ""
    impact: str = ""
    diagnosis: str = ""
    mitigation: str = ""
    source: str = ""

    @property
    def page(self) -> str:
        """The file below the runbook."""
        words = re.findall(r"[A-Z][a-z]+", self.name)[1:]
        return f"{self.problem.lower() or '_'.join(words).lower()}.md"

    @property
    def of_machine(self) -> bool:
        """Or else of Prometheus, or of many machines."""
        return "$labels.instance" in self.summary

    @property
    def severities(self) -> str:
        return " or ".join(dict.fromkeys(rule.severity for rule in self.rules))


@dataclass(frozen=True)
class Recording:
    """A series that is reckoned beforehand."""

    name: str
    expr: str
    help: str


@dataclass(frozen=True)
class Group:
    """Rules that are evaluated together."""

    name: str
    alerts: tuple[Alert, ...] = ()
    recordings: tuple[Recording, ...] = field(default=())


def alert_name(code: str) -> str:
    """Of a problem's alert."""
    return "Backupready" + "".join(word.capitalize() for word in code.split("_"))


# ------------------------------------------------------------------------------------------------ what is asked often

_THIS = "{job=%q,instance=%q"
_ON = "$labels.job $labels.instance | query"
_WHEN = (
    "{{ with printf `backupready_window_next_start_timestamp_seconds" + _THIS + "} - time()` " + _ON + " }}"
    "The next window starts in {{ . | first | value | humanizeDuration }}."
    "{{ else }}It is not known when the next window starts.{{ end }}"
)
_LAST_GOOD = (
    "{{ with printf `time() - backupready_backup_last_success_timestamp_seconds" + _THIS + "}` " + _ON + " }}"
    "The last good backup ended {{ . | first | value | humanizeDuration }} ago."
    "{{ else }}No good backup is on record.{{ end }}"
)
_OVER = (
    "{{ range printf `time() - backupready_temporary_change_end_timestamp_seconds" + _THIS + "} > 0` " + _ON + " |"
    ' sortByLabel "change" }} {{ .Labels.change }} ({{ .Value | humanizeDuration }} after its end){{ end }}'
)
_NEAR = State('backupready_phase{phase=~"lead|hold|open"}', "phase")
_ACTIVE, _UNKNOWN = "backupready_problem_active", "backupready_problem_unknown"
_THIS_MACHINE = "on (job, instance)"
_VOID = f'unless {_THIS_MACHINE} backupready_problem_active{{effect="voids"}} == 1'


# Where what an alert's page says is documented.
_BACKUP = "https://learn.microsoft.com/azure/backup"
_TROUBLESHOOTING = f"<{_BACKUP}/backup-azure-vms-troubleshoot>"
_INTRODUCTION = f"<{_BACKUP}/backup-azure-vms-introduction>"
_PROMETHEUS = "https://prometheus.io/docs"
_TARGETS = f"<{_PROMETHEUS}/concepts/jobs_instances/>"
_ABSENT = f"<{_PROMETHEUS}/prometheus/latest/querying/functions/#absent>"
_STALENESS = f"<{_PROMETHEUS}/prometheus/latest/querying/basics/#staleness>"
_RELABELLING = f"<{_PROMETHEUS}/prometheus/latest/configuration/configuration/#relabel_config>"
_TEXT_FILES = "<https://github.com/prometheus/node_exporter#textfile-collector>"
_WEB_CONFIG = "<https://github.com/prometheus/exporter-toolkit/blob/master/docs/web-configuration.md>"
_MANUAL = "`man 8 backupready`"
_FILES, _UNITS, _SIGNALS = (f"{_MANUAL}, {part}" for part in ("FILES", "UNITS", "SIGNALS"))
_SETTINGS = "`man 5 backupready.conf`"
_LOOKING, _FIXING = (f"{_SETTINGS}, [{section}]" for section in ("look", "fix"))


def _verdict(verdict: Verdict) -> State:
    return State(f'backupready_verdict{{verdict="{verdict.value}"}}', "verdict")


def _problem(code: str) -> State:
    return State(f'backupready_problem_active{{problem="{code}"}}', "problem, effect")


def _known(code: str) -> str:
    """That a problem was there on a day before this one. A machine that is off at night, or from Friday to Monday, is
    never scraped for a whole day, so that no `for` of a day ends there."""
    return f'{_THIS_MACHINE} max_over_time(backupready_problem_active{{problem="{code}"}}[3d] offset 1d) == 1'


def _reasons(effect: Effect, series: str = _ACTIVE) -> str:
    """The codes of this machine's problems with an effect, for a description."""
    asked = f'printf `{series}{_THIS},effect="{effect.value}"}} == 1` {_ON} | sortByLabel "problem"'
    return "{{ range " + asked + " }} {{ .Labels.problem }}{{ else }} nothing at this moment{{ end }}"


def _grown(series: str, matchers: str, own: str, span: str) -> str:
    """By how much counters with the labels `own` have grown, also those that are new: they have no series before the
    first time, and that is no growth to increase(). One that was only not told then had what it had before, and a
    change of the target's other labels, such as a tag of the VM, makes none new. A machine that was not scraped then
    says nothing."""
    selector, same = f"{series}{{{matchers}}}", f"(job, instance, {own})"
    before = (
        f"max by {same} ({selector} offset {span})",
        f"max by {same} (max_over_time({selector}[1d] offset {span}))",
        f"max by {same} ({selector}) * 0",
    )
    grown = f"{selector} - on {same} group_left () (\n" + "\nor ".join(before) + "\n) > 0"
    return f"({grown})\nand {_THIS_MACHINE} backupready_build_info offset {span}"


# ------------------------------------------------------------------------------------------------------- the symptom

_FAILS = (
    "`backupready status` on the machine, or its status page, tells the reasons, gravest first, with what was seen;"
    " each has its own page here and its own alert of severity info."
)
MACHINE = (
    Alert(
        "BackupreadyNextBackupWillFail",
        "verdict",
        "The next backup of {{ $labels.instance }} will fail",
        (
            Rule(
                "critical",
                "10m",
                f"The window is near or open. What blocks the backup:{_reasons(Effect.BLOCKS)}. {_WHEN}",
                (_verdict(Verdict.BLOCKED), _NEAR),
            ),
            Rule(
                "warning",
                "15m",
                f"What blocks the backup:{_reasons(Effect.BLOCKS)}. {_WHEN}",
                (_verdict(Verdict.BLOCKED),),
            ),
        ),
        meaning="The verdict is `blocked`: something is known to be so that a backup cannot succeed. It is a warning as"
        " long as that lasts, so that it does not come and go with the windows, and critical besides from the lead time"
        " of a window until its backup has ended. Where windows are not known, it stays a warning.",
        impact="There will be no restore point of the next window.",
        diagnosis=_FAILS,
        mitigation="Do what the page of the first reason says. If the window has begun meanwhile, start a backup by"
        " hand afterwards.",
        source=_TROUBLESHOOTING,
    ),
    Alert(
        "BackupreadyNextBackupDegraded",
        "verdict",
        "The next backup of {{ $labels.instance }} will only be crash-consistent, or late",
        (
            Rule(
                "warning",
                "30m",
                f"What degrades the backup:{_reasons(Effect.DEGRADES)}. {_WHEN}",
                (_verdict(Verdict.DEGRADED),),
            ),
        ),
        meaning="The verdict is `degraded`: the backup will succeed, but not as it should.",
        impact="What had not been written to the disks is not in the restore point, or the backup comes late.",
        diagnosis=_FAILS,
        mitigation="Do what the page of the first reason says.",
        source=_INTRODUCTION,
    ),
    Alert(
        "BackupreadyNextBackupAtRisk",
        "verdict",
        "The next backup of {{ $labels.instance }} may fail",
        (
            Rule(
                "warning",
                "15m",
                f"The window is near or open. What may break the backup:{_reasons(Effect.RISKS)}. {_WHEN}",
                (_verdict(Verdict.AT_RISK), _NEAR),
            ),
        ),
        meaning="The verdict is `at_risk` in the lead time of a window, or while it is open. Outside of that, the"
        " alerts of the problems tell the risks.",
        impact="The backup may fail, or may not; nothing is known that blocks it.",
        diagnosis=_FAILS,
        mitigation="Do what the page of the first reason says, or look at the outcome of the window.",
        source=_TROUBLESHOOTING,
    ),
    Alert(
        "BackupreadyUnknown",
        "verdict",
        "Whether the next backup of {{ $labels.instance }} will succeed cannot be told",
        (
            Rule(
                "warning",
                "15m",
                f"What might block it, and cannot be told:{_reasons(Effect.BLOCKS, _UNKNOWN)}. {_WHEN}",
                (_verdict(Verdict.UNKNOWN),),
                _VOID,
            ),
        ),
        meaning="The verdict is `unknown`: nothing is known to be wrong that blocks the backup, but something that"
        " could block it could not be looked at. That is no sign of health. A machine that is none of Azure's is"
        " left out.",
        impact="The next backup may fail without a warning.",
        diagnosis="`backupready status` on the machine tells what cannot be told, and why not.",
        mitigation="Remove what keeps the probes from looking; BackupreadyProbeCannotTell names them.",
        source=_MANUAL,
    ),
    Alert(
        "BackupreadyBackupOverdue",
        PROBLEMS["BACKUP_OVERDUE"].cause.value,
        "There has been no good backup of {{ $labels.instance }} for too long",
        (
            Rule("warning", "15m", _LAST_GOOD, (_problem("BACKUP_OVERDUE"),)),
            Rule(
                "critical",
                "15m",
                f"That is known for a day. {_LAST_GOOD}",
                (_problem("BACKUP_OVERDUE"),),
                # It is not told while a machine starts, which is no end of it.
                f"and {_known('BACKUP_OVERDUE')}\n"
                f'and {_THIS_MACHINE} avg_over_time(backupready_problem_active{{problem="BACKUP_OVERDUE"}}[1d]) > 0.9',
            ),
        ),
        problem="BACKUP_OVERDUE",
    ),
    Alert(
        "BackupreadyWindowUnknown",
        PROBLEMS["WINDOW_UNKNOWN"].cause.value,
        "It is not known when backups of {{ $labels.instance }} start",
        (
            Rule(
                "warning",
                "15m",
                "For a day no schedule is configured, and none could be learned: nothing about this machine becomes"
                f" critical before a window. {_LAST_GOOD}",
                (_problem("WINDOW_UNKNOWN"),),
                # While it is not there it has no series, but a window has one.
                f"and {_known('WINDOW_UNKNOWN')}\n"
                f"unless {_THIS_MACHINE} max_over_time(backupready_window_next_start_timestamp_seconds[1d])",
            ),
        ),
        problem="WINDOW_UNKNOWN",
    ),
)


# ------------------------------------------------------------------------------------------------------ each problem


def _of_problem(problem: Problem) -> Alert:
    milder = "" if problem.code in TOLD_NOTICES else ',effect!="notice"'
    return Alert(
        alert_name(problem.code),
        problem.cause.value,
        f"{problem.title} ({{{{ $labels.instance }}}})",
        (
            Rule(
                "info",
                "5m",
                "What that does to the next backup: {{ $labels.effect }}. `backupready explain "
                + problem.code
                + "` tells more, and `backupready status` what was seen.",
                expression=f'backupready_problem_active{{problem="{problem.code}"{milder}}} == 1',
            ),
        ),
        problem=problem.code,
    )


_ELSEWHERE = {
    "BACKUP_OVERDUE",
    "WINDOW_UNKNOWN",
    "FIX_LIMIT_REACHED",
    "TEMPORARY_CHANGE_OVERDUE",
}  # they are told with more weight
EACH = tuple(
    _of_problem(problem)
    for code, problem in sorted(PROBLEMS.items())
    if code not in _ELSEWHERE and (problem.effect is not Effect.NOTICE or code in TOLD_NOTICES)
)


# --------------------------------------------------------------------------------------------------- we ourselves

_UP = f'up{{job=~"{JOB}.*"}}'
# Where node_exporter reads a text file of ours, the machine is a target of that one's job. The default of
# textfile.interval is a minute.
_TEXT_FILE_DAY = f'max_over_time(backupready_build_info{{job!~"{JOB}.*"}}[1d])'
_TEXT_FILE_SECONDS = 600
_NEWEST_LOOK = "backupready_probe_last_run_timestamp_seconds"
_INTERVAL = "backupready_probe_interval_seconds"  # of what is set longer than usual alone
_BAD_ENDS = "|".join(result.value for result in (Result.FAILED, Result.INTERRUPTED, Result.WORSE))
_JOURNAL = "`journalctl -u backupready -u 'backupready-look@*'` on the machine."


def _stale() -> str:
    """Each probe's newest look against the newest of all, both by the machine's own clock."""
    longest = {p.name: max(_STALE_INTERVALS * int(p.interval.total_seconds()), _STALE_AT_LEAST) for p in probes.PROBES}
    parts = []
    for limit, names in groupby(sorted(longest, key=lambda name: (longest[name], name)), key=longest.__getitem__):
        series = f'{_NEWEST_LOOK}{{probe=~"{"|".join(names)}"}}'
        parts.append(f"({_behind(series)} > {limit})")
    slower = f"({_behind(_NEWEST_LOOK)} > {_STALE_INTERVALS} * {_INTERVAL} > {_STALE_AT_LEAST})"
    usual = "(\n" + "\nor ".join(parts) + f"\n) unless {_INTERVAL}"
    return f"(\n{usual}\nor {slower}\n)\n{_VOID}"


def _behind(series: str) -> str:
    return f"-({series} - ignoring (probe) group_left () max without (probe) ({_NEWEST_LOOK}))"


SELF = (
    Alert(
        "BackupreadyDown",
        "backupready",
        "backupready on {{ $labels.instance }} cannot be scraped",
        (
            Rule(
                "warning",
                "10m",
                "up is {{ $value }} for 10 minutes.",
                expression=f'{_UP} == 0\nor up{{job!~"{JOB}.*"}} == 0 and {_THIS_MACHINE} {_TEXT_FILE_DAY}',
            ),
        ),
        meaning="Prometheus does not get the metrics of this machine: the machine or the daemon does not run, or the"
        " way to it is closed. Where node_exporter reads them from a text file, it is node_exporter that cannot be"
        " scraped; the alert ends after a day by itself there.",
        impact="Nobody says whether the next backup of this machine will succeed. Azure backs up a machine that is"
        " off.",
        diagnosis="Is the machine on? `systemctl status backupready`; web.listen_address, and the firewall between.",
        mitigation="Start the machine or the daemon; a machine that is gone for good leaves the scrape configuration.",
        source=_TARGETS,
    ),
    Alert(
        "BackupreadyAbsent",
        "backupready",
        "Prometheus knows no machine with backupready",
        (
            Rule(
                "critical",
                "15m",
                f"No job whose name begins with {JOB} has a target: absent() is {{{{ $value }}}}.",
                expression=f"absent({_UP})\n"
                f"unless on () (backupready_build_info unless on () max_over_time({_UP}[6h]))",
            ),
        ),
        meaning=f"The scrape configuration has no target of a job whose name begins with `{JOB}`, so that no other"
        " alert can fire. Where node_exporter reads text files of ours and there has been no such target for six"
        " hours, none is missed.",
        impact="No machine is watched.",
        diagnosis="The page of targets of Prometheus, and its service discovery.",
        mitigation=f"Mend the discovery, or begin the job's name with `{JOB}`.",
        source=_ABSENT,
    ),
    Alert(
        "BackupreadyGone",
        "backupready",
        "{{ $labels.instance }} is no target any more",
        (
            Rule(
                "info",
                "15m",
                "Version {{ $labels.version }} was scraped there six hours ago; it is not a target now.",
                expression=f"backupready_build_info offset 6h unless {_THIS_MACHINE} up",
            ),
        ),
        meaning="A machine that was scraped six hours ago is not in the scrape configuration any more. Alerts of it"
        " have ended with its series, not since it is well.",
        impact="None where it was taken down; otherwise it is not watched. The alert ends after six hours by itself.",
        diagnosis="Whether the machine is still there, and what the service discovery says of it.",
        mitigation="Put it back, or nothing.",
        source=_STALENESS,
    ),
    Alert(
        "BackupreadySilent",
        "backupready",
        "{{ $labels.instance }} answers, but tells no verdict",
        (
            Rule(
                "warning",
                "10m",
                "up is {{ $value }}, and there is no backupready_verdict.",
                expression=f"{_UP} == 1 unless {_THIS_MACHINE} backupready_verdict",
            ),
        ),
        meaning="The target answers, and the answer has no verdict in it: something else listens there, or relabelling"
        " drops the series.",
        impact="Nobody says whether the next backup of this machine will succeed.",
        diagnosis="Fetch /metrics of the target; `metric_relabel_configs` of the job.",
        mitigation="Mend the target's address or the relabelling.",
        source=_RELABELLING,
    ),
    Alert(
        "BackupreadyTextFileStale",
        "backupready",
        "The text file of backupready on {{ $labels.instance }} is old",
        (
            Rule(
                "warning",
                "5m",
                "{{ $labels.file }} was written {{ $value | humanizeDuration }} ago; node_exporter goes on telling what"
                " it says.",
                expression='time() - node_textfile_mtime_seconds{file=~".*backupready.*"} > ' + str(_TEXT_FILE_SECONDS),
            ),
        ),
        meaning="The daemon writes a file for node_exporter (`textfile.path`) once a minute, unless textfile.interval"
        " is set otherwise, and has not written it for ten minutes. Only a file with backupready in its path is"
        " looked for.",
        impact="The verdict that Prometheus has of this machine is old, and looks as if it were not.",
        diagnosis="`systemctl status backupready`; `journalctl -u backupready` tells why it cannot be written."
        " `ls -l --time-style=full-iso` of the file and `date`, where the clock of the machine may be wrong.",
        mitigation="Start the daemon, or mend what keeps it from writing. Where textfile.interval is longer than two"
        " minutes, lengthen the limit in this rule to some of its intervals.",
        source=_TEXT_FILES,
    ),
    Alert(
        "BackupreadyTextFileGone",
        "backupready",
        "Nothing of backupready on {{ $labels.instance }} comes through node_exporter any more",
        (
            Rule(
                "warning",
                "10m",
                "The metrics of backupready came through node_exporter within the last day, and do not now.",
                expression=(
                    f"max without (version, python) ({_TEXT_FILE_DAY})\n"
                    f"unless {_THIS_MACHINE} backupready_build_info\n"
                    f"and {_THIS_MACHINE} up == 1"
                ),
            ),
        ),
        meaning="The daemon removes its text file when it stops, or node_exporter cannot read the file. The alert ends"
        " after a day by itself; a file that never was is not missed.",
        impact="Nobody says whether the next backup of this machine will succeed.",
        diagnosis="`systemctl status backupready`; the file that textfile.path names, and the directory that"
        " node_exporter reads; `node_textfile_scrape_error` of the machine.",
        mitigation="Start the daemon, or mend what keeps node_exporter from the file. Where the machine is scraped by"
        " itself now, or has no backupready any more: nothing.",
        source=_TEXT_FILES,
    ),
    Alert(
        "BackupreadyNotLooking",
        "backupready",
        "backupready on {{ $labels.instance }} does not look any more",
        (
            Rule(
                "warning",
                "5m",
                "Looks begun within an hour: {{ $value }}.",
                expression="increase(backupready_looks_total[1h]) == 0",
            ),
        ),
        meaning="The daemon answers scrapes, but has begun no look for an hour. Probes look every five minutes unless"
        " they are set otherwise.",
        impact="What is told is old, and becomes unknown.",
        diagnosis=_JOURNAL,
        mitigation="`systemctl restart backupready`; where it comes again, report it with the journal. Where every"
        " probe is set to look less than once an hour, lengthen the range in this rule.",
        source=_LOOKING,
    ),
    Alert(
        "BackupreadyLooksFailing",
        "backupready",
        "Looks on {{ $labels.instance }} fail",
        (
            Rule(
                "warning",
                "15m",
                "Share of the looks within 30 minutes that failed: {{ $value | humanizePercentage }}.",
                expression=(
                    "increase(backupready_looks_failed_total[30m]) / (increase(backupready_looks_total[30m]) > 0) > 0.5"
                ),
            ),
        ),
        meaning="More than half of the looks died, hung, or answered what cannot be used.",
        impact="What they should see becomes unknown.",
        diagnosis=f"{_JOURNAL} `systemctl status backupready-look.socket`.",
        mitigation="`systemctl restart backupready-look.socket`; for a look that hangs, what BackupreadyUnknown's page"
        " says.",
        source=_UNITS,
    ),
    Alert(
        "BackupreadyProbeStale",
        "backupready",
        "The probe {{ $labels.probe }} on {{ $labels.instance }} does not look any more",
        (
            Rule(
                "warning",
                "5m",
                "Its newest look is {{ $value | humanizeDuration }} older than the newest of another probe.",
                expression=_stale(),
            ),
        ),
        meaning="One probe has not looked for six times its interval, while others do.",
        impact="What it should see is unknown.",
        diagnosis=f"{_JOURNAL} `backupready status` tells how its newest look ended.",
        mitigation="What keeps it from looking is told there.",
        source=_LOOKING,
    ),
    Alert(
        "BackupreadyProbeCannotTell",
        "backupready",
        "The probe {{ $labels.probe }} on {{ $labels.instance }} cannot tell",
        (
            Rule(
                "info",
                "1h",
                "backupready_probe_success is {{ $value }} for an hour.",
                expression=f"backupready_probe_success == 0\n{_VOID}",
            ),
        ),
        meaning="For an hour no look of this probe could find out what it is for.",
        impact="What it should see is unknown; where that could block the backup, so is the verdict.",
        diagnosis="`backupready status` tells why it cannot.",
        mitigation="Remove what keeps it from looking, or switch the probe off where it has nothing to look at.",
        source=_SETTINGS,
    ),
    Alert(
        "BackupreadyProbeDefect",
        "backupready",
        "A defect of backupready on {{ $labels.instance }}",
        (
            Rule(
                "info",
                "0m",
                "Looks of a probe within an hour that ended in a defect: {{ $value | humanize }}.",
                expression="increase(backupready_probe_defects_total[1h]) > 0",
            ),
        ),
        meaning="A probe stumbled over something that it is not made for.",
        impact="What it should see is unknown.",
        diagnosis=f"{_JOURNAL} It has the traceback, once for each distinct defect.",
        mitigation="Report it with the traceback; until then the probe can be switched off.",
        source=_MANUAL,
    ),
    Alert(
        "BackupreadyConfigReloadFailed",
        "backupready",
        "backupready on {{ $labels.instance }} has not taken over its configuration",
        (
            Rule(
                "warning",
                "5m",
                "backupready_config_last_reload_successful is {{ $value }}.",
                expression="backupready_config_last_reload_successful == 0",
            ),
        ),
        meaning="The configuration has a mistake, and the daemon goes on with the one that it has.",
        impact="A change has no effect, and the daemon would not start with it.",
        diagnosis="`backupready config check` names each mistake with its line.",
        mitigation="Mend it, then `systemctl reload backupready`.",
        source=_SIGNALS,
    ),
    Alert(
        "BackupreadyWebConfigReloadFailed",
        "backupready",
        "backupready on {{ $labels.instance }} has not taken over its web configuration",
        (
            Rule(
                "warning",
                "5m",
                "backupready_web_config_last_reload_successful is {{ $value }}.",
                expression="backupready_web_config_last_reload_successful == 0",
            ),
        ),
        meaning="The file that web.config_file names, or a certificate that it names, has changed and cannot be used,"
        " or no longer has what guarded the server. The daemon goes on with what it has.",
        impact="A change of users has no effect, nor has a renewed certificate: once the old one has expired, the"
        " machine cannot be scraped. The daemon would not start with a file that has a mistake, and would be open with"
        " one that was cut off.",
        diagnosis=f"`backupready config check` names each mistake with its line. {_JOURNAL}",
        mitigation="Mend it; the next connection takes it over. If less is meant, `systemctl reload backupready`.",
        source=_WEB_CONFIG,
    ),
    Alert(
        "BackupreadyCannotKeep",
        "backupready",
        "backupready on {{ $labels.instance }} cannot write what it should remember",
        (
            Rule(
                "warning",
                "15m",
                "Writes within 30 minutes that failed: {{ $value | humanize }}.",
                expression=(
                    "increase(backupready_state_writes_failed_total[30m])"
                    " + increase(backupready_history_writes_failed_total[30m]) > 0"
                ),
            ),
        ),
        meaning="The state directory or the history cannot be written.",
        impact="After a restart the daemon does not know since when things are as they are; schedules are not learned.",
        diagnosis=f"{_JOURNAL} `df /var/lib/backupready`.",
        mitigation="Make room, or mend the file system.",
        source=_FILES,
    ),
    Alert(
        "BackupreadyPredictionWrong",
        "backupready",
        "A backup of {{ $labels.instance }} ended otherwise than backupready had said",
        (
            Rule(
                "warning",
                "15m",
                "Predicted: {{ $labels.predicted }}; happened: {{ $labels.happened }}; within a day: {{ $value }}.",
                expression="\nor ".join(
                    _grown("backupready_predictions_total", wrong, "predicted, happened", "1d")
                    for wrong in (
                        'predicted=~"ready|degraded",happened=~"failed|missed"',
                        'predicted="blocked",happened=~"succeeded|crash_consistent"',
                    )
                ),
            ),
        ),
        meaning="A window that was called ready or degraded passed without a backup or with one that failed; or one"
        " that was called blocked has one that succeeded. What failed through nothing on the machine is left out."
        " The alert ends a day after the window.",
        impact="Something is wrong that no probe sees, or a probe sees what is not wrong.",
        diagnosis="`backupready status` and `backupready explain NUMBER` with the code of that run; the job in the"
        " portal.",
        mitigation="Mend what the run tells, and report what no probe has seen.",
        source=_TROUBLESHOOTING,
    ),
    Alert(
        "BackupreadyFixLimitReached",
        fixes.FIX_LIMIT_REACHED.cause.value,
        "A problem on {{ $labels.instance }} stays, and is not fixed any more",
        (
            Rule(
                "warning",
                "5m",
                f"What blocks the next backup:{_reasons(Effect.BLOCKS)}. {_WHEN}",
                (_problem("FIX_LIMIT_REACHED"),),
            ),
        ),
        problem="FIX_LIMIT_REACHED",
    ),
    Alert(
        "BackupreadyFixRequestsFailed",
        "backupready",
        "backupready on {{ $labels.instance }} cannot ask for fixes",
        (
            Rule(
                "warning",
                "5m",
                "Requests within 30 minutes that got no answer: {{ $value | humanize }}.",
                expression="increase(backupready_fix_requests_failed_total[30m]) > 0",
            ),
        ),
        meaning="The part that fixes was asked, and did not answer. A fix that is refused is an answer.",
        impact="What could be fixed by itself is not.",
        diagnosis="`systemctl status backupready-fix.socket`, `journalctl -u 'backupready-fix@*'`.",
        mitigation="`systemctl restart backupready-fix.socket`; fix the problem by hand meanwhile.",
        source=_UNITS,
    ),
    Alert(
        "BackupreadyFixDoorClosed",
        "backupready",
        "backupready on {{ $labels.instance }} is to fix, and cannot",
        (
            Rule(
                "warning",
                "15m",
                "fix.mode is on, and backupready_fix_door_open is {{ $value }}.",
                expression=f'backupready_fix_door_open == 0 and {_THIS_MACHINE} backupready_fix_mode{{mode="on"}} == 1',
            ),
        ),
        meaning="The configuration lets backupready fix, but the socket through which it asks is not there.",
        impact="What could be fixed by itself is not.",
        diagnosis="`systemctl status backupready-fix.socket`.",
        mitigation="`systemctl enable --now backupready-fix.socket`, or set fix.mode to observe or off.",
        source=_FIXING,
    ),
    Alert(
        "BackupreadyFixFailed",
        "backupready",
        "A fix on {{ $labels.instance }} ended badly",
        (
            Rule(
                "warning",
                "0m",
                "{{ $labels.remedy }} ended as {{ $labels.result }}; within an hour: {{ $value }}.",
                expression=_grown("backupready_fix_attempts_total", f'result=~"{_BAD_ENDS}"', "remedy, result", "1h"),
            ),
        ),
        meaning="A step of a fix could not be done, it was cut off, or something new was wrong after it. What could be"
        " undone has been undone. The alert ends after an hour by itself.",
        impact="The problem is still there, and what could not be undone is left as it is.",
        diagnosis="`backupready status` tells the attempt, why it ended so, and what is left.",
        mitigation="Fix the problem by hand, and what is left of the attempt.",
        source=_FIXING,
    ),
    Alert(
        "BackupreadyTemporaryChangeOverdue",
        fixes.TEMPORARY_CHANGE_OVERDUE.cause.value,
        "A temporary change on {{ $labels.instance }} has not been undone",
        (
            Rule(
                "warning",
                "5m",
                "Still in force:" + _OVER + ".",
                (_problem("TEMPORARY_CHANGE_OVERDUE"),),
            ),
        ),
        problem="TEMPORARY_CHANGE_OVERDUE",
    ),
)


# --------------------------------------------------------------------------------------------------------- the fleet

_SOON = "(backupready_window_next_start_timestamp_seconds - time() < 86400)"
RECORDINGS = (
    Recording(
        "job_verdict:backupready_machines:sum",
        "sum by (job, verdict) (backupready_verdict)",
        "How many machines have which verdict.",
    ),
    Recording(
        "job_verdict:backupready_machines_within_a_day:sum",
        "sum by (job, verdict) (\n"
        f"  backupready_verdict and {_THIS_MACHINE} {_SOON}\n"
        f'  or backupready_verdict and {_THIS_MACHINE} backupready_phase{{phase="open"}} == 1\n'
        ")",
        "Of those whose window is open or starts within a day: who fails tonight.",
    ),
    Recording(
        "job:backupready_machines_window_unknown:count",
        f"count by (job) (backupready_build_info unless {_THIS_MACHINE}"
        " backupready_window_next_start_timestamp_seconds)",
        "How many machines are in neither, since their window is not known.",
    ),
    Recording(
        "job_start:backupready_machines:count",
        'count_values by (job) ("start", backupready_window_next_start_timestamp_seconds)',
        "How many machines share the start of their next window; start is in seconds since the epoch.",
    ),
    Recording(
        "instance:backupready_last_success_age_seconds:sub",
        "time() - backupready_backup_last_success_timestamp_seconds",
        "How long ago the last good backup of each machine ended.",
    ),
    Recording(
        "job:backupready_machines_without_success:count",
        f"count by (job) (\n  backupready_build_info unless {_THIS_MACHINE}"
        " backupready_backup_last_success_timestamp_seconds"
        "\n)",
        "How many machines have no good backup on record, so that the age says nothing of them.",
    ),
)
FLEET = (
    Alert(
        "BackupreadyManyShareStart",
        "schedule",
        "{{ $value }} machines start their backup at the same moment",
        (
            Rule(
                "info",
                "1h",
                "The next windows of {{ $value }} machines of the job {{ $labels.job }} all start at {{"
                " $labels.start }} (seconds since the epoch).",
                expression=f"job_start:backupready_machines:count > {MANY_STARTS}",
            ),
        ),
        meaning="Many machines begin their backup at one moment. Azure names no number that would be too many; the"
        " one in this rule may be changed.",
        impact="Jobs wait in Azure's queue, and disks and networks that machines share are busy all at once.",
        diagnosis="The series `job_start:backupready_machines:count` by its label start.",
        mitigation="Spread the schedules: several policies with different times.",
        source=_INTRODUCTION,
    ),
)

GROUPS = (
    Group("backupready-fleet", FLEET, RECORDINGS),
    Group("backupready-machine", MACHINE),
    Group("backupready-problem", EACH),
    Group("backupready-self", SELF),
)
ALERTS = tuple(alert for group in GROUPS for alert in group.alerts)


def of_problem(code: str) -> Alert | None:
    """The alert that tells a problem."""
    return next((alert for alert in ALERTS if alert.problem == code), None)


# ---------------------------------------------------------------------------------------------------------- rendered

_HEAD = f"""\
# Rendered from the declarations of backupready; `make render` does it again.
#
# Scrape the machines as the job "{JOB}", or as several jobs whose names all begin with that, once a minute or
# more often; no other job may be named so, not even one of node_exporter that reads text files of backupready:
#   scrape_configs:
#     - job_name: {JOB}
#       scrape_interval: {SCRAPE_SECONDS}s
#       static_configs: [{{targets: ["10.0.0.4:10168"]}}]
# The runbook is packaging/runbook in the source, runbook below the package's documentation. It is on no server that
# could be named here, so its address is one that cannot exist; put yours in its place:
#   backupready rules --runbook ADDRESS
# Each machine serves it too; where readers reach the machines, ADDRESS may be
#   'http://{{{{ $labels.instance }}}}/runbook'
# That is right for a target scraped by plain HTTP whose instance is HOST:PORT, as it is by itself: not of a text file
# (that instance is node_exporter's), and not with config/prometheus.yml, which names an instance otherwise. What is no
# machine's (BackupreadyAbsent, BackupreadyManyShareStart) keeps the address that cannot exist.
#
# severity: critical pages somebody, warning is for the working day, info is to be read beside them and tells nobody.
# cause: the part of the machine; verdict for the symptom, backupready for this program, schedule for the fleet.
"""
_PLAIN_HEAD = f"""\
#
# For Prometheus 2.24 and later. From 2.42 on alerts-keep-firing.yml can be used instead; load one of the two. In this
# one a state that is interrupted for less than {HELD} counts as going on, before the alert fires and after.
"""
_KEPT_HEAD = f"""\
#
# For Prometheus 2.42 and later, instead of alerts.yml: the same alerts with the same labels. What is interrupted goes
# on firing for {HELD} here by keep_firing_for; before it fires, it must have been so without an interruption. Use it
# where that is wanted, and alerts.yml where a failed scrape must not begin the waiting anew.
"""


def rules(keep_firing: bool = False, runbook: str = RUNBOOK) -> str:
    """The file of rules, YAML; `keep_firing` makes use of keep_firing_for, `runbook` is the address of the pages, which
    may be a template with the labels of a machine."""
    lines = [_HEAD + (_KEPT_HEAD if keep_firing else _PLAIN_HEAD), "groups:"]
    for group in GROUPS:
        lines += [f"  - name: {group.name}", "    rules:"]
        for recording in group.recordings:
            lines += [f"      # {recording.help}", f"      - record: {recording.name}", *_block(recording.expr)]
        for alert in group.alerts:
            for rule in alert.rules:
                lines += _rule(alert, rule, keep_firing, runbook)
    return "\n".join(lines) + "\n"


def _rule(alert: Alert, rule: Rule, keep_firing: bool, runbook: str) -> Iterator[str]:
    yield f"      - alert: {alert.name}"
    yield from _block(rule.expr(held=not keep_firing))
    yield f"        for: {rule.after}"
    if keep_firing and rule.states:
        yield f"        keep_firing_for: {HELD}"
    yield "        labels:"
    yield f"          severity: {rule.severity}"
    yield f"          cause: {alert.cause}"
    yield "        annotations:"
    yield f"          summary: {_quoted(alert.summary)}"
    yield f"          description: {_quoted(rule.description)}"
    address = runbook if alert.of_machine or "$labels" not in runbook else RUNBOOK
    yield f"          runbook_url: {_quoted(f'{address}/{alert.page}')}"


def _block(expr: str) -> Iterator[str]:
    yield "        expr: |-"
    yield from (f"          {line}" for line in expr.splitlines())


def _quoted(text: str) -> str:
    """As YAML takes it, of the two manners the one that needs no escapes; JSON's is one of them."""
    return "'" + text.replace("'", "''") + "'" if '"' in text else json.dumps(text, ensure_ascii=False)
