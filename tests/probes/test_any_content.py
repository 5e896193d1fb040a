"""Whatever stands in a file, a probe says what it can, or that it cannot tell."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backupready import probes
from backupready.model import Answer, Fetched, Probe, ProbeState, Resolved, Unreachable
from backupready.observe import observe
from fake import FakeMachine, configuration, healthy
from scenario import scenarios

# Every file that any scenario has: what a probe reads on some machine stands in one of them.
FILES = sorted(
    {path for scenario in scenarios().values() for path in (*scenario.get("files", {}), *scenario.get("bytes", {}))}
    | set(healthy().files)
)
REAL = sorted(
    {text for scenario in scenarios().values() for text in scenario.get("files", {}).values() if text}, key=len
)[:600]
CONFIGURATION = configuration()


AWKWARD = [b"\n", b"=", b'"', b"\\x", b"9" * 40, b"[" * 3000, b"\xff\xfe", b"%(a)s"]


class AnyMachine(FakeMachine):
    """A machine whose files lead anywhere: what nobody serves is silent."""

    def get(self, url: str, timeout: float, budget: float, headers: Mapping[str, str] | None = None) -> Answer:
        if url not in self.http:
            raise Unreachable("timed_out", "nobody serves it", 1)
        return super().get(url, timeout, budget, headers)

    def fetch(self, url: str, timeout: float, budget: float, proxy: str = "") -> Fetched:
        raise Unreachable("name: failed", "nobody serves it", 1)

    def resolve(self, name: str, server: str, timeout: float) -> Resolved:
        raise Unreachable("timed_out", "nobody serves it", 1)


def spoilt(text: bytes) -> st.SearchStrategy[bytes]:
    """A real content, cut, doubled, or with a few bytes in between."""
    return st.builds(
        lambda at, bytes_, again: text[: at % (len(text) + 1)] + bytes_ + text[at % (len(text) + 1) :] * again,
        st.integers(0, 10_000),
        st.binary(max_size=8) | st.sampled_from(AWKWARD),
        st.integers(0, 2),
    )


CONTENT = st.binary(max_size=200) | st.sampled_from([text.encode() for text in REAL]).flatmap(spoilt)


@pytest.mark.parametrize("probe", probes.PROBES, ids=lambda probe: probe.name)
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(contents=st.dictionaries(st.sampled_from(FILES), CONTENT, min_size=1, max_size=6))
def test_no_content_is_a_defect(probe: Probe, contents: dict[str, bytes]) -> None:
    """On a healthy machine with up to six files of any content, twice, with what the first look remembered."""
    machine = healthy()
    fields = {name: getattr(machine, name) for name in ("table", "http", "units", "programs", "ring", "modes", "links")}
    strange = AnyMachine(files={**machine.files, **contents}, **fields)
    first = observe(probe, strange, CONFIGURATION)
    assert first.state is not ProbeState.FAILED, first.traceback
    strange.memory = json.loads(json.dumps(dict(first.memory)))
    again = observe(probe, strange, CONFIGURATION)
    assert again.state is not ProbeState.FAILED, again.traceback
    assert len(first.findings) < 200


def test_the_files_are_those_that_probes_read() -> None:
    """The test above cannot hold by spoiling what nobody reads, and whatever a probe asks for on a healthy machine,
    there or not, stands in some scenario or has a form of which another stands in one."""
    read: set[str] = set()

    class Recording(AnyMachine):
        def read(self, path: str, limit: int = 1 << 20) -> bytes:
            read.add(path)
            return super().read(path, limit)

    machine = healthy()
    fields = {name: getattr(machine, name) for name in ("files", "table", "http", "units", "programs", "ring")}
    for probe in probes.PROBES:
        observe(probe, Recording(**fields), CONFIGURATION)
    assert len(read & set(machine.files)) > 10
    asked_for = {path for path in read - set(FILES) if not path.startswith(("/sys/", "/proc/"))}
    assert {path.rpartition("/")[0] for path in asked_for} <= {path.rpartition("/")[0] for path in FILES}, asked_for
