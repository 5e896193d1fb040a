"""The two parsers of waagent.conf, replayed."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

import fake
from backupready import vmsnapshot, waagent
from backupready.model import CannotTell, Effect, Finding
from backupready.probes import configuration as probe

_PIECES = st.sampled_from(
    [b"\n", b"=", b" ", b"#", b"\t", b'"', b"None", b"y", b"\xff", b"\x1c", b"HttpProxy.Host", b"HttpProxy.Port",
     b"Extensions.Enabled", b"Extensions.Enable", b"Lib.Dir", b"Policy.PolicyFilePath", b"Debug.EnableExtensionPolicy"]
)  # fmt: skip


def _seen(conf: bytes, policy: bytes | None = None) -> list[object]:
    machine = fake.healthy()
    machine.files["/etc/waagent.conf"] = conf
    if policy is not None:
        machine.files["/etc/waagent_policy.json"] = policy
    return list(probe.look(machine, fake.configuration()))


@given(st.lists(_PIECES, max_size=60).map(b"".join))
def test_whatever_stands_in_the_configuration_the_probe_says_something(conf: bytes) -> None:
    """Any bytes end in findings or in what cannot be told, a bounded number of them."""
    assert len(_seen(conf)) <= 30


@given(st.binary(max_size=200))
def test_whatever_stands_in_the_policy_the_probe_says_something(policy: bytes) -> None:
    """A policy that is no policy keeps the extension from running."""
    _seen(b"Debug.EnableExtensionPolicy=y\n", policy)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["policyVersion", "extensionPolicies", "allowListedExtensionsOnly", "extensions", "x"]),
            inner | st.just("0.1.0"),
            max_size=4,
        )
    ),
)


@given(_JSON)
def test_whatever_is_json_in_the_policy_the_probe_says_something(policy: object) -> None:
    """Documents of the right words in the wrong places end in a finding, nothing, or what cannot be told."""
    for one in _seen(b"Debug.EnableExtensionPolicy=y\n", json.dumps(policy).encode()):
        assert isinstance(one, (Finding, CannotTell))


@pytest.mark.parametrize(
    ("line", "agent", "extension"),
    [
        ("A=b", "b", "b"),
        ("A=b # c", "b", "b"),
        ("A= b", "b", ""),
        ('A="b"', "b", "b"),
        ("A=b=c", "b=c", "b"),
        ("A=b#c", "b", "b#c"),
        ("A=None", None, None),
        ('A="b"\r', 'b"', "b"),
    ],
)
def test_the_two_parsers(line: str, agent: str | None, extension: str | None) -> None:
    """One line, and what each of the two makes of it."""
    assert waagent.parse_config(line.encode()) == {"A": agent}
    assert vmsnapshot.extension_view(line.encode()).values == {"A": extension}


def test_the_first_line_that_breaks_the_extension_is_named() -> None:
    """What stands before it has been read, what stands behind it has not."""
    view = vmsnapshot.extension_view(b"A=1\n# B = 2\nC = 3\nD = 4\n")
    assert view.broken == (3, "C = 3")
    assert view.values == {"A": "1"}


def test_many_lines_without_effect_are_counted() -> None:
    """A file of nothing but indented comments gives a bounded number of findings, each with the whole number."""
    seen = _seen(b"Extensions.Enabled=y\n" + b"".join(b" # k%d=y\n" % n for n in range(50)))
    found = [one for one in seen if isinstance(one, Finding) and one.problem == "CONFIG_KEY_INEFFECTIVE"]
    assert len(found) == 20
    assert found[0].evidence["of"] == 50


def test_a_password_of_the_proxy_is_not_told() -> None:
    """Neither in a line that breaks nor in the address."""
    for conf in (
        b"HttpProxy.Host=http://u:secret@p\nHttpProxy.Port=1\n",
        b"HttpProxy.Host = http://u:secret@p\n",
        b"HttpProxy.Host=u:secret@p\nHttpProxy.Host=u:secret2@q\n",
    ):
        assert "secret" not in repr(_seen(conf))


def test_a_corrected_file_is_clear() -> None:
    """The finding goes with the blanks."""
    broken = [one for one in _seen(b"Extensions.Enabled = y\n") if isinstance(one, Finding)]
    assert [(one.problem, one.effect) for one in broken] == [("CONFIG_BREAKS_EXTENSION", Effect.NOTICE)]
    assert _seen(b"Extensions.Enabled=y\n") == []
