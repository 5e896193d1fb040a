"""A history of backups as the extension would have left it: its status files, its settings and its log. Pure.

Built from what the extension's source does (the dossier's c.3 to c.7), for unit tests and for a booted guest alike.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

NAME = "Microsoft.Azure.RecoveryServices.VMSnapshotLinux"
LOG = f"var/log/azure/{NAME}/extension.log"
V2, V1 = "microsoft.compute/virtualmachines", "microsoft.classiccompute/virtualmachines"
_YELLOW = (11, 16, 121, 122, 123, 124, *range(300, 319), *range(500, 513))
_RED = (15, 76, 85, 402, 761)
PROVIDER = (
    "Failed to construct ConfigurationProvider, which may be due to the old code with error: list index out of range,"
    " stack trace: Traceback (most recent call last):\n"
    '  File "main/HttpUtil.py", line 48, in __new__\n'
    "    Config = waagent.ConfigurationProvider(None)\n"
    "TypeError: sequence item 1: expected str instance, NoneType found\n"
)


@dataclass(frozen=True)
class Run:
    """One backup that ended at `ended` (seconds since the epoch) with `code`.

    `consistency` is what the extension writes (0 none, 1 file system, 2 application, 3 crash); of a success it writes
    0, since it compares a text with a number. `path` is host or guest, `host` what presnapshot and dosnapshot
    answered, `lines` what else its log says. A code of 4 is a run that has not ended.
    """

    ended: float
    code: int = 1
    seconds: int = 40
    health: int | None = None
    consistency: int = 0
    path: str = "host"
    host: tuple[int, int] = (200, 200)
    lines: tuple[str, ...] = ()
    message: str = ""
    vm_type: str = V2
    text_codes: bool = True  # as the extension writes them
    logged: bool = True


def history(runs: Sequence[Run], version: str = "1.0.9220.0", first: int = 1, old_log: bool = False) -> dict[str, str]:
    """Path below the root → text. The newest run's files are N.status and N.settings, the others' N_status and so on,
    of which the extension keeps 60; `old_log` writes the log's lines as before 2022."""
    handler = f"var/lib/waagent/{NAME}-{version}"
    files: dict[str, str] = {}
    log: list[str] = []
    for number, run in enumerate(runs, first):
        newest = number == first + len(runs) - 1
        if number >= first + len(runs) - 61:
            dot = "." if newest else "_"
            files[f"{handler}/status/{number}{dot}status"] = status(run, number)
            files[f"{handler}/config/{number}{dot}settings"] = settings(run, number)
        if run.logged:
            log += _log(run, number, old_log)
    if runs:
        files[f"{handler}/mrseq"] = str(first + len(runs) - 1)
    files[LOG] = "".join(log)
    return files


def task(number: int) -> str:
    return f"5c1e0000-0000-4000-8000-{number:012d}"


def ticks(moment: float) -> str:
    """.NET's."""
    return str(621_355_968_000_000_000 + int(moment * 10_000_000))


def settings(run: Run, number: int) -> str:
    """N.settings, without its protected part, which the extension removes."""
    public = {
        "commandToExecute": "snapshot",
        "taskId": task(number),
        "locale": "en-us",
        "commandStartTimeUTCTicks": ticks(run.ended - run.seconds - 20),
        "vmType": run.vm_type,
        "customSettings": json.dumps({"isManagedVm": True, "canTakeCrashConsistentSnapshot": False}),
    }
    return json.dumps({"runtimeSettings": [{"handlerSettings": {"publicSettings": public}}]})


def _message(run: Run) -> str:
    if run.message:
        return run.message
    if run.code == 4:
        return "Transitioning state in extension"
    if run.code in (0, 1):
        return f"Enable Succeeded with {'App' if run.code == 0 else 'File System'} Consistent Snapshot"
    return f"T:S Enable failed with code {run.code} error StatusCode.{run.code},"


