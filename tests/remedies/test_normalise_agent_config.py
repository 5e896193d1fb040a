"""normalise-agent-config: only where joining is all that it takes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backupready import vmsnapshot, waagent
from backupready.model import JoinConfigLines, Unsuitable
from backupready.remedies.normalise_agent_config import REMEDY
from fake import healthy, steps


def test_lines_with_blanks_are_joined() -> None:
    """Without a restart: the agent reads the same as before."""
    machine = healthy()
    machine.files["/etc/waagent.conf"] = "HttpProxy.Host = proxy\nLogs.Verbose = n # quiet\n"
    assert steps(REMEDY, machine) == [JoinConfigLines()]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("HttpProxy.Host=proxy\n", "has blanks around its `=`"),
        ("Logs.Verbose = n\n # HttpProxy.Port=1\n", "line 2 of /etc/waagent.conf has something else"),
        ("Logs.Verbose = n\nHttpProxy.Host=a#b\n", "reads HttpProxy.Host in /etc/waagent.conf otherwise"),
        ("Logs.Verbose = n\nHttpProxy.Port=1=2\n", "reads HttpProxy.Port in /etc/waagent.conf otherwise"),
    ],
)
def test_what_joining_does_not_mend_is_left_to_a_person(text: str, why: str) -> None:
    """An indented comment, and what the two parsers read differently for another reason."""
    machine = healthy()
    machine.files["/etc/waagent.conf"] = text
    with pytest.raises(Unsuitable, match=why):
        steps(REMEDY, machine)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["HttpProxy.Host", "HttpProxy.Port", "Logs.Verbose", "# a", " #b", "\ufeffX", ""]),
            st.sampled_from(["=", " = ", "\t= ", "= ", " =", " ", "  ==  "]),
            st.sampled_from(["proxy", '"proxy"', "\t'a b'", "None", "8080 # x", "", "a=b", '\t"a"']),
            st.sampled_from(["\n", "\r\n", "\n\n", ""]),
        ).map("".join)
    )
)
def test_wherever_it_is_planned_the_extension_reads_what_the_agent_reads(lines: list[str]) -> None:
    """And the agent reads the same as before; nothing goes but blanks around the first sign of a line."""
    data = "".join(lines).encode() or b"\n"
    joined = waagent.joined_config(data)
    assert waagent.parse_config(joined) == waagent.parse_config(data)
    assert waagent.joined_config(joined) == joined
    assert joined.translate(None, b" \t") == data.translate(None, b" \t")
    for before, after in zip(data.split(b"\n"), joined.split(b"\n")):
        sign = after.find(b"=")
        assert before == after or (before.startswith(after[:sign]) and before.endswith(after[sign + 1 :]))
    machine = healthy()
    machine.files["/etc/waagent.conf"] = data
    try:
        planned = steps(REMEDY, machine)
    except Unsuitable:
        return
    assert planned == [JoinConfigLines()]
    view, values = vmsnapshot.extension_view(joined), waagent.parse_config(data)
    assert view.broken is None
    assert all(view.values.get(key) == values.get(key) for key in ("HttpProxy.Host", "HttpProxy.Port"))


@given(st.binary(max_size=200))
def test_joining_keeps_any_bytes(data: bytes) -> None:
    """Whatever they are, what the agent reads stays, and only blanks go."""
    joined = waagent.joined_config(data)
    assert waagent.parse_config(joined) == waagent.parse_config(data)
    assert joined.translate(None, b" \t") == data.translate(None, b" \t")


def test_a_comment_keeps_its_blanks() -> None:
    """And so do the blanks behind a value, and a line without a sign."""
    data = b"# Key = value\r\n\tOther.Key \t=  a b \r\nno sign\n# end = x"
    assert waagent.joined_config(data) == b"# Key = value\r\n\tOther.Key=a b \r\nno sign\n# end = x"
