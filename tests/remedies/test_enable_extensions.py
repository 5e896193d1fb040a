"""enable-extensions: only where the agent's own parser says that they are off."""

from __future__ import annotations

import pytest

from backupready.model import RestartUnit, SetConfigKey, Unsuitable
from backupready.remedies.enable_extensions import REMEDY
from fake import healthy, steps


def test_the_key_is_set_and_the_agent_restarted() -> None:
    """The agent reads the file only at its start."""
    machine = healthy()
    machine.files["/etc/waagent.conf"] = "Extensions.Enabled=y\nExtensions.Enabled = N # off\n"
    assert steps(REMEDY, machine) == [SetConfigKey("Extensions.Enabled", "y"), RestartUnit("walinuxagent.service")]


@pytest.mark.parametrize("text", ["Extensions.Enabled=y\n", "Extensions.Enabled=no\n", "Extensions.Enable=n\n"])
def test_what_does_not_switch_them_off_is_no_reason(text: str) -> None:
    """`no` is neither y nor n, and Extensions.Enable is another key."""
    machine = healthy()
    machine.files["/etc/waagent.conf"] = text
    with pytest.raises(Unsuitable, match="does not switch extensions off"):
        steps(REMEDY, machine)


def test_an_agent_with_a_pending_switch_off_is_not_restarted() -> None:
    """The restart would end what still runs."""
    machine = healthy()
    machine.files["/etc/waagent.conf"] = "Extensions.Enabled=n\n"
    machine.files["/var/lib/waagent/disable_agent"] = ""
    with pytest.raises(Unsuitable, match="disable_agent"):
        steps(REMEDY, machine)
