"""What do the mind and the hands write into the journal, by which message id is an entry found, and what does
`journalctl -x` say to it?

systemd-python where it can be imported; where not, lines on standard error with the priorities that the journal
understands.
"""

from __future__ import annotations

import logging
import logging.handlers
import os
import queue
from dataclasses import dataclass

LOG = logging.getLogger("backupready")

# Everybody who filters the journal knows these; they never change.
MESSAGE_VERDICT = "1d0f2b7c7f3c4c0d9a1e5b0e6f0a7c11"
MESSAGE_PROBLEM_ACTIVE = "5c2a8a0b1f554d6b8a53f7d7b1c0de21"
MESSAGE_PROBLEM_CLEAR = "8f4b9d3e2a6148b7a0c5e9d41b7f3a31"
MESSAGE_LOOK_FAILED = "b3a1c6e87d0f4e52bd9c2f60a4e8d741"
MESSAGE_CONFIG_REFUSED = "e7d5f0a93c1b4286a9f8b6d2c0e4a151"
MESSAGE_STATE_SET_ASIDE = "ae1d40bee1b69788cbd056413b419fc9"
MESSAGE_PREDICTION = "3f6c2c1f5a2e4b0c9d7be8a4415f02d6"
MESSAGE_HISTORY_SET_ASIDE = "59cb02106d7446ecb5cc5c71193e92f6"
MESSAGE_FIX_REFUSED = "c70f3ba1d54e4b0e9f6ad2c8817b35e4"
MESSAGE_FIX_BEGAN = "6e1d9a4f2b7c4f83a05c3be97d1648f0"
MESSAGE_FIX_INTERRUPTED = "b1e47f32416d418781c836aad9f109c5"
MESSAGE_FIX_ENDED = "97a2c5d80e3b41f6b84d1f60c2e9a573"
MESSAGE_FIX_UNDONE = "2b8e64f1a97d4c05bd3f5a0e71c698d2"
MESSAGE_FIX_WOULD_RUN = "aa84e6ae14c4476d9922d5164cb030d0"
MESSAGE_FIX_ANSWERED = "e57e389af76b4d3da6e692fef0572d4a"
MESSAGE_FIX_DOOR_SHUT = "7f2ae602bd6840c4b4072a817c8c23b1"
MESSAGE_FIXES_UNREADABLE = "1ee5f849c79f407cb7aeefa5edf4616b"


@dataclass(frozen=True)
class Message:
    """A row of the journal's catalogue: what `journalctl -x` adds to entries with this id.

    `explanation` says what happened, what it means for the backup and what to do; blank lines part its paragraphs.
    @FIELD@ in the texts stands for a field of the entry, and `fields` names those that such entries carry.
    """

    id: str
    subject: str
    explanation: str
    fields: tuple[str, ...] = ()


