"""What does a person with a browser see? The status page, and the runbook's pages, as HTML.

Pure: who asks says what is known. The page adds no judgement. Every page is a tree of elements that the library writes
out, so that nothing can be markup that is not meant as such. Whatever text goes in is bounded, and what cannot be
printed or turns the direction of writing is shown by its number.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Union
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from backupready import __version__, report
from backupready.mind.loads import SLOT, Loads
from backupready.mind.style import MARKS, STYLE
from backupready.model import (
    Attempt,
    Effect,
    Evidence,
    Fixes,
    Happened,
    Outlook,
    Phase,
    Prediction,
    ProbeRun,
    Problem,
    Reason,
    Remedy,
    Result,
    Run,
    Scalar,
    Snapshot,
    Verdict,
    Window,
    in_utc,
)

DAY = 86400.0
SHOWN_RUNS = 8
_SHOWN_ATTEMPTS = 8
_SHOWN_REASONS = 25
_SHOWN_FACTS = 12  # of one finding's evidence
_LONGEST = 200  # characters of a text that comes from the machine
_LONGEST_OURS = 4000
_TICKS = 5  # on an axis, at most
_NARROWEST = 0.8  # per cent of a picture's width: a window of two hours in a week is still seen

Content = Union[Element, str, None, Iterable["Content"]]


@dataclass(frozen=True)
class Past:
    """What there was, for the pictures: how busy the machine was in the last day, the newest backups on record, oldest
    first, and the windows of which a part lies in that day. Nobody changes it any more."""

    loads: Loads = field(default_factory=Loads)
    runs: tuple[Run, ...] = ()
    windows: tuple[Window, ...] = ()


# ---------------------------------------------------------------------------------------------------- elements


def _e(tag: str, /, *content: Content, **attributes: str) -> Element:
    """An element. Of an attribute's name a final underscore is dropped, and others are hyphens."""
    element = Element(tag, {key.rstrip("_").replace("_", "-"): _clean(value) for key, value in attributes.items()})
    for part in content:
        _put(element, part)
    return element


def _put(element: Element, part: Content) -> None:
    if part is None:
        return
    if isinstance(part, Element):
        element.append(part)
    elif isinstance(part, str):
        text = _bounded(_clean(part), _LONGEST_OURS)
        if len(element):
            element[-1].tail = (element[-1].tail or "") + text
        else:
            element.text = (element.text or "") + text
    else:
        for one in part:
            _put(element, one)


def _clean(text: str) -> str:
    """What cannot be printed, and what turns the direction of writing, by its number."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def _bounded(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _said(value: Scalar, most: int = _LONGEST) -> Element:
    """What comes from the machine: bounded, and without effect on the direction of what stands around it."""
    return _e("bdi", _bounded(_clean(_bounded(str(value), most)), most))


def _written(root: Element) -> bytes:
    return f"<!doctype html>\n{ElementTree.tostring(root, encoding='unicode', method='html')}\n".encode()


def _page(title: str, description: str, *content: Content) -> bytes:
    return _written(
        _e(
            "html",
            _e(
                "head",
                _e("meta", charset="utf-8"),
                _e("title", _bounded(_clean(title), _LONGEST)),
                _e("meta", name="viewport", content="width=device-width, initial-scale=1"),
                _e("meta", name="description", content=_bounded(description, _LONGEST)),
                _style(),
            ),
            _e("body", _e("div", *content, class_="page")),
            lang="en",
        )
    )


def _style() -> Element:
    style = Element("style")
    style.text = STYLE
    return style


def _section(name: str, heading: str, *content: Content) -> Element:
    return _e(
        "section",
        _e("h2", heading, id=f"{name}-heading"),
        _e("div", *content, class_="body"),
        id=name,
        aria_labelledby=f"{name}-heading",
    )


def _more(name: str, summary: str, *content: Content) -> Element:
    return _e("div", _e("details", _e("summary", summary), _e("div", *content, class_="body")), id=name, class_="more")


def _table(caption: str, heads: Sequence[str], rows: Iterable[Sequence[Content]]) -> Element:
    """The first cell of each row is its header."""
    return _e(
        "table",
        _e("thead", _e("tr", [_e("th", head, scope="col") for head in heads])),
        _e(
            "tbody",
            [
                _e("tr", [_e("td", cell) if index else _e("th", cell, scope="row") for index, cell in enumerate(row)])
                for row in rows
            ],
        ),
        class_="stack",
        aria_label=caption,
    )


def _facts(*facts: tuple[Content, Content], class_: str = "") -> Element:
    parts = [(_e("dt", name), _e("dd", value)) for name, value in facts]
    return _e("dl", parts, class_=class_) if class_ else _e("dl", parts)


def _mark(verdict: Verdict) -> Element:
    return _e(
        "svg",
        _e("path", d=MARKS[verdict], class_="mark"),
        viewBox="0 0 24 24",
        aria_hidden="true",
        class_=verdict.value,
    )


_MARK_OF = {
    Effect.VOIDS: Verdict.UNKNOWN,
    Effect.BLOCKS: Verdict.BLOCKED,
    Effect.DEGRADES: Verdict.DEGRADED,
    Effect.RISKS: Verdict.AT_RISK,
    Effect.NOTICE: Verdict.UNKNOWN,
}


@dataclass(frozen=True)
class _Clock:
    """By which time zone's clock moments are told, and when that is done."""

    zone: str
    at: float

    def __call__(self, moment: float) -> Element | str:
        """Told for people, and for programs; one that no date has by its seconds."""
        try:
            return _e("time", report.local(moment, self.zone, self.at), datetime=report.iso(moment))
        except (OverflowError, ValueError, OSError):
            return in_utc(moment)

    def words(self, moment: float) -> str:
        told = self(moment)
        return told if isinstance(told, str) else told.text or ""

    def of_day(self, moment: float) -> str:
        try:
            return report.clock(moment, self.zone).strftime("%H:%M")
        except (OverflowError, ValueError, OSError):
            return in_utc(moment)


