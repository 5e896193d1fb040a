"""The pages: well formed whatever the machine says, complete, bounded, and without a judgement of their own."""

from __future__ import annotations

import base64
import hashlib
import re
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from html.parser import HTMLParser
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

import scenes
from backupready import probes, remedies, report
from backupready.mind import page, style
from backupready.mind.loads import SLOT, Loads
from backupready.mind.page import Past
from backupready.model import (
    Attempt,
    Effect,
    Finding,
    Fixes,
    Happened,
    Limit,
    Load,
    Outlook,
    Phase,
    Problem,
    Result,
    Run,
    Scalar,
    Verdict,
    Window,
)
from fake import looked, problem, remedy, snapshot
from measured import measured

_VOID = {"meta", "link", "br", "img", "input", "hr"}


class Parsed(HTMLParser):
    """A page as a browser takes it apart. Fails for a tag that is closed without having been opened, or never."""

    def __init__(self, data: bytes) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: Counter[str] = Counter()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.named: list[str] = []  # ids that others refer to
        self.attributes: set[str] = set()
        self.titles: list[str] = []
        self.texts: list[str] = []
        self._open: list[str] = []
        self.source = data.decode()
        self.feed(self.source)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        for name, value in attrs:
            self.attributes.add(name)
            if name == "id":
                self.ids.append(value or "")
            elif name == "href":
                self.links.append(value or "")
            elif name == "aria-labelledby":
                self.named.append(value or "")
            elif value and "url(#" in value:
                self.named.append(value.partition("url(#")[2].rstrip(")"))
        if tag not in _VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open, tag
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] == "title":
            self.titles.append(data)
        elif self._open and self._open[-1] != "style":
            self.texts.append(data)

    @property
    def text(self) -> str:
        """What a reader sees, blanks joined."""
        return " ".join("".join(self.texts).split())


def shown(scene: scenes.Scene) -> Parsed:
    return Parsed(page.status(scene.snapshot, scene.past))


# ---------------------------------------------------------------------------------------------------- every page


@pytest.mark.parametrize("name", scenes.SCENES)
def test_a_page_is_well_formed(name: str) -> None:
    """Every tag is closed in its turn, no id is there twice, and what is referred to is there."""
    parsed = shown(scenes.SCENES[name]())
    assert [one for one, times in Counter(parsed.ids).items() if times > 1] == []
    assert set(parsed.named) <= set(parsed.ids)
    assert (parsed.tags["h1"], parsed.tags["main"]) == (1, 1)
    assert parsed.tags["title"] == 1 + parsed.tags["figure"]  # each picture has its own


@pytest.mark.parametrize("name", scenes.SCENES)
def test_a_page_loads_nothing_and_runs_nothing(name: str) -> None:
    """No script, picture or frame, no attribute that is code or style, and no way out but the declared sources."""
    parsed = shown(scenes.SCENES[name]())
    assert not parsed.tags.keys() & {
        "script",
        "img",
        "link",
        "iframe",
        "object",
        "embed",
        "form",
        "base",
        "image",
        "use",
    }
    assert not [name for name in parsed.attributes if name.startswith("on") or name in ("src", "style", "xlink:href")]
    sources = {one.source for one in probes.PROBLEMS}
    for link in parsed.links:
        assert not re.match(r"[a-z]+:|/", link) or link in sources, link


@pytest.mark.parametrize("name", scenes.SCENES)
def test_a_link_leads_to_a_page_that_there_is(name: str) -> None:
    """Those to problems name declared ones."""
    codes = {one.code for one in probes.PROBLEMS}
    links = {link.partition("problems/")[2] for link in shown(scenes.SCENES[name]()).links if "problems/" in link}
    assert links - {""} <= codes


