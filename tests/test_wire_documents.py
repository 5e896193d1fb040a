"""How the roles talk: what survives the way, what is refused, and what a slow, broken or dead other side does."""

from __future__ import annotations

import json
import math
import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backupready import model, wire
from backupready.model import (
    CannotTell,
    Effect,
    Finding,
    Happened,
    Looked,
    Metric,
    Probe,
    ProbeState,
    Reading,
    Run,
    Watch,
)
from backupready.wire import Exchange, LookRequest, Malformed
from fake import looked, probe, problem

ASKED: Mapping[str, Probe] = {
    "agent": probe(
        "agent",
        [problem("AGENT_STOPPED"), problem("AGENT_HUNG", milder=(Effect.RISKS,))],
        metrics=[Metric("backupready_a", "A.", ("role", "unit")), Metric("backupready_b", "B.")],
    ),
    "unit": probe("unit", [problem("UNIT_MASKED")]),
}

# ------------------------------------------------------------------------------------------------- round trips

_text = st.text(max_size=40)
_number = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**53), 2**53).map(float)
_scalar = (
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | _text
)
_json = st.recursive(_scalar, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_text, inner, max_size=3))


def _looks_of(one: Probe) -> st.SearchStrategy[Looked]:
    codes = st.sampled_from([problem.code for problem in one.problems])
    effects = [None, *set.intersection(*({problem.effect, *problem.milder} for problem in one.problems))]
    readings = [
        st.builds(
            Reading, st.just(m.name), _number, st.dictionaries(st.sampled_from(m.labels or ("",)), _text, max_size=2)
        )
        if m.labels
        else st.builds(Reading, st.just(m.name), _number, st.just({}))
        for m in one.metrics
    ]
    return st.builds(
        Looked,
        probe=st.just(one.name),
        state=st.sampled_from(ProbeState),
        seconds=st.floats(0, 1e6).map(lambda seconds: round(seconds, 6)),
        attempts=st.integers(0, 99),
        why=_text,
        traceback=_text,
        findings=st.lists(
            st.builds(Finding, codes, _text, st.dictionaries(_text, _scalar, max_size=4), st.sampled_from(effects))
        ).map(tuple),
        readings=st.lists(st.one_of(readings)).map(tuple) if readings else st.just(()),
        watches=st.lists(st.builds(Watch, _text, st.integers(1, 2**22))).map(tuple),
        runs=st.lists(
            st.builds(
                Run,
                _number,
                st.integers(-(2**63) + 1, 2**63 - 1),
                st.sampled_from(Happened),
                st.none() | _number,
                _text,
            )
        ).map(tuple),
        unknown=st.lists(
            st.builds(CannotTell, _text, st.lists(codes, max_size=2), st.none() | st.sampled_from(Effect))
        ).map(tuple),
        memory=st.dictionaries(_text, _json, max_size=3),
    )


@given(looks=st.tuples(*map(_looks_of, ASKED.values())))
def test_looks_arrive_as_they_were(looks: tuple[Looked, ...]) -> None:
    """Whatever was seen, encoding and decoding an answer gives the same looks."""
    assert wire.decode_answer(wire.encode_answer(looks), ASKED) == looks


@given(memory=st.dictionaries(st.sampled_from(["agent", "unit"]), st.dictionaries(_text, _json, max_size=3)))
def test_a_request_arrives_as_it_was(memory: Mapping[str, Mapping[str, Any]]) -> None:
    """Names and memory survive the way; a name that is given twice counts once."""
    request = LookRequest(("unit", "agent", "unit"), memory)
    assert wire.decode_request(wire.encode_request(request), ASKED) == LookRequest(("unit", "agent"), memory)


# ------------------------------------------------------------------------------------------------ what is refused

_any_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
)
_LOOK_KEYS = [
    "probe", "state", "seconds", "attempts", "why", "traceback", "findings", "readings", "watches", "runs", "unknown",
    "memory",
]  # fmt: skip


def _document(look: Looked) -> dict[str, Any]:
    """The look of an answer as plain JSON, to be spoilt."""
    document: dict[str, Any] = json.loads(wire.encode_answer([look]))["looks"][0]
    assert sorted(document) == sorted(_LOOK_KEYS)
    return document


def _answer(*looks: Any, **more: Any) -> bytes:
    return json.dumps({"schema": wire.SCHEMA, "looks": looks, **more}).encode()


