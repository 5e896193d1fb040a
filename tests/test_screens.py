"""What does a person see? The pages in a real browser, narrow and wide, light and dark."""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import scenes
from backupready import probes, remedies
from backupready.mind.metrics import Exposition
from backupready.mind.web import Site, WebServer
from browser import Browser, browser

pytestmark = pytest.mark.integration

DOC = Path(__file__).parents[1] / "packaging/doc"
WIDTHS = (360, 1400)
# The pictures of the README: which machine, whether it is dark, and how many pixels are shown of its height.
PICTURES = {"blocked.png": ("blocked", False, 1085), "healthy.png": ("healthy", True, 1050)}
_WIDE = 1100  # pixels of such a picture


@dataclass
class Served:
    """A server whose machine the test may replace."""

    scene: scenes.Scene
    address: str = ""


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    told = Served(scenes.healthy())
    site = Site(
        lambda: told.scene.snapshot,
        Exposition(lambda: told.scene.snapshot, probes.METRICS),
        lambda: 0.0,
        lambda: told.scene.past,
        probes.PROBLEMS,
        remedies.remedies_for,
    )
    server = WebServer((("127.0.0.1", 0),), site)
    told.address = f"http://{server.addresses[0]}"
    yield told
    server.close()


@pytest.fixture(scope="module")
def tab() -> Iterator[Browser]:
    """One browser for all: it takes a second to start."""
    with browser() as one:
        yield one


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", scenes.SCENES)
def test_a_status_page_fits_and_asks_for_nothing(
    served: Served, tab: Browser, name: str, width: int, dark: bool, tmp_path: Path
) -> None:
    """Nobody has to scroll sideways, the browser has nothing to complain of, and no request but the page's own."""
    served.scene = scenes.SCENES[name]()
    seen = tab.show(f"{served.address}/", width, dark, most=4000)
    (tmp_path / f"{name}-{width}-{'dark' if dark else 'light'}.png").write_bytes(seen.picture)
    assert seen.widest == width
    assert seen.requests == [f"{served.address}/"]
    assert seen.complaints == []
    assert tab.value("document.scripts.length + document.images.length") == 0
    # The style sheet counts, or else the fence keeps it out.
    assert tab.value("getComputedStyle(document.body).margin") == "0px"
    assert tab.value(_STICKING_OUT) == []


# Elements with text that are cut off at the right, or reach beyond the window.
_STICKING_OUT = """
Array.from(document.querySelectorAll('body *'))
    .filter(e => e.closest('details') === null && e.getBoundingClientRect().right > innerWidth + 1)
    .map(e => e.tagName + ': ' + e.textContent.slice(0, 40))
"""

# Texts in a picture that lie on each other.
_ON_EACH_OTHER = """
Array.from(document.querySelectorAll('svg.picture')).flatMap(svg => {
    const boxes = Array.from(svg.querySelectorAll('text')).map(t => [t.textContent, t.getBoundingClientRect()]);
    return boxes.flatMap(([a, p], i) => boxes.slice(i + 1)
        .filter(([b, q]) => p.left < q.right && q.left < p.right && p.top + 2 < q.bottom && q.top + 2 < p.bottom)
        .map(([b, q]) => a + ' / ' + b));
})
"""