def status(run: Run, number: int) -> str:
    """The status file of a run."""
    creator = "backupHostService" if run.path == "host" else "guestExtension"
    telemetry = {
        "guestAgentVersion": "2.15.0.1",
        "snapshotCreator": creator,
        "hostStatusCodePreSnapshot": str(run.host[0]),
        "hostStatusCodeDoSnapshot": str(run.host[1]),
        "consistencyType": "crashConsistent" if run.consistency == 3 else "none",
    }
    noted = "".join(f"{key}={telemetry[key]}, " for key in list(telemetry)[1:4])
    told = {
        "messageStr": _message(run) + noted,
        "snapshotConsistency": run.consistency,
        "jobMessage": "",
        "isSizeComputationFailed": False,
    }
    health = run.code if run.health is None else run.health
    colour = 128 if health in _YELLOW else 256 if health in _RED else 0
    common: dict[str, Any] = {
        "name": NAME,
        "operation": "Enable",
        "code": str(run.code) if run.text_codes else run.code,
        "taskId": task(number),
        "formattedMessage": {"lang": "en-US", "message": json.dumps(told)},
        "storageDetails": {
            "partitionCount": 2,
            "totalUsedSizeInBytes": 1 << 33,
            "isStoragespacePresent": False,
            "isSizeComputationFailed": False,
        },
        "commandStartTimeUTCTicks": ticks(run.ended - run.seconds - 20),
        "uniqueMachineId": "",
    }
    word = "success" if run.code in (0, 1, 3, 4) else "error"
    inner = {
        "version": "1.0",
        "timestampUTC": "DATE",
        "status": {
            **common,
            "status": word,
            "substatus": [],
            "telemetryData": [{"Key": key, "Value": value} for key, value in telemetry.items()],
            "snapshotInfo": None,
            "vmHealthInfo": {"vmHealthState": colour, "vmHealthStatusCode": health},
        },
    }
    name = json.dumps([inner]).replace("DATE", f"\\/Date({int(run.ended * 1000)})\\/")
    outer = {
        **common,
        "status": "success" if run.vm_type == V2 else word,
        "substatus": [{"code": "0", "name": name, "status": "success", "formattedMessage": None}],
        "telemetryData": None,
        "snapshotInfo": None,
        "vmHealthInfo": None,
    }
    return json.dumps([{"version": "1.0", "timestampUTC": _utc(run.ended, "%Y-%m-%dT%H:%M:%SZ"), "status": outer}])


def _utc(moment: float, form: str) -> str:
    return datetime.fromtimestamp(moment, timezone.utc).strftime(form)


def _log(run: Run, number: int, old: bool) -> list[str]:
    # The status of one that has not ended is as old as its beginning.
    begun = run.ended - (run.seconds if run.code != 4 else 2)
    stamp = "%Y/%m/%d %H:%M:%S" if old else "%Y-%m-%d %H:%M:%S.%f"
    version = "1.0.9110.0" if old else "1.0"

    def line(moment: float, text: str) -> str:
        return f"{_utc(moment, stamp)} [{NAME}-{version}]{text}\n"

    def held(moment: float, text: str) -> str:
        return f"{_utc(moment, '%Y/%m/%d %H:%M:%S.%f')}  Info  {text} \n"

    transitional = "Enable,success,4,Transitioning state in extension,False"
    lines = [
        line(begun - 1, "try_parse_context : Sequence Number received -1"),
        line(begun - 1, f"sequence number based on config file-names is {number}"),
        line(begun, "starting enable"),
        line(begun, f"set most recent sequence number to {number}"),
        line(begun, f"taskId: {task(number)}"),
        line(begun + 1, transitional),
        line(begun + 1, f"sequence number based on config file-names is {number}"),
        line(begun + 2, "starting daemon initially"),
        line(begun + 2, transitional),
        *(line(begun + 3, text) for text in run.lines),
    ]
    if run.code == 4:
        return lines
    if run.path == "host":
        lines.append(line(begun + 3, f"PreSnapshot: Status Code: {run.host[0]}"))
    who = "Host" if run.path == "host" else "Guest-parallel"
    lines += [
        line(begun + 4, "****** 1. Starting Freeze Binary"),
        line(begun + 8, "================== Logs during Freeze Start =============="),
        held(begun + 4, "****** 2. Binary Freeze Started"),
        held(begun + 4, "  Freezing: /"),
        held(begun + 5, "****** 3. Binary Freeze Completed"),
        held(begun + 5, "****** 4. Freeze Completed (Signal=1 received)"),
        held(begun + 5, f"****** 5. Snaphotting ({who}) Started"),
        held(begun + 6, f"****** 6. Snaphotting ({who}) Completed"),
        held(begun + 6, "****** 7. Sending Thaw Signal to Binary"),
        held(begun + 6, "****** 8. Binary Thaw Signal Received"),
        held(begun + 7, "****** 9. Binary Process completed (Signal=2 received)"),
        "================== Logs during Freeze End ==============\n\n",
        line(run.ended, f"Enable,{'success' if run.code in (0, 1) else 'error'},{run.code},{_message(run)},False"),
        line(run.ended + 1, "resp status: 403"),
        line(run.ended + 1, "cannot write status to the status blob Traceback (most recent call last):\nKeyError: 1"),
    ]
    return lines