@given(data=st.binary(max_size=200) | _any_json.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_are_a_document_or_malformed(data: bytes) -> None:
    """Whatever the other side sends, nothing but Malformed comes of it."""
    with pytest.raises(Malformed):
        wire.decode_request(data, ASKED)
    with pytest.raises(Malformed):
        wire.decode_answer(data, ASKED)


@given(names=_any_json, memory=_any_json)
def test_a_request_of_any_values_is_a_request_or_malformed(names: Any, memory: Any) -> None:
    """The right keys with wrong values do no more harm than garbage."""
    data = json.dumps({"schema": wire.SCHEMA, "probes": names, "memory": memory}).encode()
    try:
        request = wire.decode_request(data, ASKED)
    except Malformed:
        return
    assert set(request.probes) <= set(ASKED)


@given(key=st.sampled_from(_LOOK_KEYS), value=_any_json, rows=st.booleans())
def test_an_answer_of_any_values_is_an_answer_or_malformed(key: str, value: Any, rows: bool) -> None:
    """One value of a right answer replaced by any other: it is taken in its right form, or Malformed."""
    document = {**_document(looked("unit")), key: [value] if rows else value}
    try:
        (look,) = wire.decode_answer(_answer(document), {"unit": ASKED["unit"]})
    except Malformed:
        return
    assert look.probe == "unit"
    assert isinstance(look.seconds, float)
    assert type(look.attempts) is int
    assert all(type(text) is str for text in (look.why, look.traceback))
    assert isinstance(look.memory, dict)


WRONG: dict[str, dict[str, Any]] = {
    "an undeclared problem": {"findings": [["AGENT_MASKED", "", {}, None]]},
    "a problem of another probe": {"findings": [["UNIT_MASKED", "", {}, None]]},
    "a problem that is no text": {"findings": [[["AGENT_HUNG"], "", {}, None]]},
    "a key that is no text": {"findings": [["AGENT_HUNG", 1, {}, None]]},
    "evidence that is no table": {"findings": [["AGENT_HUNG", "", [], None]]},
    "evidence that is not flat": {"findings": [["AGENT_HUNG", "", {"a": {"b": 1}}, None]]},
    "evidence with a list": {"findings": [["AGENT_HUNG", "", {"a": [1]}, None]]},
    "a finding with too few parts": {"findings": [["AGENT_HUNG", "", {}]]},
    "a finding with too many parts": {"findings": [["AGENT_HUNG", "", {}, None, 1]]},
    "findings that are a table": {"findings": {"AGENT_HUNG": 1}},
    "findings that are a number": {"findings": 3},
    "too many findings": {"findings": [["AGENT_HUNG", "", {}, None]] * 2001},
    "an undeclared metric": {"readings": [["backupready_c", 1, {}]]},
    "an undeclared label": {"readings": [["backupready_a", 1, {"pid": "1"}]]},
    "a label's value that is no text": {"readings": [["backupready_a", 1, {"role": 1}]]},
    "a reading that is no number": {"readings": [["backupready_b", "1", {}]]},
    "a reading that is a boolean": {"readings": [["backupready_b", True, {}]]},
    "an unknown state": {"state": "fine"},
    "no state": {"state": None},
    "a duration that is no number": {"seconds": "1"},
    "attempts that are no number": {"attempts": None},
    "attempts beyond counting": {"attempts": math.inf},
    "attempts that are not a number": {"attempts": math.nan},
    "a reason that is no text": {"why": 1},
    "a traceback that is no text": {"traceback": []},
    "a process of no number": {"watches": [["daemon", "1"]]},
    "the process 0": {"watches": [["daemon", 0]]},
    "a negative process": {"watches": [["daemon", -1]]},
    "a process that is a boolean": {"watches": [["daemon", True]]},
    "a process without a role": {"watches": [[None, 1]]},
    "a process with too many parts": {"watches": [["daemon", 1, 0]]},
    "a run without a path": {"runs": [[1.0, 1, "succeeded", None]]},
    "a run of an unknown end": {"runs": [[1.0, 1, "fine", None, ""]]},
    "a run whose end is no text": {"runs": [[1.0, 1, 1, None, ""]]},
    "a run that has not ended": {"runs": [[None, 1, "succeeded", None, ""]]},
    "a run whose moment is no number": {"runs": [["1", 1, "succeeded", None, ""]]},
    "a run that began at no moment": {"runs": [[1.0, 1, "succeeded", math.nan, ""]]},
    "a run whose code is no number": {"runs": [[1.0, "1", "succeeded", None, ""]]},
    "a run whose code is a boolean": {"runs": [[1.0, True, "succeeded", None, ""]]},
    "a run whose code is beyond any": {"runs": [[1.0, 1 << 63, "succeeded", None, ""]]},
    "a run whose path is no text": {"runs": [[1.0, 1, "succeeded", None, None]]},
    "runs that are a table": {"runs": {}},
    "too many runs": {"runs": [[1.0, 1, "succeeded", None, ""]] * 201},
    "an unknown problem that is not declared": {"unknown": [["why", ["UNIT_MASKED"], None]]},
    "a reason for unknown that is no text": {"unknown": [[None, [], None]]},
    "a memory that is no table": {"memory": 3},
    "a memory that is a list": {"memory": [1]},
    "an unknown probe": {"probe": "window"},
    "a probe that is no text": {"probe": ["agent"]},
    "a reading beyond a float": {"readings": [["backupready_b", 10**400, {}]]},
    "findings that are an empty table": {"findings": {}},
    "findings that are an empty text": {"findings": ""},
    "a memory of pairs": {"memory": [["a", 1]]},
    "unknown problems that are an empty text": {"unknown": [["why", "", None]]},
    "an effect that is not declared": {"findings": [["AGENT_HUNG", "", {}, "notice"]]},
    "an effect of another problem": {"findings": [["AGENT_STOPPED", "", {}, "risks"]]},
    "an effect that is none": {"findings": [["AGENT_HUNG", "", {}, "harms"]]},
    "an effect that is no text": {"findings": [["AGENT_HUNG", "", {}, 1]]},
    "an unknown problem's effect that is none": {"unknown": [["why", [], "harms"]]},
}


@pytest.mark.parametrize("what", WRONG)
def test_an_answer_that_is_wrong_in_one_place_is_refused_as_a_whole(what: str) -> None:
    """Nothing of an answer with anything undeclared or of a wrong form is used."""
    right = _document(looked("agent", Finding("AGENT_HUNG", effect=Effect.RISKS), CannotTell("x", ("AGENT_STOPPED",))))
    asked = {"agent": ASKED["agent"]}
    assert wire.decode_answer(_answer(right), asked)
    with pytest.raises(Malformed):
        wire.decode_answer(_answer({**right, **WRONG[what]}), asked)


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_a_number_without_a_value_is_refused(number: float) -> None:
    """Not a number is no JSON, and an infinity is nothing that was measured."""
    data = wire.encode_answer([looked("agent", readings=(Reading("backupready_b", number),))])
    with pytest.raises(wire.Malformed, match="no finite number"):
        wire.decode_answer(data, {"agent": ASKED["agent"]})


@pytest.mark.parametrize("text", ["\\ud800", "x" * 10_001], ids=["half a pair", "too long"])
def test_a_text_that_cannot_be_shown_is_refused(text: str) -> None:
    """Half a surrogate pair would break every page, and so would a text without end."""
    data = wire.encode_answer([looked("agent", why="@")]).replace(b"@", text.encode())
    with pytest.raises(wire.Malformed):
        wire.decode_answer(data, {"agent": ASKED["agent"]})


@pytest.mark.parametrize("key", _LOOK_KEYS)
def test_a_look_without_one_of_its_keys_is_refused(key: str) -> None:
    """Every key of a look must be there."""
    document = _document(looked("unit"))
    del document[key]
    with pytest.raises(Malformed):
        wire.decode_answer(_answer(document), {"unit": ASKED["unit"]})


def test_an_answer_speaks_once_of_each_probe_that_was_asked() -> None:
    """One that is missing, one too many, and one that was not asked are all refused."""
    agent, unit = _document(looked("agent")), _document(looked("unit"))
    assert len(wire.decode_answer(_answer(unit, agent), ASKED)) == 2
    with pytest.raises(Malformed, match=r"each probe: unit"):
        wire.decode_answer(_answer(agent), ASKED)
    with pytest.raises(Malformed, match=r"each probe: too many"):
        wire.decode_answer(_answer(agent, unit, unit), ASKED)
    with pytest.raises(Malformed, match=r"wrong form: KeyError"):
        wire.decode_answer(_answer(agent, unit), {"agent": ASKED["agent"]})


def test_an_error_is_told_in_the_words_of_the_other_side_but_not_at_any_length() -> None:
    """The reason why there is no answer arrives, cut."""
    with pytest.raises(Malformed, match="^cannot look: no such file$"):
        wire.decode_answer(wire.encode_error("cannot look: no such file"), ASKED)
    with pytest.raises(Malformed) as caught:
        wire.decode_answer(wire.encode_error("x" * 10_000), ASKED)
    assert len(str(caught.value)) == 500


def test_another_schema_is_refused() -> None:
    """Documents of a newer program are not guessed at."""
    for schema in (2, "1", None):
        data = json.dumps({"schema": schema, "probes": ["agent"], "memory": {}}).encode()
        with pytest.raises(Malformed, match="schema 1"):
            wire.decode_request(data, ASKED)


def test_a_request_names_known_probes_only() -> None:
    """No probe at all, a stranger, and a memory that is no table are refused; the stranger's name is cut."""
    for names in ([], None, "agent", [1], {"agent": 1}):
        with pytest.raises(Malformed, match="names no probes"):
            wire.decode_request(json.dumps({"schema": 1, "probes": names}).encode(), ASKED)
    with pytest.raises(Malformed) as caught:
        wire.decode_request(wire.encode_request(LookRequest(("agent", "x" * 1000), {})), ASKED)
    assert str(caught.value) == f"there is no probe {'x' * 40!r}"
    with pytest.raises(Malformed, match="no table"):
        wire.decode_request(b'{"schema":1,"probes":["agent"],"memory":{"agent":[]}}', ASKED)


def test_deep_nesting_is_malformed() -> None:
    """A document that would exhaust the parser's stack is refused like any other garbage."""
    with pytest.raises(Malformed):
        wire.decode_request(b"[" * 200_000, ASKED)


def test_an_answer_that_would_be_too_long_becomes_its_reason() -> None:
    """The eyes never send more than the bound; the mind learns why there is nothing."""
    look = looked("unit", *[Finding("UNIT_MASKED", str(n), {"x": "y" * 1000}) for n in range(1500)])
    data = wire.encode_answer([look])
    assert len(data) < 200
    with pytest.raises(Malformed, match=rf"would have \d+ bytes, more than {wire.ANSWER_LIMIT}"):
        wire.decode_answer(data, {"unit": ASKED["unit"]})
    shorter = replace(look, findings=look.findings[:900])
    assert len(wire.encode_answer([shorter])) <= wire.ANSWER_LIMIT
    assert wire.decode_answer(wire.encode_answer([shorter]), {"unit": ASKED["unit"]}) == (shorter,)


# ---------------------------------------------------------------------------------------------------- exchanges


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    yield ours, theirs
    ours.close()
    theirs.close()


Pair = tuple[socket.socket, socket.socket]


def test_an_exchange_asks_and_takes_the_answer(pair: Pair) -> None:
    """The request is complete when the writing side is closed, the answer when the other side closes."""
    exchange = Exchange(pair[0], b"request", 60)
    assert wire.receive(pair[1], 100, 5) == b"request"
    exchange.advance()
    assert not exchange.done
    pair[1].sendall(b"ans")
    exchange.advance()
    assert not exchange.done
    pair[1].sendall(b"wer")
    pair[1].close()
    exchange.advance()
    assert (exchange.done, exchange.answer, exchange.failure) == (True, b"answer", "")
    assert exchange.fileno() == -1


def test_an_exchange_does_not_wait(pair: Pair) -> None:
    """Advancing while there is nothing returns at once and changes nothing."""
    exchange = Exchange(pair[0], b"request", 60)
    for _ in range(3):
        exchange.advance()
    assert (exchange.done, exchange.failure) == (False, "")


def test_an_exchange_ends_at_its_deadline(pair: Pair) -> None:
    """Silence is a failure once the deadline has passed; half an answer is none."""
    exchange = Exchange(pair[0], b"request", 30)
    pair[1].sendall(b"half an ans")
    exchange.advance()
    exchange.deadline = time.monotonic()
    exchange.advance()
    assert (exchange.done, exchange.answer, exchange.failure) == (True, b"", "did not answer within 30 s")


def test_an_answer_that_is_there_at_the_deadline_counts(pair: Pair) -> None:
    """What arrived in time is taken, although it is looked for late."""
    exchange = Exchange(pair[0], b"request", 30)
    pair[1].sendall(b"answer")
    pair[1].close()
    exchange.deadline = time.monotonic() - 1
    exchange.advance()
    assert (exchange.answer, exchange.failure) == (b"answer", "")


def test_an_exchange_takes_no_more_than_the_bound(pair: Pair) -> None:
    """A flood is ended when it exceeds the bound, not when it ends."""
    exchange = Exchange(pair[0], b"request", 30)
    pair[1].setblocking(False)
    sent = 0
    while not exchange.done and sent < 3 * wire.ANSWER_LIMIT:
        sent += pair[1].send(b"x" * 65536)
        exchange.advance()
    assert exchange.failure == f"answered more than {wire.ANSWER_LIMIT} bytes"
    assert exchange.answer == b""
    assert sent <= wire.ANSWER_LIMIT + 65536


def test_an_answer_of_exactly_the_bound_is_taken(pair: Pair) -> None:
    """The bound itself is allowed."""
    exchange = Exchange(pair[0], b"request", 30)
    left = wire.ANSWER_LIMIT
    while left:
        left -= pair[1].send(b"x" * min(left, 65536))
        exchange.advance()
    pair[1].close()
    exchange.advance()
    assert (len(exchange.answer), exchange.failure) == (wire.ANSWER_LIMIT, "")


def test_garbage_is_an_answer_that_cannot_be_decoded(pair: Pair) -> None:
    """The exchange carries bytes; the document's form is judged by the decoder."""
    exchange = Exchange(pair[0], b"request", 30)
    pair[1].sendall(b"\x00garbage")
    pair[1].close()
    exchange.advance()
    with pytest.raises(Malformed, match="not JSON"):
        wire.decode_answer(exchange.answer, ASKED)


def test_a_peer_that_closes_without_an_answer_is_a_failure(pair: Pair) -> None:
    """Nothing is not an answer."""
    exchange = Exchange(pair[0], b"request", 30)
    wire.receive(pair[1], 100, 5)
    pair[1].close()
    exchange.advance()
    assert exchange.failure == "ended without an answer"


def test_a_peer_that_has_gone_before_the_request_is_a_failure(pair: Pair) -> None:
    """The broken pipe is not raised; that there is no answer shows in reading."""
    pair[1].close()
    exchange = Exchange(pair[0], b"request", 30)
    assert exchange.events == 1
    exchange.advance()
    assert (exchange.done, exchange.failure) == (True, "ended without an answer")


def test_a_peer_that_leaves_the_request_unread_is_a_failure(pair: Pair) -> None:
    """The reset is not raised, and what was said before it counts."""
    exchange = Exchange(pair[0], b"request", 30)
    pair[1].close()
    exchange.advance()
    assert (exchange.answer, exchange.failure) == (b"", "ended without an answer")
    ours, theirs = socket.socketpair()
    exchange = Exchange(ours, b"request", 30)
    theirs.sendall(b"no time to read")
    theirs.close()
    exchange.advance()
    assert (exchange.answer, exchange.failure) == (b"no time to read", "")


def test_a_request_that_is_given_up_says_why_and_stays_given_up(pair: Pair) -> None:
    """Cancelling twice, or after the end, changes nothing."""
    exchange = Exchange(pair[0], b"request", 30)
    exchange.cancel("the daemon stops")
    exchange.cancel("again")
    exchange.advance()
    assert (exchange.done, exchange.failure) == (True, "the daemon stops")


def test_a_request_larger_than_the_buffers_gets_through(pair: Pair) -> None:
    """What does not fit at once is sent as the other side reads; only while something is unsent is writing waited
    for."""
    for end in pair:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    request = os.urandom(wire.REQUEST_LIMIT)
    exchange = Exchange(pair[0], request, 60)
    assert exchange.events & 2
    taken: list[bytes] = []
    reader = threading.Thread(target=lambda: taken.append(wire.receive(pair[1], wire.REQUEST_LIMIT, 30)))
    reader.start()
    while exchange.events & 2:
        assert select.select([], [exchange], [], 30)[1]
        exchange.advance()
    reader.join(30)
    assert taken == [request]
    assert exchange.events == 1


def test_receiving_is_bounded_in_bytes(pair: Pair) -> None:
    """One byte more than the bound is too much, the bound itself is not."""
    pair[1].sendall(b"x" * 101)
    with pytest.raises(Malformed, match="longer than 100 bytes"):
        wire.receive(pair[0], 100, 5)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(b"x" * 100)
        theirs.shutdown(socket.SHUT_WR)
        assert len(wire.receive(ours, 100, 5)) == 100


def test_receiving_is_bounded_in_time(pair: Pair) -> None:
    """Whoever sends a little and then nothing is not waited for."""
    pair[1].sendall(b"x")
    started = time.monotonic()
    with pytest.raises(Malformed, match=r"not complete after 0\.05 s"):
        wire.receive(pair[0], 100, 0.05)
    assert time.monotonic() - started < 5


def test_receiving_from_a_connection_that_breaks_is_malformed(pair: Pair) -> None:
    """A reset is the other side's fault and named."""
    pair[0].sendall(b"unread")
    pair[1].close()
    with pytest.raises(Malformed, match="the connection broke: Connection reset by peer"):
        wire.receive(pair[0], 100, 5)


def test_the_peer_is_known_by_its_uid(pair: Pair) -> None:
    """The kernel says who is at the other end."""
    assert wire.peer_uid(pair[0]) == os.getuid()


# ------------------------------------------------------------------------------------- unix sockets and children


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "look.sock"))
        server.listen()
        yield server