# For each text that is seen: the contrast with the page's or its own box's background, as WCAG 2 reckons.
_FAINT = """
(() => {
    const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
    const light = colour => {
        canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
        const [r, g, b] = Array.from(canvas.getImageData(0, 0, 1, 1).data)
            .map(v => v / 255).map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const behind = e => {
        for (; e; e = e.parentElement) {
            const colour = getComputedStyle(e).backgroundColor;
            if (colour !== 'rgba(0, 0, 0, 0)') return colour;
        }
    };
    const found = [];
    for (const e of document.querySelectorAll('body *')) {
        if (!Array.from(e.childNodes).some(n => n.nodeType === 3 && n.textContent.trim())) continue;
        if (e.tagName === 'title') continue;
        const colour = e.tagName === 'text' ? getComputedStyle(e).fill : getComputedStyle(e).color;
        const [a, b] = [light(colour), light(behind(e))].sort((x, y) => y - x);
        if ((a + 0.05) / (b + 0.05) < 4.5) found.push(e.tagName + ': ' + e.textContent.slice(0, 40));
    }
    return found;
})()
"""


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("hours", [-1.5, -0.1, 0.5, 3.9, 7.8, 30.0, 150.0])
def test_words_in_the_pictures_do_not_lie_on_each_other(served: Served, tab: Browser, width: int, hours: float) -> None:
    """Wherever now is, from within the window to a week before it."""
    known = scenes.outlook(scenes.TONIGHT - hours * scenes.HOUR)
    scene = scenes.blocked()
    served.scene = scenes.Scene(scenes.at(scene.snapshot, known, known.at), scenes.past(known.at, scene.past.runs))
    tab.show(f"{served.address}/", width, most=10)
    assert tab.value("document.querySelectorAll('svg.picture').length") == 2
    assert tab.value(_ON_EACH_OTHER) == []


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("name", ["healthy", "blocked", "unknown"])
def test_every_word_can_be_read(served: Served, tab: Browser, name: str, dark: bool) -> None:
    """The contrast that WCAG 2 asks for at level AA."""
    served.scene = scenes.SCENES[name]()
    tab.show(f"{served.address}/", 1400, dark, most=10)
    assert tab.value(_FAINT) == []


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("path", ["/problems/", "/problems/AGENT_STOPPED", "/problems/NOT_AN_AZURE_VM"])
def test_the_runbook_fits(served: Served, tab: Browser, path: str, width: int) -> None:
    """The same for the list and the pages of problems."""
    seen = tab.show(f"{served.address}{path}", width, most=10)
    assert (seen.widest, seen.requests, seen.complaints) == (width, [f"{served.address}{path}"], [])
    assert tab.value(_STICKING_OUT) == []


def test_what_is_fenced_off_is_noticed(served: Served, tab: Browser) -> None:
    """The test that nothing is complained of cannot hold by hearing nothing: a style and a picture are refused."""
    tab.show(f"{served.address}/", 1400, most=10)
    tab.value("document.body.setAttribute('style', 'color:red'); new Image().src = '/x.png'")
    assert [text for text in tab.complaints() if "Content Security Policy" in text] != []


# What is seen in a picture so high, and in which style. Pixels differ from one version of the browser to the next.
_IN_THE_PICTURE = """
Array.from(document.querySelectorAll('style, .top, .verdict, section'))
    .filter(e => { const r = e.getBoundingClientRect(); return (r.top + r.bottom) / 2 < HIGH; })
    .map(e => e.outerHTML).join('')
"""
_NOTE = b"Comment\0page "  # a keyword of PNG's, and which page it is of


def _with_note(picture: bytes, digest: str) -> bytes:
    """The picture with a chunk of text at its end, before IEND of 12 bytes."""
    chunk = b"tEXt" + _NOTE + digest.encode()
    return (
        picture[:-12] + struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) + picture[-12:]
    )


@pytest.mark.parametrize("name", PICTURES)
def test_the_pictures_of_the_readme(served: Served, tab: Browser, name: str, request: pytest.FixtureRequest) -> None:
    """They are of the page as it is now, small, and named in it; --update-goldens takes them anew."""
    scene, dark, high = PICTURES[name]
    served.scene = scenes.SCENES[scene]()
    picture = tab.show(f"{served.address}/", _WIDE, dark, most=high).picture
    digest = hashlib.sha256(tab.value(_IN_THE_PICTURE.replace("HIGH", str(high))).encode()).hexdigest()
    if request.config.getoption("--update-goldens"):
        (DOC / name).write_bytes(_with_note(picture, digest))
    data = (DOC / name).read_bytes()
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    assert struct.unpack(">II", data[16:24]) == (_WIDE, high)
    assert len(data) < 150_000
    assert _NOTE + digest.encode() in data, f"{name} is of a page that has changed; take it anew by --update-goldens"
    assert f"packaging/doc/{name}" in (DOC.parents[1] / "README.md").read_text(encoding="utf-8")
