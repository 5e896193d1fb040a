"""A look in vain is not taken again at once, by whatever clock; nothing that is damaged keeps one from being taken."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from backupready.hands import vain
from backupready.hands.gate import Request
from backupready.hands.ledger import Moment

NOW = Moment(1.7e9, "a", 5000.0)
ASKED = Request("restart-agent", "AGENT_STOPPED", "k\ud800\n")


def later(seconds: float) -> Moment:
    return replace(NOW, wall=NOW.wall + seconds, up=NOW.up + seconds)


def test_the_same_is_refused_for_a_minute(tmp_path: Path) -> None:
    """And no longer; another is not."""
    vain.note(tmp_path, ASKED, "not_confirmed", NOW)
    refusal = vain.check(tmp_path, ASKED, later(59.0))
    assert refusal is not None
    assert (refusal.name, refusal.until) == ("cooldown", NOW.wall + vain.APART)
    assert vain.check(tmp_path, ASKED, later(60.0)) is None
    for other in (replace(ASKED, remedy="x"), replace(ASKED, problem="x"), replace(ASKED, key="")):
        assert vain.check(tmp_path, other, NOW) is None


def test_a_few_looks_a_minute_are_enough(tmp_path: Path) -> None:
    """Then every request is refused, until the first of them is a minute ago."""
    for number in range(vain.MOST):
        assert vain.check(tmp_path, replace(ASKED, key="new"), later(number)) is None
        vain.note(tmp_path, replace(ASKED, key=str(number)), "not_confirmed", later(number))
    refusal = vain.check(tmp_path, replace(ASKED, key="new"), later(vain.MOST))
    assert refusal is not None
    assert (refusal.name, refusal.until) == ("cooldown", NOW.wall + vain.APART)
    assert vain.check(tmp_path, replace(ASKED, key="new"), later(vain.APART)) is None


def test_what_is_old_is_forgotten(tmp_path: Path) -> None:
    """The file does not grow."""
    for number in range(20):
        vain.note(tmp_path, ASKED, "not_confirmed", later(61.0 * number))
    assert len((tmp_path / "vain").read_text().splitlines()) == 1


def test_a_clock_that_is_set_does_not_matter_and_a_boot_begins_anew(tmp_path: Path) -> None:
    """The time since the boot tells."""
    vain.note(tmp_path, ASKED, "not_confirmed", NOW)
    assert vain.check(tmp_path, ASKED, replace(NOW, wall=NOW.wall + 1e6)) is not None
    assert vain.check(tmp_path, ASKED, replace(NOW, boot="b")) is None
    assert vain.check(tmp_path, ASKED, replace(NOW, up=10.0)) is None


@pytest.mark.parametrize("text", ["", "x", "[]", '["a",5000.0,["restart-agent"]]', '["a","b",[],""]', "\udcff"])
def test_a_damaged_file_refuses_nothing(text: str, tmp_path: Path) -> None:
    """Nor does one that cannot be written."""
    (tmp_path / "vain").write_bytes(text.encode(errors="surrogateescape"))
    assert vain.check(tmp_path, ASKED, NOW) is None
    vain.note(tmp_path, ASKED, "not_confirmed", NOW)
    assert vain.check(tmp_path, ASKED, NOW) is not None
    vain.note(tmp_path / "gone", ASKED, "not_confirmed", NOW)
    assert vain.check(tmp_path / "gone", ASKED, NOW) is None