def test_connecting_asks_a_peer_of_an_allowed_uid(listener: socket.socket) -> None:
    """The request reaches the one who listens."""
    exchange = wire.connect(listener.getsockname(), b"request", 5, allowed=(os.getuid(),))
    connection, _ = listener.accept()
    with connection:
        assert wire.receive(connection, 100, 5) == b"request"
    exchange.cancel("enough")


def test_connecting_refuses_a_peer_of_another_uid(listener: socket.socket) -> None:
    """Whoever else sits on the socket's path hears nothing."""
    with pytest.raises(PermissionError, match=rf"belongs to uid {os.getuid()}"):
        wire.connect(listener.getsockname(), b"request", 5, allowed=(os.getuid() + 1,))
    connection, _ = listener.accept()
    with connection:
        assert wire.receive(connection, 100, 5) == b""


def test_connecting_where_nobody_listens_is_an_os_error(tmp_path: Path) -> None:
    """A socket that is missing, or that nobody listens at, is told by the system's own error."""
    with pytest.raises(FileNotFoundError):
        wire.connect(str(tmp_path / "none"), b"request", 5, allowed=(0,))
    dead = tmp_path / "dead"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(dead))
    with pytest.raises(ConnectionRefusedError):
        wire.connect(str(dead), b"request", 5, allowed=(0,))