def _or_never(clock: _Clock, moment: float | None) -> Content:
    return "" if moment is None else clock(moment)


def _percent(value: float) -> str:
    return f"{min(max(value, 0.0), 100.0):.2f}%"


# -------------------------------------------------------------------------------------------------- status page


def status(snapshot: Snapshot, past: Past) -> bytes:
    """The page of everything that is known."""
    outlook = snapshot.outlook
    clock = _Clock(_zone(outlook, past), outlook.at if outlook is not None else snapshot.checked_at)
    parts: list[Content] = [
        _top(snapshot, clock),
        _e("main", _verdict(snapshot, clock), _sections(snapshot, past, clock)),
    ]
    name = snapshot.machine.get("name", "")
    return _page(f"{name}: {snapshot.verdict.value}", report.headline(snapshot), parts, _foot(""))


def _sections(snapshot: Snapshot, past: Past, clock: _Clock) -> Iterator[Content]:
    if snapshot.reasons:
        yield _section("reasons", "Why" if not snapshot.void else "Seen", _reasons(snapshot.reasons, clock))
    if not snapshot.void:
        yield _section("unknown", "What is unknown", _unknown(snapshot)) if report.unknown(snapshot) else None
        yield _section("window", "The window", _window(snapshot.outlook, clock))
        yield _section("pressure", "The last day", _pressure(past, clock))
        yield _section("backups", "Last backups", _backups(past.runs, snapshot.outlook, clock))
        if snapshot.outlook is not None and (snapshot.outlook.predictions or snapshot.outlook.scores):
            yield _section("predictions", "Predictions", _predictions(snapshot, snapshot.outlook, clock))
    if snapshot.fixes is not None:
        yield _section("fixes", "Last fixes", _fixes(snapshot.fixes, snapshot, clock))
    if snapshot.notices:
        summary = f"Worth knowing: {_number(len(snapshot.notices), 'more thing')}"
        yield _more("notices", summary, _reasons(snapshot.notices, clock))
    if snapshot.probes:
        yield _more("looked", "What was looked at", _looked(snapshot, clock))


def _zone(outlook: Outlook | None, past: Past) -> str:
    """The clock that the backup's schedule goes by."""
    if outlook is not None and outlook.window is not None:
        return outlook.window.zone
    return past.windows[-1].zone if past.windows else "UTC"


def _number(count: int, thing: str) -> str:
    return f"{count} {thing}{'' if count == 1 else 's'}"


def _top(snapshot: Snapshot, clock: _Clock) -> Element:
    machine = snapshot.machine
    about = " · ".join(filter(None, (machine.get("system", ""), machine.get("kernel", ""))))
    return _e(
        "header",
        _e("span", _e("b", _said(machine.get("name", "this machine"))), " ", _said(about)),
        _e("span", "as of ", clock(clock.at)),
        class_="top",
    )