MESSAGES: tuple[Message, ...] = (
    Message(
        MESSAGE_VERDICT,
        "The verdict on the next backup is now @BACKUPREADY_VERDICT@",
        "Whether the next Azure Backup of this machine will succeed is judged anew after every look, and the answer"
        " has changed to @BACKUPREADY_VERDICT@. In the words of the verdict: ready, it should succeed; at_risk, it may"
        " fail; degraded, it will be late or only crash-consistent; blocked, it will fail; unknown, it cannot be told,"
        " which is no good news.\n\n"
        "Unless it is ready, `backupready status` names the reasons, gravest first, and `backupready explain CODE` says"
        " what to do about each.",
        ("BACKUPREADY_VERDICT",),
    ),
    Message(
        MESSAGE_PROBLEM_ACTIVE,
        "@BACKUPREADY_PROBLEM@ has been found on this machine",
        "The problem @BACKUPREADY_PROBLEM@ has been seen in as many looks in a row as it takes to believe it. The entry"
        " itself has the evidence. The problem stands until a look does not see it any more.\n\n"
        "`backupready explain @BACKUPREADY_PROBLEM@` says what it does to the next backup, how to diagnose it, and what"
        " the documented fix is. Nothing has been changed on this machine.",
        ("BACKUPREADY_PROBLEM",),
    ),
    Message(
        MESSAGE_PROBLEM_CLEAR,
        "@BACKUPREADY_PROBLEM@ is over",
        "A look did not see the problem @BACKUPREADY_PROBLEM@ any more: it does not endanger the next backup. Others"
        " may; `backupready status` lists what is left.",
        ("BACKUPREADY_PROBLEM",),
    ),
    Message(
        MESSAGE_LOOK_FAILED,
        "A look at this machine came to nothing",
        "The daemon asked for a look at this machine and got no usable answer: it could not be started, took longer"
        " than its deadline, or broke. What the look should have told counts as unknown as soon as the look before it"
        " is too old. The backup may be in order or not; nobody can tell. It is tried again soon.\n\n"
        "If it lasts, see `systemctl status backupready-look.socket` and `journalctl -u 'backupready-look@*'`. A look"
        " that never ends often hangs on a dead network file system; what hangs is in state D in `ps axo stat,cmd`.",
    ),
    Message(
        MESSAGE_CONFIG_REFUSED,
        "The configuration was refused, the old one stays in force",
        "The daemon was told to reload its configuration and found mistakes, all of which the entry lists. It goes on"
        " with the configuration that it had: looks and verdicts are as good as before. A restart would not be: with"
        " these mistakes the daemon does not start.\n\n"
        "Mend the lines that are named, try `backupready config check`, and then `systemctl reload backupready`.",
    ),
    Message(
        MESSAGE_PREDICTION,
        "What was said of a backup window",
        "When a backup window opens, what is believed at that moment is kept as the prediction for it; when its backup"
        " has ended, or the window has passed without one, that is held against the prediction.\n\n"
        "`backupready window` lists the newest predictions with what happened, and the metric"
        " backupready_predictions_total counts them.",
    ),
    Message(
        MESSAGE_STATE_SET_ASIDE,
        "The daemon's memory could not be used",
        "The file in which the daemon keeps what outlives a restart is damaged, or a newer version wrote it. It is not"
        " used; the entry says why, and under which name in the same directory it lies now. Nothing else is lost:"
        " problems are found anew by the next looks, only since when they have been there is not known from"
        " before.\n\n"
        "Nothing needs to be done. After a downgrade this is to be expected. Where it happens again without one, see"
        " whether the file system below /var/lib/backupready is in order.",
    ),
    Message(
        MESSAGE_HISTORY_SET_ASIDE,
        "The history could not be used",
        "The file in which the daemon keeps past verdicts, backups and loads is damaged, or a newer version wrote it."
        " It is not used; the entry says why, and under which name in the same directory it lies now. A new one is"
        " begun. Until that has seen five windows, nobody says that the next will meet a busy machine, and what was"
        " predicted before is not known. In all else the verdict on the next backup is as good as before.\n\n"
        "Nothing needs to be done, and the file that was set aside may be removed. After a downgrade this is to be"
        " expected. Where it happens again without one, see whether the file system below /var/lib/backupready is in"
        " order.",
    ),
    Message(
        MESSAGE_FIX_REFUSED,
        "@BACKUPREADY_REMEDY@ was asked for and not done: @BACKUPREADY_REFUSAL@",
        "Somebody asked for the documented fix @BACKUPREADY_REMEDY@, and it was refused. Nothing has been changed. The"
        " entry says why, until when, and what would lift that.\n\n"
        "Most refusals are as they should be: it is too late before the next backup, a snapshot runs, another fix is"
        " under way, or the problem has gone meanwhile. With attempt_limit or storm somebody should look: what was done"
        " has not helped.\n\n"
        "Few are not: malformed and not_welcome say that something else than this version's daemon was at the door to"
        " the hands, and the remedy may be unknown then; config, that the configuration is wrong; defect, that"
        " something went wrong that nobody has thought of: report it with the entry.",
        ("BACKUPREADY_REMEDY", "BACKUPREADY_REFUSAL"),
    ),
    Message(
        MESSAGE_FIX_BEGAN,
        "@BACKUPREADY_REMEDY@ is being done",
        "The documented fix @BACKUPREADY_REMEDY@ has begun, as attempt @BACKUPREADY_ATTEMPT@. Another entry tells how"
        " it ends; where none comes, the hands were ended in the middle, and their next start finishes or undoes"
        " it.\n\n"
        "Nothing needs to be done. `backupready explain @BACKUPREADY_REMEDY@` tells what it is.",
        ("BACKUPREADY_REMEDY", "BACKUPREADY_ATTEMPT"),
    ),
    Message(
        MESSAGE_FIX_INTERRUPTED,
        "@BACKUPREADY_REMEDY@ has been interrupted, and goes on later",
        "Attempt @BACKUPREADY_ATTEMPT@ of the documented fix @BACKUPREADY_REMEDY@ has begun, or is being undone, and"
        " cannot go on at this moment: a snapshot runs, or the hands were told to stop, or something went wrong that"
        " nobody has thought of. The entry says which. The next start of the hands finishes or undoes it; a timer sees"
        " to that within minutes.\n\n"
        "Nothing needs to be done, unless no other entry tells of an end within the hour: then see"
        " `systemctl list-timers 'backupready-*'`.",
        ("BACKUPREADY_REMEDY", "BACKUPREADY_ATTEMPT"),
    ),
    Message(
        MESSAGE_FIX_ENDED,
        "@BACKUPREADY_REMEDY@ has ended: @BACKUPREADY_RESULT@",
        "Attempt @BACKUPREADY_ATTEMPT@ has ended. healed: a fresh look no longer sees the problem. done: it was asked"
        " for without a problem. In all other cases what can be undone has been undone: not_healed, the problem is"
        " still seen; worse, something is seen that was not there before; failed, one of the steps could not be done;"
        " interrupted, the hands were ended in the middle.\n\n"
        "Unless it is healed or done, fix the problem by hand, as `backupready explain` tells; the entry says what went"
        " wrong, and what could not be undone. `backupready undo @BACKUPREADY_ATTEMPT@` takes back what has"
        " stayed.",
        ("BACKUPREADY_REMEDY", "BACKUPREADY_ATTEMPT", "BACKUPREADY_RESULT"),
    ),
    Message(
        MESSAGE_FIX_UNDONE,
        "What @BACKUPREADY_REMEDY@ had changed has been undone",
        "What attempt @BACKUPREADY_ATTEMPT@ had changed has been undone, since somebody asked for that, or since it was"
        " a change for a time that is over. The entry says why, and what could not be undone because somebody else has"
        " changed it since.\n\n"
        "Nothing needs to be done, unless something could not be undone: then put it right by hand.",
        ("BACKUPREADY_REMEDY", "BACKUPREADY_ATTEMPT"),
    ),
    Message(
        MESSAGE_FIX_WOULD_RUN,
        "@BACKUPREADY_REMEDY@ would be done now for @BACKUPREADY_PROBLEM@",
        "A backup is near, the problem @BACKUPREADY_PROBLEM@ stands in its way, and the documented fix"
        " @BACKUPREADY_REMEDY@ fits this machine. Fixes are only observed here (fix.mode = observe): nothing has been"
        " changed. The entry has the steps. It is told once as long as the problem stays.\n\n"
        "`backupready fix @BACKUPREADY_REMEDY@` does it by hand. To have it done ahead of a backup without being asked,"
        " set fix.mode to on, name it in fix.allow, and have the socket enabled: `backupready fix --enable`.",
        ("BACKUPREADY_REMEDY", "BACKUPREADY_PROBLEM"),
    ),
    Message(
        MESSAGE_FIX_ANSWERED,
        "What came of @BACKUPREADY_REMEDY@ for @BACKUPREADY_PROBLEM@",
        "The daemon has asked for the documented fix @BACKUPREADY_REMEDY@, since a backup is near and the problem"
        " @BACKUPREADY_PROBLEM@ stands in its way. The entry says whether it was done and what came of it, or why it"
        " was refused, until when, and what would lift that.\n\n"
        "`backupready status` lists the newest attempts, and `backupready undo ATTEMPT` takes one back.",
        ("BACKUPREADY_REMEDY", "BACKUPREADY_PROBLEM"),
    ),
    Message(
        MESSAGE_FIX_DOOR_SHUT,
        "Fixes are on, and nobody can be asked for one",
        "fix.mode is on, but nobody listens on the socket fix.socket, behind which fixes are done, or somebody who is"
        " not root does. Nothing is fixed. It is looked for again every minute.\n\n"
        "`backupready fix --enable` says what it switches on and enables the socket; or set fix.mode to observe.",
    ),
    Message(
        MESSAGE_FIXES_UNREADABLE,
        "What was fixed cannot be read",
        "The document in which it is told what was fixed, refused and left behind is there and cannot be read; the"
        " entry says why. Whether a limit was reached or a temporary change is overdue is unknown meanwhile. What is"
        " done goes by another record, which it does not touch.\n\n"
        "It is written anew with the next fix or refusal. `backupready undo --temporary` has it written too.",
    ),
)