def _ask(code: str, seconds: float = 20.0, request: bytes = b"request") -> Exchange:
    """Ask a child that runs this code with the connection as `c`, until it is done."""
    preamble = "import os, socket, sys, time; c = socket.socket(fileno=0)\n"
    exchange = wire.spawn([sys.executable, "-S", "-c", preamble + code], request, seconds)
    while not exchange.done:
        select.select([exchange], [], [], max(0.0, exchange.deadline - time.monotonic()))
        exchange.advance()
    assert exchange.child is not None
    return exchange


def _code(exchange: Exchange) -> int:
    assert exchange.child is not None
    return exchange.child.wait(10)


@pytest.mark.integration
def test_a_child_answers() -> None:
    """A child process finds the connection as its standard input."""
    exchange = _ask("c.sendall(c.recv(100)[::-1])")
    assert (exchange.answer, exchange.failure) == (b"tseuqer", "")
    assert _code(exchange) == 0


@pytest.mark.integration
def test_a_child_that_dies_of_a_signal_is_told_so() -> None:
    """The signal's number is named."""
    exchange = _ask("c.recv(100); os.kill(os.getpid(), 9)")
    assert exchange.failure == "died of signal 9"
    assert exchange.answer == b""


@pytest.mark.integration
def test_a_child_that_exits_without_an_answer_is_told_so() -> None:
    """Its code is named."""
    assert _ask("c.recv(100); sys.exit(3)").failure == "ended with code 3 and without an answer"