def _verdict(snapshot: Snapshot, clock: _Clock) -> Element:
    verdict = snapshot.verdict
    word = "Not judged" if snapshot.void else verdict.value.replace("_", " ").capitalize()
    sentence = report.sentence(snapshot)
    steps = (
        _e(
            "p",
            f"{step['verdict'].replace('_', ' ').capitalize()} once over: ",
            _listed([_code(code, "") for code in step["once_over"][:_SHOWN_FACTS]]),
            class_="small",
        )
        for step in report.becomes(snapshot)
    )
    return _e(
        "div",
        _mark(verdict),
        _e(
            "div",
            _e("h1", word, class_=verdict.value),
            _e("p", f"{sentence[:1].upper()}{sentence[1:]}.", class_="lede"),
            _e("p", "Since ", clock(snapshot.since), " · oldest look ", clock(snapshot.checked_at),
               class_="muted small"),
            steps,
        ),
        class_="verdict",
    )  # fmt: skip


def _listed(parts: Sequence[Content]) -> Iterator[Content]:
    for index, part in enumerate(parts):
        yield from (", ", part) if index else (part,)


def _code(code: str, above: str) -> Element:
    """A problem's code, with a link to its page; `above` is the way to the status page."""
    return _e("a", _e("code", code), href=f"{above}problems/{code}")


def _reasons(reasons: Sequence[Reason], clock: _Clock) -> Iterator[Content]:
    for reason in reasons[:_SHOWN_REASONS]:
        yield _reason(reason, clock)
    if len(reasons) > _SHOWN_REASONS:
        yield _e("p", f"And {len(reasons) - _SHOWN_REASONS} more: ", _e("a", "all of them", href="api/v1/status"))


def _reason(reason: Reason, clock: _Clock) -> Element:
    problem = reason.problem
    words = report.EFFECTS[reason.effect]
    verdict = _MARK_OF[reason.effect]
    remedy = problem.remedy
    return _e(
        "article",
        _e("h3", problem.title, [": ", _said(reason.key)] if reason.key else None),
        _e(
            "p",
            _e("span", _mark(verdict), f"{words[:1].upper()}{words[1:]}", class_=f"effect {verdict.value}"),
            " · since ",
            clock(reason.since),
            " · ",
            _code(problem.code, ""),
            class_="small muted",
        ),
        _evidence(reason.evidence),
        _e("p", _inline(problem.meaning)),
        _e("p", "Hence also: ", _listed([_code(code, "") for code in reason.consequences[:_SHOWN_FACTS]]),
           class_="small") if reason.consequences else None,
        _e(
            "div",
            _e("p", _e("b", "Fix. "), _inline(problem.fix)),
            _e("p", "Where it is allowed, backupready may do it: ", _e("code", f"backupready fix {remedy}"),
               class_="small muted") if remedy else None,
            class_="fix",
        ),
    )  # fmt: skip


def _evidence(evidence: Evidence) -> Element | None:
    told = [(name, value) for name, value in evidence.items() if value not in (None, "")]
    if not told:
        return None
    facts: list[tuple[Content, Content]] = [
        (_said(name.replace("_", " "), 60), _said(value)) for name, value in told[:_SHOWN_FACTS]
    ]
    if len(told) > _SHOWN_FACTS:
        facts.append(("…", f"and {len(told) - _SHOWN_FACTS} more"))
    return _facts(*facts, class_="seen")


def _unknown(snapshot: Snapshot) -> Element:
    known = {belief.problem.code: belief.problem for belief in snapshot.beliefs}
    rows: list[Sequence[Content]] = [
        (
            _code(entry["problem"], "") if entry.get("problem") in known else ["probe ", _e("code", entry["probe"])],
            _said(entry["why"]),
        )
        for entry in report.unknown(snapshot)
    ]
    return _table("What could not be told, and why", ("Problem or probe", "Why it cannot be told"), rows)


def _looked(snapshot: Snapshot, clock: _Clock) -> Iterator[Content]:
    def row(run: ProbeRun) -> Sequence[Content]:
        state = run.state.value.replace("_", " ") if run.state is not None else "not yet"
        return _e("code", run.name), state, _or_never(clock, run.last_run), f"{run.seconds:.2f} s"

    yield _table("The probes", ("Probe", "Came to", "Last look", "Took"), map(row, snapshot.probes))
    if off := snapshot.machine.get("switched_off"):
        yield _e("p", "Switched off: ", _said(off), class_="small muted")