_LOG_QUEUE = 1000  # records
# What is worth knowing and no trouble: it passes where LogLevelMax=notice keeps the unit's routine out.
NOTICE = 25
_PRIORITIES = {logging.DEBUG: 7, logging.INFO: 6, NOTICE: 5, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}


class _PriorityFormatter(logging.Formatter):
    """`<4>text`, one priority for each line."""

    def format(self, record: logging.LogRecord) -> str:
        prefix = f"<{_PRIORITIES.get(record.levelno, 6)}>"
        return "\n".join(prefix + line for line in super().format(record).splitlines())


class _Queue(logging.handlers.QueueHandler):
    """Hands records over and never waits: while the disks are frozen the journal may not read. What does not fit is
    dropped, and counted."""

    dropped = 0

    def enqueue(self, record: logging.LogRecord) -> None:
        try:
            self.queue.put_nowait(record)
        except queue.Full:
            self.dropped += 1


def dropped_records() -> int:
    """How many log records did not fit into the queue."""
    return sum(handler.dropped for handler in LOG.handlers if isinstance(handler, _Queue))


def log_to_journal(shown: bool = True) -> logging.handlers.QueueListener:
    """Structured into the journal when our standard error goes there, else as plain lines; written on a thread of its
    own. Stop the listener to have everything written. What is not to be `shown`, since whoever is at the terminal is
    told otherwise, goes into the journal alone, if it can."""
    handler: logging.Handler = logging.StreamHandler() if shown else logging.NullHandler()
    if "JOURNAL_STREAM" in os.environ or not shown:
        try:
            from systemd import journal
        except ImportError:
            handler.setFormatter(_PriorityFormatter("%(message)s"))
        else:
            handler = journal.JournalHandler(SYSLOG_IDENTIFIER="backupready")
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    records: queue.Queue[logging.LogRecord] = queue.Queue(_LOG_QUEUE)
    LOG.addHandler(_Queue(records))
    LOG.setLevel(logging.INFO)
    LOG.propagate = False
    listener = logging.handlers.QueueListener(records, handler)
    listener.start()
    return listener