@pytest.mark.integration
def test_a_child_that_dies_with_its_request_unread_is_a_failure() -> None:
    """One that breaks before it reads (a syntax error, say) resets the connection; that is a failure as well."""
    exchange = _ask("os._exit(1)")
    assert exchange.done
    assert exchange.failure
    assert exchange.answer == b""


@pytest.mark.integration
def test_a_child_that_hangs_is_killed_at_the_deadline() -> None:
    """It is not waited for beyond that, and it does not stay."""
    started = time.monotonic()
    exchange = _ask("time.sleep(60)", seconds=0.3)
    assert exchange.failure == "did not answer within 0.3 s"
    assert _code(exchange) == -signal.SIGKILL
    assert time.monotonic() - started < 10


@pytest.mark.integration
def test_a_child_that_closes_but_goes_on_is_killed() -> None:
    """It closed its end without an answer: what it still does is of no use."""
    exchange = _ask("c.recv(100); c.close(); time.sleep(60)")
    assert exchange.failure == "closed without an answer"
    assert _code(exchange) == -signal.SIGKILL


@pytest.mark.integration
def test_a_child_that_answered_is_not_killed() -> None:
    """It may finish what it does after the answer."""
    exchange = _ask("c.recv(9); c.sendall(b'yes'); c.shutdown(2); time.sleep(0.2); sys.exit(5)")
    assert (exchange.answer, exchange.failure) == (b"yes", "")
    assert _code(exchange) == 5