def _foot(above: str) -> Element:
    return _e(
        "footer",
        [_e("a", name, href=f"{above}{path}") for name, path in _PLACES],
        _e("span", f"backupready {__version__}"),
        class_="foot",
    )


_PLACES = (("All problems", "problems/"), ("Status as JSON", "api/v1/status"), ("Metrics", "metrics"))


# ---------------------------------------------------------------------------------------------------- the window


def _window(outlook: Outlook | None, clock: _Clock) -> Iterator[Content]:
    window = outlook.window if outlook is not None else None
    if outlook is None or window is None:
        if outlook is not None and outlook.unplanned:
            yield _e("p", f"When the next backup is due cannot be told: {outlook.unplanned}.")
        else:
            yield _e("p", "When the next backup is due is not known: neither configured in ", _e("code", "[window]"),
                     ", nor learned from past backups.")  # fmt: skip
        if outlook is not None and outlook.phase is Phase.OPEN:
            yield _e("p", _sentence(report.PHASES[outlook.phase]), class_="muted")
        yield _suggested(outlook) if outlook is not None else None
        return
    yield _timeline(outlook, window, clock)
    is_open = window.start <= outlook.at
    facts: list[tuple[Content, Content]] = [
        ("Starts", [clock(window.start), "" if is_open else f", in {report.span(window.start - outlook.at)}"]),
        ("Over by", [clock(window.end), f", {report.span(window.end - window.start)} later"]),
    ]
    if outlook.lead and not is_open:
        facts.insert(0, ("Lead", ["from ", clock(window.start - outlook.lead), " on"]))
    where = "as configured" if outlook.configured else "learned from past backups"
    facts.append(("Schedule", [_said(window.schedule), f", {where}"]))
    facts.append(("Now", report.PHASES[outlook.phase]))
    later = [one for one in outlook.upcoming if one.start > window.start][:3]
    if later:
        facts.append(("Then", _listed([clock(one.start) for one in later])))
    yield _facts(*facts)


def _suggested(outlook: Outlook) -> Element | None:
    if not outlook.learned:
        return None
    return _e("ul", [
        _e("li", "Past backups suggest ", _said(one.schedule),
           f" (confidence {one.confidence:.2f}, from {_number(len(one.runs), 'backup')})")
        for one in outlook.learned[:_SHOWN_FACTS]
    ])  # fmt: skip


def _sentence(words: str) -> str:
    return f"{words[:1].upper()}{words[1:]}."


class _Axis:
    """A stretch of time across a picture's whole width."""

    def __init__(self, first: float, last: float, clock: _Clock) -> None:
        self.first, self.last, self.clock = first, max(last, first + 60), clock

    def place(self, moment: float) -> float:
        """In per cent of the width."""
        return min(max((moment - self.first) / (self.last - self.first) * 100, 0.0), 100.0)

    def band(self, start: float, end: float) -> Mapping[str, str]:
        """The attributes x and width of a stretch, which is never too narrow to be seen."""
        left, right = self.place(start), self.place(end)
        width = max(right - left, _NARROWEST)
        return {"x": _percent(min(left, 100 - width)), "width": _percent(width)}

    def label(self, text: str, moment: float, y: int, class_: str = "") -> Element:
        """Words at a moment, that do not stick out."""
        at = self.place(moment)
        room = at < 80
        attributes = {"x": _percent(at), "y": str(y), "text_anchor": "start" if room else "end"}
        attributes["dx"] = "0.4em" if room else "-0.4em"
        return _e("text", text, **attributes, **({"class_": class_} if class_ else {}))

    def ticks(self, top: int, bottom: int) -> Iterator[Element]:
        """Round hours of the clock on the wall, with their names below."""
        for told in self._round():
            at = self.place(told.timestamp())
            if not 1 < at < 99:
                continue
            x = _percent(at)
            yield _e("line", x1=x, x2=x, y1=str(top), y2=str(bottom), class_="axis")
            if 9 < at < 91:
                words = told.strftime("%a %H:%M" if self.last - self.first > DAY else "%H:%M")
                yield _e("text", words, x=x, y=str(bottom + 15), text_anchor="middle")

    def _round(self) -> Iterator[datetime]:
        hours = (self.last - self.first) / 3600
        step = next(
            (step for step in (1, 2, 3, 4, 6, 12, 24, 48, 96) if hours / step <= _TICKS), int(hours / _TICKS) + 1
        )
        try:
            told = report.clock(self.first, self.clock.zone).replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
            for _ in range(24 + _TICKS + 2):
                if told.timestamp() > self.last:
                    return
                yield told
                told += timedelta(hours=step)
        except (OverflowError, ValueError, OSError):
            return