def test_the_fence_lets_in_this_style_sheet_and_nothing_else() -> None:
    """Its hash is of what stands in the page, to the byte."""
    source = shown(scenes.healthy()).source
    (sheet,) = re.findall(r"<style>(.*?)</style>", source, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(sheet.encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}';" in style.POLICY
    assert style.POLICY.startswith("default-src 'none';")
    assert "unsafe" not in style.POLICY
    assert "url(" not in sheet.replace("url(#hatch)", "")
    assert "@import" not in sheet


# ------------------------------------------------------------------------------------------------------- hostile


def test_what_files_say_is_never_markup() -> None:
    """Tags and quotes stand there as text, and nothing is left that ends the title or the style."""
    parsed = shown(scenes.hostile())
    assert parsed.text.count("<script>alert(1)</script>\"'>&amp;</style></title><img src=x onerror=alert(2)>") > 20
    assert "<script" not in parsed.source
    assert "<img" not in parsed.source
    assert parsed.source.count("</style>") == 1
    assert "alert(1)" in parsed.titles[0]


def test_what_cannot_be_printed_is_shown_by_its_number() -> None:
    """No control character, no lone surrogate and nothing that turns the direction of writing is in the page."""
    parsed = shown(scenes.hostile())
    assert r"\u202edrawkcab\u2066 \x1b[31m\x00\ud800" in parsed.text
    assert [c for c in parsed.source if not c.isprintable() and c != "\n"] == []
    assert parsed.tags["bdi"] > 20


def test_what_is_very_long_is_cut_and_what_is_very_much_is_counted() -> None:
    """Five thousand letters, sixty findings with forty facts each: a page that can still be sent."""
    parsed = shown(scenes.hostile())
    assert re.search("W{200}", parsed.source) is None
    assert parsed.tags["article"] == 25
    assert "And 35 more: all of them" in parsed.text
    assert "and 28 more" in parsed.text
    assert len(parsed.source) < 250_000


@given(words=st.text(max_size=60))
def test_any_text_does_no_harm(words: str) -> None:
    """In the name of the machine, in a key, in a fact and its name, in a reason that nothing is known."""
    known = [probes.probe("wire")]
    seen = looked("wire", Finding("WIRE_SERVER_UNREACHABLE", words, {words or "a": words}))
    whole = replace(
        snapshot(seen, times=4, known=known, facts={"name": words}),
        outlook=Outlook(scenes.NOON, unread=words, unplanned=words),
    )
    parsed = Parsed(page.status(whole, Past(runs=(Run(scenes.NOON, 1, Happened.SUCCEEDED, None, words),))))
    assert parsed.tags["article"] == 1
    assert not parsed.tags.keys() & {"script", "img"}
    assert all(c.isprintable() or c == "\n" for c in parsed.source)


@given(value=st.one_of(st.integers(), st.floats(), st.booleans(), st.none()))
def test_any_fact_is_told(value: Scalar) -> None:
    """Numbers, also those that are none; what is not there is left out."""
    known = [probes.probe("wire")]
    seen = looked("wire", Finding("WIRE_SERVER_UNREACHABLE", "", {"a_fact": value}))
    text = Parsed(page.status(snapshot(seen, times=4, known=known), Past())).text
    assert (f"a fact{value}" in text) == (value is not None)


@pytest.mark.parametrize("moment", [1e18, -1e18, float("nan"), float("inf"), 253402300799.0, 0.0])
def test_a_moment_that_no_date_has_is_told_by_its_seconds(moment: float) -> None:
    """Of a record that is wrong, or of a clock that was."""
    run = Run(moment, 1, Happened.SUCCEEDED, moment)
    attempt = Attempt(1, "restart-agent", "AGENT_STOPPED", "", "mind", moment)
    whole = replace(
        scenes.healthy().snapshot, outlook=scenes.outlook(scenes.NOON), fixes=Fixes(scenes.NOON, (attempt,))
    )
    text = Parsed(page.status(whole, Past(runs=(run,)))).text
    told = f"{moment:.0f} s since 1970"
    assert text.count(told) == (0 if 0 <= moment < 1e12 else 2)
    assert "Succeeded" in text


# ---------------------------------------------------------------------------------------------------------- told


def test_a_machine_that_is_well_is_told_in_one_breath() -> None:
    """The verdict, of which backup, and no heading for what there is not."""
    scene = scenes.healthy()
    parsed = shown(scene)
    assert "ReadyNext backup Wed 22:00 CET (in 3 h 30 min) should succeed." in parsed.text
    assert {"window", "pressure", "backups", "predictions", "looked"} <= set(parsed.ids)
    assert not {"reasons", "unknown", "fixes", "notices"} & set(parsed.ids)
    assert parsed.titles[0] == "payroll-db-02: ready"


def test_a_blocked_machine_says_why_and_what_to_do() -> None:
    """Each reason with its effect in words, since when, evidence, meaning, fix, and the way to its page."""
    scene = scenes.blocked()
    parsed = shown(scene)
    unreachable = probes.problem("WIRE_SERVER_UNREACHABLE")
    assert "BlockedNext backup Wed 22:00 CET (in 7 h 48 min) will fail." in parsed.text
    assert "The backup will fail · since Tue 20:36 CET · WIRE_SERVER_UNREACHABLE" in parsed.text
    assert "gateway10.20.0.1" in parsed.text
    assert unreachable.meaning in parsed.text
    assert f"Fix. {unreachable.fix}" in parsed.text
    assert "problems/WIRE_SERVER_UNREACHABLE" in parsed.links
    assert "Ready once over: WIRE_SERVER_UNREACHABLE" in parsed.text
    assert "Worth knowing: 1 more thing" in parsed.text
    assert report.headline(scene.snapshot).startswith("BLOCKED")
    assert 'name="description" content="BLOCKED · next backup Wed 22:00 CET' in parsed.source


def test_a_remedy_is_named_and_consequences_are_no_reasons_of_their_own() -> None:
    """`backupready fix` with its name; what the reason explains is listed with it."""
    seen = [
        looked("agent", Finding("AGENT_STOPPED"), Finding("AGENT_HUNG")),
    ]
    parsed = Parsed(page.status(snapshot(*seen, times=4), Past()))
    assert "backupready may do it: backupready fix restart-agent" in parsed.text
    assert "Hence also: AGENT_HUNG" in parsed.text
    assert parsed.tags["article"] == 1


def test_what_is_unknown_is_told_with_its_reason() -> None:
    """Probes that were given up, and the record that cannot be read; and that nothing is known of a window."""
    parsed = shown(scenes.unknown())
    assert "UnknownWhether the next backup will succeed cannot be told." in parsed.text
    assert "probe mountsthe look was given up after 30 s, since /mnt/archive did not answer" in parsed.text
    assert "When the next backup is due is not known: neither configured in [window], nor learned" in parsed.text
    assert "Past backups suggest daily at 22:00 in Europe/Berlin (confidence 0.43, from 2 backups)" in parsed.text
    assert "What is newest cannot be told: cannot read /var/log/azure: Permission denied" in parsed.text
    assert "figure" not in parsed.tags


def test_of_a_machine_that_is_no_azure_vm_nothing_else_is_told() -> None:
    """That the question does not arise, and what was seen."""
    parsed = shown(scenes.void())
    assert "Not judgedThis is not an Azure VM, so there is no Azure Backup to judge." in parsed.text
    assert "vendorQEMU" in parsed.text
    assert not {"window", "pressure", "backups", "predictions", "unknown"} & set(parsed.ids)


def test_nothing_is_known_before_the_first_look() -> None:
    """Right after the start there is a page all the same."""
    parsed = Parsed(page.status(snapshot(), Past()))
    assert "Unknown" in parsed.text
    assert "How busy the machine was is not on record yet" in parsed.text
    assert "No backup is on record." in parsed.text


def test_backups_without_an_agent_leave_no_record() -> None:
    """A machine that is backed up without an agent has a window, and no backups to show."""
    scene = scenes.healthy()
    whole = replace(scene.snapshot, outlook=scenes.outlook(scenes.NOON, predictions=(), scores=()))
    parsed = Parsed(page.status(whole, replace(scene.past, runs=())))
    assert "No backup is on record." in parsed.text
    assert "window" in parsed.ids
    assert "predictions" not in parsed.ids


def test_a_clock_at_the_end_of_all_dates_is_told() -> None:
    """There is no window to draw, and the reason is given."""
    end = 253370764801.0
    known = Outlook(end, unplanned="the clock shows the end of all dates")
    text = Parsed(page.status(replace(snapshot(), outlook=known, checked_at=end), Past())).text
    assert "cannot be told: the clock shows the end of all dates." in text


def test_predictions_stand_beside_what_came() -> None:
    """Newest first, each with its reasons, and one that is not over says so."""
    scene = scenes.blocked()
    assert scene.snapshot.outlook is not None
    open_still = scenes.told(scenes.TONIGHT, Verdict.AT_RISK, None, "GONE_CODE")
    outlook = replace(scene.snapshot.outlook, predictions=(*scene.snapshot.outlook.predictions, open_still))
    parsed = Parsed(page.status(replace(scene.snapshot, outlook=outlook), scene.past))
    words = ("Wed 22:00 CETat risk: GONE_CODEnot known yet", "Tue 22:00 CETblocked: WIRE_SERVER_UNREACHABLEfailed")
    assert [parsed.text.index(one) for one in words] == sorted(parsed.text.index(one) for one in words)
    assert "said ready, succeeded: 27; said blocked, failed: 2." in parsed.text
    assert "problems/GONE_CODE" not in parsed.links  # no page


def test_the_last_backups_are_told_newest_first() -> None:
    """Eight at most, with the extension's own name for the code."""
    runs = scenes.nights(12, scenes.run(scenes.TONIGHT - scenes.DAY, 76, Happened.FAILED, 31))
    text = Parsed(page.status(scenes.healthy().snapshot, Past(runs=runs))).text
    assert text.count("snapshot by the host") == 8
    assert "Tue 22:00 CETFailed31 min76 FailedRetryableSnapshotFailedNoNetworksnapshot by the host" in text
    assert text.index("FailedRetryable") < text.index("1 success")


def test_the_window_is_told_with_its_lead_and_those_after_it() -> None:
    """From when on something can still be done, and three that come then, without the one that is shown."""
    text = shown(scenes.healthy()).text
    assert "Leadfrom Wed 18:00 CET on" in text
    assert re.search(r"ThenThu 22:00 CET, Fri 22:00 CET, Sat 22:00 CET(?!,)", text)


def test_the_oldest_look_is_not_now() -> None:
    """Who reads the page sees how old the oldest of what it says is."""
    scene = scenes.healthy()
    old = replace(scene.snapshot, checked_at=scene.snapshot.checked_at - 3600)
    text = Parsed(page.status(old, scene.past)).text
    assert "as of Wed 18:30 CET" in text
    assert "oldest look Wed 17:30 CET" in text


def test_what_is_switched_off_is_told() -> None:
    """With the probes' names."""
    scene = scenes.healthy()
    facts = {**scene.snapshot.machine, "switched_off": "agent wire"}
    assert "Switched off: agent wire" in Parsed(page.status(replace(scene.snapshot, machine=facts), scene.past)).text
    assert "Switched off" not in shown(scene).text


def test_without_a_window_the_clock_is_that_of_past_ones() -> None:
    """As long as none is known, and UTC where there was none either."""
    known = scenes.outlook(scenes.NOON, window=None, upcoming=())
    whole = replace(scenes.healthy().snapshot, outlook=known)
    assert "as of Wed 12:00 CET" in Parsed(page.status(whole, scenes.past(scenes.NOON, ()))).text
    assert "as of Wed 11:00 UTC" in Parsed(page.status(whole, Past())).text


@pytest.mark.parametrize(
    ("effect", "mark"),
    [
        (Effect.VOIDS, Verdict.UNKNOWN),
        (Effect.BLOCKS, Verdict.BLOCKED),
        (Effect.DEGRADES, Verdict.DEGRADED),
        (Effect.RISKS, Verdict.AT_RISK),
        (Effect.NOTICE, Verdict.UNKNOWN),
    ],
)
def test_an_effect_has_the_mark_of_the_verdict_that_it_leads_to(effect: Effect, mark: Verdict) -> None:
    """In shape and in colour."""
    source = page.problem(problem("A_B", effect=effect), []).decode()
    shape = re.escape(style.MARKS[mark])
    assert re.search(rf'<span class="effect {mark.value}"><svg[^>]*class="{mark.value}"><path d="{shape}"', source)


# --------------------------------------------------------------------------------------------------------- fixes


def fixed(scene: scenes.Scene, told: Fixes) -> scenes.Scene:
    return replace(scene, snapshot=replace(scene.snapshot, fixes=told))


def test_without_anybody_who_may_fix_there_is_no_heading_for_it() -> None:
    """And with somebody who has not, it is said."""
    scene = scenes.healthy()
    assert "fixes" not in shown(scene).ids
    assert "Nothing was fixed." in shown(fixed(scene, Fixes(scenes.NOON))).text


@pytest.mark.parametrize("result", Result)
def test_every_result_has_words(result: Result) -> None:
    """Each attempt with when, which, for what, and what came of it."""
    attempt = Attempt(1, "restart-agent", "AGENT_STOPPED", "k", "mind", scenes.NOON, result, None, ("since",), (3,))
    text = shown(fixed(scenes.healthy(), Fixes(scenes.NOON, (attempt,)))).text
    came = re.search(
        r"Wed 12:00 CETrestart-agentAGENT_STOPPED k([A-Z][a-z, ]+); 1 step could not be undone: since", text
    )
    assert came is not None
    assert "_" not in came[1]


def test_the_newest_fixes_are_told() -> None:
    """Eight, the newest first."""
    attempts = tuple(
        Attempt(n, f"remedy-{n}", "X", "", "mind", scenes.NOON + n * 60, Result.HEALED, scenes.NOON + n * 60 + 9)
        for n in range(10)
    )
    text = shown(fixed(scenes.healthy(), Fixes(scenes.NOON, attempts))).text
    assert re.findall(r"remedy-\d", text) == [f"remedy-{n}" for n in range(9, 1, -1)]


def test_temporary_changes_and_limits_are_told() -> None:
    """With their end, or that only the problem's end lifts it."""
    scene = scenes.blocked()
    assert scene.snapshot.fixes is not None
    limits = (*scene.snapshot.fixes.limits, Limit("OTHER", "", "x", "nothing is left to try", None))
    text = shown(fixed(scene, replace(scene.snapshot.fixes, limits=limits))).text
    assert "For the time being: Logs.Verbose=y in /etc/waagent.conf, until Thu 08:00 CET" in text
    assert "Not fixed any more: AGENT_HUNG until Wed 22:00 CET, since it was tried as often as it may be" in text
    assert "Not fixed any more: OTHER until it is over, since nothing is left to try" in text
    assert text.index("Did not help: AGENT_HUNG is still seen") < text.index("Healed")


# ------------------------------------------------------------------------------------------------------ pictures


def drawn(outlook: Outlook) -> dict[str, tuple[float, float]]:
    """Of the timeline: from where to where each band goes, and where now is, in per cent."""
    source = page.status(replace(scenes.healthy().snapshot, outlook=outlook), Past()).decode()
    found = {}
    for band in ("lead", "window"):
        if match := re.search(rf'height="22" class="{band}" x="([\d.]+)%" width="([\d.]+)%"', source):
            found[band] = (float(match[1]), float(match[1]) + float(match[2]))
    now = re.search(r'<line x1="([\d.]+)%" x2="([\d.]+)%"[^>]*class="now"', source)
    assert now is not None
    found["now"] = (float(now[1]), float(now[2]))
    return found


def test_the_timeline_is_drawn_to_scale() -> None:
    """Now, then the lead, then the window, each as long as it is."""
    bands = drawn(scenes.outlook(scenes.TONIGHT - 8 * scenes.HOUR))
    begins, ends = bands["lead"]
    assert bands["now"][0] < begins < ends == pytest.approx(bands["window"][0], abs=0.02)
    hour = (ends - begins) / 4
    assert bands["window"][1] - bands["window"][0] == pytest.approx(2.5 * hour, abs=0.05)
    assert begins - bands["now"][0] == pytest.approx(4 * hour, abs=0.05)


@pytest.mark.parametrize("zone", ["Europe/Berlin", "Asia/Kolkata", "UTC"])
def test_the_hours_on_the_axis_are_those_of_the_windows_clock(zone: str) -> None:
    """Each stands where that clock shows it; the two ends of the window say where that is."""
    start, hours = scenes.TONIGHT + 7 * 60, 5
    window = Window(start, start + hours * scenes.HOUR, "daily", False, zone)
    known = scenes.outlook(scenes.TONIGHT - 6 * scenes.HOUR, window=window, upcoming=(window,))
    begins, ends = drawn(known)["window"]
    source = page.status(replace(scenes.healthy().snapshot, outlook=known), Past()).decode()
    ticks = re.findall(r'<line x1="([\d.]+)%"[^>]*class="axis"></line><text x="[^"]*"[^>]*>([\d:]+)</text>', source)
    assert len(ticks) >= 3
    for place, words in ticks:
        moment = start + (float(place) - begins) / (ends - begins) * hours * scenes.HOUR
        minute = datetime.fromtimestamp(round(moment / 60) * 60, ZoneInfo(zone))
        off = abs((minute - minute.replace(hour=int(words[:2]), minute=0)).total_seconds())
        assert words.endswith(":00")
        assert min(off, scenes.DAY - off) <= 120  # places have two decimals


def test_now_is_within_a_window_that_is_open() -> None:
    """And within the lead before it."""
    inside = drawn(scenes.outlook(scenes.TONIGHT + scenes.HOUR, phase=Phase.OPEN))
    assert inside["window"][0] < inside["now"][0] < inside["window"][1]
    before = drawn(scenes.outlook(scenes.TONIGHT - scenes.HOUR, phase=Phase.LEAD))
    assert before["lead"][0] < before["now"][0] < before["lead"][1]


@given(
    away=st.floats(-3e5, 9 * scenes.DAY),
    length=st.floats(0, 1e9),
    lead=st.floats(0, 3e5),
    zone=st.sampled_from(["UTC", "Asia/Kolkata", "Pacific/Apia", "Nowhere/Else", ""]),
)
def test_nothing_is_drawn_outside_of_the_picture(away: float, length: float, lead: float, zone: str) -> None:
    """However far the window, however long, and wherever; and every band can be seen."""
    start = scenes.NOON + away
    window = Window(start, start + length, "daily", False, zone)
    known = scenes.outlook(scenes.NOON, window=window, upcoming=(window,), lead=lead)
    source = page.status(replace(scenes.healthy().snapshot, outlook=known), Past()).decode()
    for x, width in re.findall(r' x="([\d.]+)%" width="([\d.]+)%"', source):
        assert float(x) + float(width) <= 100.02
        assert float(width) >= 0.8
    assert all(0 <= float(x) <= 100 for x in re.findall(r' (?:x|x1|x2|cx)="(-?[\d.]+)%"', source))
    assert source.count("</line>") < 20


def test_the_pictures_are_told_in_words_too() -> None:
    """Who does not see them reads what they show."""
    parsed = shown(scenes.healthy())
    assert "Timeline. Now it is Wed 18:30 CET; the window begins Wed 22:00 CET" in parsed.titles[1]
    assert re.search(r"last day: processor at most 63%, at 13:35; memory at most 68%, at 1", parsed.titles[2])


def waves(loads: Loads, at: float = scenes.NOON) -> list[str]:
    known = scenes.outlook(at)
    source = page.status(replace(scenes.healthy().snapshot, outlook=known), Past(loads)).decode()
    return re.findall(r'<path d="([^"]*)" class="wave"', source)


def test_a_wave_has_a_step_for_each_five_minutes_and_a_gap_where_nothing_is_known() -> None:
    """A day is as wide as the picture; what is older, and what the clock has not reached, is not drawn."""
    loads = Loads()
    first = scenes.NOON - scenes.DAY
    for number, share in ((-2, 1.0), (0, 0.5), (1, 0.25), (5, 1.0), (287, 0.0), (288, 1.0)):
        loads.add(Load(first + number * SLOT, share, 0.0))
    processor, memory, disks, _ = waves(loads)
    assert processor == (
        "M0 100V50 L0 50H10 L10 75H20 V100Z M50 100V0 L50 0H60 V100Z M2870 100V100 L2870 100H2880 V100Z"
    )
    assert memory.count("M") == 3
    assert disks == ""  # not counted
    source = page.status(replace(scenes.healthy().snapshot, outlook=scenes.outlook(scenes.NOON)), Past(loads)).decode()
    assert "the kernel does not count it" in source


def test_past_windows_and_backups_are_marked() -> None:
    """Where they were: yesterday's window of 22:00, seen at 14:12, is a third of the picture from the left."""
    source = shown(scenes.blocked()).source
    band = re.search(r'class="past" x="([\d.]+)%" width="([\d.]+)%"', source)
    assert band is not None
    assert float(band[1]) == pytest.approx((22 - 14.2) / 24 * 100, abs=0.1)
    assert float(band[2]) == pytest.approx(2.5 / 24 * 100, abs=0.1)
    line = re.search(r'<line x1="([\d.]+)%" x2="[\d.]+%" y1="18" y2="\d+" class="run"', source)
    assert line is not None
    assert float(band[1]) < float(line[1]) < float(band[1]) + float(band[2])


def test_a_window_that_began_within_the_day_has_an_edge() -> None:
    """At its beginning; of one that began before there is none to be seen."""
    scene = scenes.blocked()
    assert scene.snapshot.outlook is not None
    first = scene.snapshot.outlook.at - scenes.DAY
    before = Window(first - scenes.HOUR, first + scenes.HOUR, "daily", False, scenes.ZONE)
    past = replace(scene.past, windows=(before, *scene.past.windows))
    source = page.status(scene.snapshot, past).decode()
    bands = re.findall(r'class="past" x="([\d.]+)%" width', source)
    edges = re.findall(r'<line x1="([\d.]+)%" x2="([\d.]+)%"[^>]*class="edge"', source)
    assert bands[0] == "0.00"
    assert edges == [(bands[1], bands[1])]


def test_a_backup_out_of_the_day_is_not_drawn() -> None:
    """Neither one before nor, of a clock that was set, one that is still to come; nor does the legend speak of it."""
    scene = scenes.blocked()
    assert scene.snapshot.outlook is not None
    now = scene.snapshot.outlook.at
    drawn_at = []
    for moment in (now - scenes.DAY - 60, now + 60, now - 60):
        source = page.status(scene.snapshot, replace(scene.past, runs=(scenes.run(moment),))).decode()
        drawn_at.append((source.count('class="run"'), "a backup began" in source))
    assert drawn_at == [(0, False), (0, False), (2, True)]


def test_a_page_costs_little() -> None:
    """A blocked machine with a full day behind it."""
    scene = scenes.blocked()
    started = time.process_time()
    for _ in range(20):
        size = len(page.status(scene.snapshot, scene.past))
    measured(f"a status page: {(time.process_time() - started) / 20 * 1000:.1f} ms, {size / 1000:.0f} kB")
    assert size < 60_000


# ------------------------------------------------------------------------------------------------------- runbook


@pytest.mark.parametrize("declared", probes.PROBLEMS, ids=lambda declared: declared.code)
def test_every_problem_has_its_page(declared: Problem) -> None:
    """The same headings and words as in the runbook, with code as code and the source as a link."""
    known = remedies.remedies_for(declared.code)
    parsed = Parsed(page.problem(declared, known))
    text = parsed.text
    places = [text.index(heading) for heading, _ in report.article(declared, known)]
    assert places == sorted(places)
    assert declared.title in text
    assert declared.meaning.replace("`", "") in text
    assert declared.diagnosis.replace("`", "") in text
    assert declared.source in parsed.links
    assert [name for name in (one.name for one in known) if name not in text] == []
    assert "`" not in text
    assert [name for name, times in Counter(parsed.ids).items() if times > 1] == []


def test_code_and_addresses_of_a_declaration_become_elements() -> None:
    """And nothing else of it."""
    declared = problem(
        "A_B", meaning="run `a < b` or <https://example/x?y=1&z> or <b>", fix="fix", source="https://example/s"
    )
    parsed = Parsed(page.problem(declared, [remedy()]))
    assert "<code>a &lt; b</code>" in parsed.source
    assert '<a href="https://example/x?y=1&amp;z" rel="noreferrer">' in parsed.source
    assert "&lt;b&gt;" in parsed.source
    assert "title of mend-thing" in parsed.text


def test_what_cannot_be_printed_is_in_no_attribute_either() -> None:
    """The description that others show of a page is written as its text is."""
    source = page.problem(problem("A_B", title="a\u202eb\ud800"), []).decode()
    assert 'name="description" content="a\\u202eb\\ud800"' in source


def test_the_list_has_every_problem() -> None:
    """In the order of their codes, each with a link that is right from where the list is."""
    parsed = Parsed(page.problems(probes.PROBLEMS))
    linked = [link for link in parsed.links if link.startswith("../problems/") and link != "../problems/"]
    assert linked == [f"../problems/{code}" for code in sorted(one.code for one in probes.PROBLEMS)]
