"""What the journal hears from us, without systemd-python."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Iterator

import pytest

from backupready import journal


@pytest.fixture(autouse=True)
def without_systemd(monkeypatch: pytest.MonkeyPatch) -> None:
    """systemd-python cannot be imported, and no journal reads our standard error."""
    for name in ("systemd", "systemd.journal"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delenv("JOURNAL_STREAM", raising=False)


@pytest.fixture
def log() -> Iterator[logging.Logger]:
    """Our log, put back afterwards."""
    before = (list(journal.LOG.handlers), journal.LOG.level, journal.LOG.propagate)
    yield journal.LOG
    journal.LOG.handlers[:], journal.LOG.level, journal.LOG.propagate = before


def test_every_line_has_its_priority_for_the_journal(
    log: logging.Logger, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also each line of a traceback, so that the journal does not make news of it."""
    monkeypatch.setenv("JOURNAL_STREAM", "8:1")
    listener = journal.log_to_journal()
    log.debug("not told")
    log.info("all is well")
    log.warning("two\nlines")
    try:
        raise ValueError("broken")
    except ValueError as error:
        log.error("a page broke", exc_info=error)
    log.critical("the end")
    listener.stop()
    lines = capsys.readouterr().err.splitlines()
    assert lines[:4] == ["<6>all is well", "<4>two", "<4>lines", "<3>a page broke"]
    assert lines[-2:] == ["<3>ValueError: broken", "<2>the end"]
    assert all(line.startswith("<3>") for line in lines[3:-1])


def test_a_terminal_gets_time_and_level(log: logging.Logger, capsys: pytest.CaptureFixture[str]) -> None:
    """No priorities where no journal reads."""
    listener = journal.log_to_journal()
    log.warning("look: %s", "here")
    listener.stop()
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} WARNING look: here\n", capsys.readouterr().err)


def test_message_ids_are_ids() -> None:
    """128 bits in hexadecimal each, all different: the journal's catalogue goes by them."""
    ids = [value for name, value in vars(journal).items() if name.startswith("MESSAGE_")]
    assert len(ids) == len(set(ids)) >= 5
    assert all(re.fullmatch(r"[0-9a-f]{32}", value) for value in ids)