def _timeline(outlook: Outlook, window: Window, clock: _Clock) -> Element:
    lead = window.start - outlook.lead
    first, last = min(outlook.at, lead, window.start), max(window.end, outlook.at)
    margin = (last - first) * 0.03
    axis = _Axis(first - margin, last + margin, clock)
    x = _percent(axis.place(outlook.at))
    told = (
        f"Timeline. Now it is {clock.words(outlook.at)}; the window begins {clock.words(window.start)} and ends"
        f" {clock.words(window.end)}; the lead before it begins {clock.words(lead)}."
    )
    picture = _e(
        "svg",
        _e("title", told, id="timeline-title"),
        _hatch(),
        _e("rect", x="0", y="46", width="100%", height="22", rx="3", class_="track"),
        axis.ticks(46, 74),
        _e("rect", y="46", height="22", class_="lead", **axis.band(lead, window.start)) if outlook.lead else None,
        _e("rect", y="46", height="22", class_="window", **axis.band(window.start, window.end)),
        axis.label("window", window.start, 38, "strong"),
        axis.label("now", outlook.at, 14, "strong"),
        _e("line", x1=x, x2=x, y1="4", y2="74", class_="now"),
        _e("circle", cx=x, cy="57", r="5", class_="nowdot"),
        class_="picture",
        height="94",
        role="img",
        aria_labelledby="timeline-title",
    )
    return _e("figure", picture, _e(
            "figcaption",
            _key("lead", "lead, in which something can still be done"),
            _key("window", "window, in which a backup may run"),
        ))  # fmt: skip


def _hatch() -> Element:
    return _e(
        "defs",
        _e("pattern", _e("path", d="M0 0L0 6", class_="hatch"), id="hatch", width="5", height="6",
           patternUnits="userSpaceOnUse", patternTransform="rotate(45)"),
    )  # fmt: skip


def _key(class_: str, words: str) -> Element:
    """What a shape in a picture stands for."""
    if class_ == "run":
        shape = _e("line", x1="50%", x2="50%", y1="0", y2="100%", class_="run")
    else:
        shape = _e("rect", x="0", y="0", width="100%", height="100%", class_=class_)
    return _e("span", _e("svg", shape, aria_hidden="true"), words)


# -------------------------------------------------------------------------------------------------- the last day

_ROW = 70  # pixels of one measure in the picture
_HIGH = 40  # and of its wave
_MEASURES = (("Processor", "cpu"), ("Memory", "memory"), ("Waiting for disks", "io"), ("Taken by the host", "steal"))


def _pressure(past: Past, clock: _Clock) -> Content:
    axis = _Axis(clock.at - DAY, clock.at, clock)
    loads = [load for load in past.loads if load.start + SLOT > axis.first and load.start < axis.last]
    if not loads:
        return _e("p", "How busy the machine was is not on record yet: the first five minutes must be over.",
                  class_="muted")  # fmt: skip
    height = _ROW * len(_MEASURES)
    waves: list[Content] = []
    told = []
    for index, (name, measure) in enumerate(_MEASURES):
        values: list[tuple[float, float]] = [
            (load.start, share) for load in loads if (share := getattr(load, measure)) is not None
        ]
        top = index * _ROW
        if values:
            when, most = max(values, key=lambda value: value[1])
            words = f"at most {most:.0%}, at {clock.of_day(when)}"
            told.append(f"{name.lower()} {words}")
        else:
            words = "the kernel does not count it"
        base = str(top + 22 + _HIGH)
        waves += [
            _e("text", name, x="0", y=str(top + 14), class_="strong"),
            _e("text", words, x="100%", y=str(top + 14), text_anchor="end"),
            _wave(axis, values, top + 22),
            _e("line", x1="0", x2="100%", y1=base, y2=base, class_="axis"),
        ]
    begun = [run for run in past.runs if axis.first <= run.start <= axis.last]
    picture = _e(
        "svg",
        _e("title", f"How busy the machine was in the last day: {'; '.join(told)}.", id="pressure-title"),
        [_past_window(axis, window, height) for window in past.windows if window.start < axis.last],
        waves,
        [_past_run(axis, run, height) for run in begun],
        axis.ticks(height - 6, height),
        class_="picture",
        height=str(height + 20),
        role="img",
        aria_labelledby="pressure-title",
    )
    legend = [_key("past", "a window")] if past.windows else []
    legend += [_key("run", "a backup began")] if begun else []
    return _e(
        "figure",
        picture,
        _e("figcaption", legend) if legend else None,
        _e("p", "Each from 0 to 100 %, in steps of five minutes.", class_="small muted"),
    )