@pytest.mark.integration
def test_a_program_that_is_not_there_is_an_os_error() -> None:
    """No child, no exchange, and no descriptor left open."""
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    with pytest.raises(FileNotFoundError):
        wire.spawn(["/nonexistent/program"], b"request", 5)
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


# -------------------------------------------------------------------------------------------------------- fixes


def test_every_step_comes_back_as_it_was() -> None:
    """The closed set of steps survives its way through JSON."""
    steps: tuple[model.Step, ...] = (
        model.StartUnit("a"),
        model.StopUnit("a"),
        model.RestartUnit("a"),
        model.ResetFailed("a"),
        model.EnableUnit("a"),
        model.WriteDropIn("a", "b.conf", "[Service]\n"),
        model.DaemonReload(),
        model.SetConfigKey("a", "b"),
        model.SetConfigKey("a", "b", 5.0),
        model.JoinConfigLines(),
        model.SetAside("a"),
        model.MakeDirectory("a", ("mrseq", "\udcff")),
        model.PackageUpgrade("a"),
        model.Wait("a", "b", 3.0),
        model.WaitForReport(3.0),
    )
    assert {type(step).__name__ for step in steps} == set(wire._STEPS)
    for step in steps:
        assert wire.decode_step(json.loads(json.dumps(wire.encode_step(step)))) == step
    for wrong in ({"step": "Delete", "path": "/"}, {"step": "SetAside", "file": "a"}, {}):
        with pytest.raises(ValueError, match="does not know the step"):
            wire.decode_step(wrong)


