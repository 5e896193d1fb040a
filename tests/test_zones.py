"""Does every Windows zone name lead to a zone that a machine has?"""

from __future__ import annotations

import zoneinfo
from pathlib import Path

import pytest

from backupready.window import parse
from backupready.zones import WINDOWS

TABLES = [Path(folder, "zone.tab") for folder in zoneinfo.TZPATH]


def test_the_table_is_whole() -> None:
    """CLDR 49 has 142 names for the territory 001, and each of them leads somewhere else."""
    assert len(WINDOWS) == 142
    # Those of which Azure's own documents and its vaults' templates make the most use.
    assert {
        "UTC": "Etc/UTC",
        "W. Europe Standard Time": "Europe/Berlin",
        "Romance Standard Time": "Europe/Paris",
        "GMT Standard Time": "Europe/London",
        "Eastern Standard Time": "America/New_York",
        "Pacific Standard Time": "America/Los_Angeles",
        "AUS Eastern Standard Time": "Australia/Sydney",
    }.items() <= WINDOWS.items()
    assert len(set(WINDOWS.values())) == len(WINDOWS)
    assert len({name.casefold() for name in WINDOWS}) == len(WINDOWS)


def test_windows_names_are_its_own_words() -> None:
    """A name is `… Standard Time`, one with its country, a UTC offset, or one of Russia's numbers."""
    odd = {name for name in WINDOWS if not name.endswith("Standard Time")}
    assert odd == {
        "UTC",
        *(f"UTC{hours}" for hours in ("-11", "-09", "-08", "-02", "+12", "+13")),
        *(f"Russia Time Zone {number}" for number in (3, 10, 11)),
        *(f"{zone} Standard Time (Mexico)" for zone in ("Central", "Eastern", "Mountain", "Pacific")),
    }


@pytest.mark.parametrize("name", WINDOWS)
def test_a_schedule_can_be_in_it(name: str) -> None:
    """The zone is there, and the schedule is in the one that the table names; UTC alone is an IANA name as well."""
    (schedule,) = parse(f"daily at 22:00 in {name}", "Etc/GMT+1")
    assert schedule.zone == ("UTC" if name == "UTC" else WINDOWS[name])
    (shouted,) = parse(f"daily at 22:00 in {name.upper()}", "Etc/GMT+1")
    assert shouted == schedule


@pytest.mark.skipif(not any(table.is_file() for table in TABLES), reason="this machine's tzdata has no zone.tab")
def test_no_zone_is_by_an_old_name() -> None:
    """IANA's own list has each by the name that it has now; an old one may be in a package that is not installed."""
    table = next(table for table in TABLES if table.is_file())
    lines = [line.split("\t") for line in table.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    current = {line[2] for line in lines}
    assert "Asia/Kolkata" in current
    assert "Asia/Calcutta" not in current
    assert {zone for zone in WINDOWS.values() if zone not in current and not zone.startswith("Etc/")} == set()