def _past_window(axis: _Axis, window: Window, height: int) -> Iterator[Element]:
    band = axis.band(window.start, min(window.end, axis.last))
    yield _e("rect", y="0", height=str(height), class_="past", **band)
    if window.start > axis.first:
        yield _e("line", x1=band["x"], x2=band["x"], y1="0", y2=str(height), class_="edge")


def _past_run(axis: _Axis, run: Run, height: int) -> Element:
    x = _percent(axis.place(run.start))
    return _e("line", x1=x, x2=x, y1="18", y2=str(height), class_="run")


def _wave(axis: _Axis, values: Sequence[tuple[float, float]], top: int) -> Element:
    """An area for each stretch without a gap: 10 units of the picture are five minutes, 100 are everything."""
    path: list[str] = []
    before = None
    for start, share in values:
        x, y = round((start - axis.first) / SLOT * 10), round(100 - share * 100)
        if before is None or start - before > SLOT:
            path.append(f"V100Z M{x} 100V{y}" if path else f"M{x} 100V{y}")
        path.append(f"L{x} {y}H{x + 10}")
        before = start
    if path:
        path.append("V100Z")
    wide = round(DAY / SLOT * 10)
    return _e("svg", _e("path", d=" ".join(path), class_="wave"), x="0", y=str(top), width="100%", height=str(_HIGH),
              viewBox=f"0 0 {wide} 100", preserveAspectRatio="none")  # fmt: skip


# ------------------------------------------------------------------------------------------------- what there was


def _backups(runs: Sequence[Run], outlook: Outlook | None, clock: _Clock) -> Iterator[Content]:
    if outlook is not None and outlook.unread:
        yield _e("p", "What is newest cannot be told: ", _said(outlook.unread), class_="muted")
    if not runs:
        yield _e("p", "No backup is on record.", class_="muted")
        return

    def row(run: Run) -> Sequence[Content]:
        seconds = math.nan if run.began is None else run.ended - run.began
        took = report.span(seconds) if math.isfinite(seconds) else "how long is not on record"
        path = f", snapshot by the {run.path}" if run.path else ""
        return clock(run.start), f"{report.HAPPENED[run.happened].capitalize()}", took, _in_code(run.code), [
            _said(path.lstrip(", "), 60)
        ]  # fmt: skip

    yield _table(
        "The last backups", ("Began", "What came", "Took", "Code", "By"), map(row, reversed(runs[-SHOWN_RUNS:]))
    )


def _in_code(code: int) -> str:
    name = report.code_name(code)
    return f"{code} {name}" if name else str(code)


def _predictions(snapshot: Snapshot, outlook: Outlook, clock: _Clock) -> Iterator[Content]:
    known = {belief.problem.code for belief in snapshot.beliefs}

    def row(one: Prediction) -> Sequence[Content]:
        codes: list[Content] = [
            _code(code, "") if code in known else _e("code", _said(code, 60)) for code in one.reasons[:_SHOWN_FACTS]
        ]
        happened = "not known yet" if one.happened is None else report.HAPPENED[one.happened]
        return clock(one.start), [_said_verdict(one.verdict), [": ", _listed(codes)] if codes else None], happened

    if outlook.predictions:
        heads = ("Window of", "Said before", "What came")
        yield _table("Predictions and outcomes", heads, map(row, reversed(outlook.predictions)))
    if outlook.scores:
        yield _e(
            "p",
            "Over all: ",
            "; ".join(_score(*score) for score in outlook.scores),
            ".",
            class_="small muted",
        )


def _said_verdict(verdict: Verdict) -> Element:
    return _e("span", _mark(verdict), verdict.value.replace("_", " "), class_=f"effect {verdict.value}")


def _score(verdict: Verdict, happened: Happened, times: int) -> str:
    return f"said {verdict.value.replace('_', ' ')}, {report.HAPPENED[happened]}: {times}"