REMEDIES = ("restart-agent", "reload-extension")
_moment = st.none() | _number
_fix_requests = st.builds(
    wire.FixRequest,
    remedy=st.sampled_from(REMEDIES),
    problem=_text,
    key=_text,
    seen=_number,
    phase=st.sampled_from(model.Phase),
) | st.builds(
    wire.FixRequest, st.just("restart-agent"), _text, _text, _number, st.just(model.Phase.LEAD), _number, _number
)
_answers = st.one_of(
    st.builds(
        model.Attempt,
        st.integers(0, 2**31 - 1),
        _text,
        _text,
        _text,
        _text,
        _number,
        st.sampled_from(model.Result),
        _moment,
        st.lists(_text, max_size=3).map(tuple),
        st.lists(st.integers(0, 20), max_size=3).map(tuple),
    ),
    st.builds(model.Refusal, _text, _text, _moment, _text),
    st.just(model.WouldRun((model.StartUnit("walinuxagent.service"), model.SetConfigKey("Logs.Verbose", "y", 7200.0)))),
)


@given(_fix_requests)
def test_a_request_for_a_fix_comes_back_as_it_was(request: wire.FixRequest) -> None:
    assert wire.decode_fix_request(wire.encode_fix_request(request), REMEDIES) == request


@given(_answers)
def test_the_answer_to_it_comes_back_as_it_was(answer: wire.FixAnswer) -> None:
    assert wire.decode_fix_answer(wire.encode_fix_answer(answer)) == answer


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"remedy": "delete-everything"}, "is not declared"),
        ({"remedy": ["restart-agent"]}, "wrong form"),
        ({"path": "/etc/passwd"}, "there is no field 'path'"),
        ({"seen": "yesterday"}, "wrong form"),
        ({"phase": "now"}, "'now' is not a valid Phase"),
        ({"start": 5.0}, "a window has a start and an end"),
        ({"key": None}, "wrong form"),
        ({"problem": "x" * 20_000}, "wrong form"),
        ({"schema": 2}, "schema"),
    ],
)
def test_a_request_of_another_form_is_refused(change: Mapping[str, Any], why: str) -> None:
    document = json.loads(wire.encode_fix_request(wire.FixRequest("restart-agent", "AGENT_STOPPED", "", 5.0)))
    assert wire.decode_fix_request(json.dumps(document).encode(), REMEDIES).seen == 5.0
    with pytest.raises(Malformed, match=why):
        wire.decode_fix_request(json.dumps({**document, **change}).encode(), REMEDIES)


@pytest.mark.parametrize(
    "answer", [{}, {"attempt": 1}, {"refusal": {}}, {"would_run": [{"step": "Delete"}]}, {"error": "no"}]
)
def test_an_answer_of_another_form_is_refused(answer: Mapping[str, Any]) -> None:
    with pytest.raises(Malformed):
        wire.decode_fix_answer(json.dumps({"schema": 1, **answer}).encode())


# ------------------------------------------------------------------------------------------------------- plans

_REMEDIES = ("mend", "start")
_which = st.tuples(st.sampled_from(_REMEDIES), _text, _text)
_units = st.dictionaries(_text, st.dictionaries(_text, _text, max_size=3), max_size=3)


@given(st.lists(_which, min_size=1, max_size=5).map(tuple), st.booleans(), st.none() | _units)
def test_a_request_for_plans_arrives_as_it_was(
    plans: tuple[wire.Which, ...], show: bool, units: wire.Units | None
) -> None:
    """Beside probes or without any."""
    for probes in ((), ("agent",)):
        request = LookRequest(probes, plans=plans, show_units=show, units=units)
        assert wire.decode_request(wire.encode_request(request), ASKED, lambda: _REMEDIES) == request


def test_remedies_are_loaded_only_where_a_plan_is_asked_for() -> None:
    """A look that makes none pays nothing for them."""

    def load() -> tuple[str, ...]:
        raise AssertionError("they were loaded")

    wire.decode_request(wire.encode_request(LookRequest(("agent",), show_units=True)), ASKED, load)


@pytest.mark.parametrize(
    "more",
    [
        {"plans": [["unknown", "X", ""]]},
        {"plans": [["mend", "X"]]},
        {"plans": [["mend", "X", 1]]},
        {"plans": [["mend", "X", ""]] * (wire.MOST_PLANS + 1)},
        {"plans": {"mend": 1}},
        {"plans": None},
        {"show_units": 1},
        {"show_units": "yes"},
        {"units": {"a": {"b": 1}}},
        {"units": {"a": []}},
        {"units": []},
        {"units": {str(n): {} for n in range(11)}},
    ],
)
def test_a_request_for_plans_of_another_form_is_refused(more: Mapping[str, Any]) -> None:
    """As a whole."""
    document = json.dumps({"schema": wire.SCHEMA, "probes": ["agent"], **more}).encode()
    with pytest.raises(Malformed):
        wire.decode_request(document, ASKED, lambda: _REMEDIES)


def test_a_request_for_nothing_is_none() -> None:
    """Neither a probe, nor a plan, nor what the service manager shows."""
    with pytest.raises(Malformed, match="names no probes"):
        wire.decode_request(wire.encode_request(LookRequest(())), ASKED)


_steps = st.sampled_from([model.RestartUnit("a.service"), model.MakeDirectory("x", ("y", "z")), model.DaemonReload()])


@given(st.lists(st.tuples(_which, st.lists(_steps, max_size=3).map(tuple), _text), min_size=1, max_size=5), _units)
def test_plans_and_units_arrive_as_they_were(
    made: list[tuple[wire.Which, tuple[model.Step, ...], str]], units: wire.Units
) -> None:
    """In the order in which they were asked for; the looks beside them too."""
    plans = tuple(model.Planned(*which, steps, why) for which, steps, why in made)
    data = wire.encode_answer([looked("agent")], plans, units)
    assert wire.decode_plans(data, [which for which, _, _ in made]) == plans
    assert wire.decode_units(data) == units
    assert wire.decode_answer(data, {"agent": ASKED["agent"]}) == (looked("agent"),)


_PLAN = {"remedy": "mend", "problem": "X", "key": "", "steps": [{"step": "StartUnit", "unit": "a.service"}], "why": ""}


@pytest.mark.parametrize(
    "plans",
    [
        [],
        [_PLAN, _PLAN],
        [{**_PLAN, "key": "other"}],
        [{**_PLAN, "remedy": "start"}],
        [{**_PLAN, "steps": [{"step": "Explode"}]}],
        [{**_PLAN, "steps": [{"step": "StartUnit", "unit": "a.service; reboot"}]}],
        [{**_PLAN, "steps": [{"step": "StartUnit", "unit": 1}]}],
        [{**_PLAN, "steps": ["StartUnit"]}],
        [{**_PLAN, "why": None}],
        [{name: value for name, value in _PLAN.items() if name != "why"}],
        "x",
        None,
    ],
)
def test_plans_of_another_form_are_refused(plans: Any) -> None:
    """Or of another question, or with a name in a step that is none."""
    with pytest.raises(Malformed):
        wire.decode_plans(_answer(plans=plans), [("mend", "X", "")])
    assert wire.decode_plans(_answer(plans=[_PLAN]), [("mend", "X", "")])


def test_why_there_are_no_plans_and_no_units_is_told() -> None:
    """In the words of the other side."""
    with pytest.raises(Malformed, match="^no bus$"):
        wire.decode_units(wire.encode_error("no bus"))
    with pytest.raises(Malformed, match="^no way$"):
        wire.decode_plans(wire.encode_error("no way"), [])
    with pytest.raises(Malformed, match="wrong form"):
        wire.decode_units(_answer())