_RESULTS = {
    Result.UNDER_WAY: "under way",
    Result.HEALED: "healed",
    Result.DONE: "done",
    Result.NOT_HEALED: "did not help",
    Result.WORSE: "made something worse, and was undone",
    Result.FAILED: "failed, and was undone",
    Result.INTERRUPTED: "was interrupted, and undone",
    Result.UNDONE: "was undone later",
}


def _fixes(fixes: Fixes, snapshot: Snapshot, clock: _Clock) -> Iterator[Content]:
    known = {belief.problem.code for belief in snapshot.beliefs}

    def problem(code: str, key: str) -> Content:
        shown = _code(code, "") if code in known else _e("code", _said(code, 60))
        return [shown, [" ", _said(key, 100)] if key else None]

    def row(attempt: Attempt) -> Sequence[Content]:
        why = _bounded("; ".join(attempt.reasons), _LONGEST)
        left = f"; {_number(len(attempt.left), 'step')} could not be undone" if attempt.left else ""
        return (
            clock(attempt.began),
            _e("code", _said(attempt.remedy, 60)),
            problem(attempt.problem, attempt.key) if attempt.problem else ["asked for by ", _said(attempt.by, 60)],
            [f"{_RESULTS[attempt.result].capitalize()}{left}", [": ", _said(why)] if why else None],
        )

    if fixes.attempts:
        heads = ("When", "Fix", "For", "What came")
        yield _table("The last fixes", heads, map(row, reversed(fixes.attempts[-_SHOWN_ATTEMPTS:])))
    else:
        yield _e("p", "Nothing was fixed.", class_="muted")
    for change in fixes.temporary[:_SHOWN_FACTS]:
        yield _e("p", "For the time being: ", _said(change.change), ", until ", clock(change.until), class_="small")
    for limit in fixes.limits[:_SHOWN_FACTS]:
        until = [" until ", clock(limit.until)] if limit.until is not None else " until it is over"
        yield _e("p", "Not fixed any more: ", problem(limit.problem, limit.key), until, ", since ", _said(limit.why),
                 class_="small")  # fmt: skip


# --------------------------------------------------------------------------------------------------- the runbook

_INLINE = re.compile(r"`([^`]+)`|<(https://[^\s<>]+)>")


def _inline(text: str) -> Iterator[Content]:
    """A declaration's `code` and <https://addresses>."""
    at = 0
    for found in _INLINE.finditer(text):
        yield text[at : found.start()]
        yield _e("code", found[1]) if found[1] else _e("a", found[2], href=found[2], rel="noreferrer")
        at = found.end()
    yield text[at:]


def problem(problem: Problem, remedies: Iterable[Remedy]) -> bytes:
    """The runbook's page of a problem. `remedies` are those for it, gentlest first."""
    sections: list[Content] = [
        (_e("h2", heading), [_block(block) for block in blocks])
        for heading, blocks in report.article(problem, remedies)
    ]
    verdict = _MARK_OF[problem.effect]
    return _page(
        f"{problem.code}: {problem.title}",
        problem.title,
        _runbook_top(),
        _e(
            "main",
            _e("h1", problem.title),
            _e("p", _e("code", problem.code), " · ",
               _e("span", _mark(verdict), problem.effects, class_=f"effect {verdict.value}"),
               f" · {problem.cause.value}", class_="muted"),
            sections,
            class_="runbook",
        ),
    )  # fmt: skip


def _runbook_top() -> Element:
    return _e("nav", _e("span", _e("a", "Status", href="../"), " / ", _e("a", "All problems", href="../problems/")),
              _e("span", f"backupready {__version__}"), class_="top", aria_label="Where this is")  # fmt: skip


def _block(block: report.Block) -> Element:
    if isinstance(block, str):
        return _e("p", _inline(block))
    return _e("ul", [_e("li", _inline(point)) for point in block])


def problems(known: Iterable[Problem]) -> bytes:
    """The list of all of the runbook's problems."""
    rows = [
        (_code(one.code, "../"), one.title, _e("span", one.effects)) for one in sorted(known, key=lambda one: one.code)
    ]
    return _page(
        "Problems",
        "What can be wrong, and what to do about it",
        _runbook_top(),
        _e("main", _e("h1", "What can be wrong"), _table("All problems", ("Problem", "What it is", "Effect"), rows),
           class_="runbook"),
    )  # fmt: skip
