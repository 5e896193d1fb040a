"""The files of the freeze and of the scripts may hold anything."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backupready.model import CannotTell, Effect, ProbeState
from backupready.observe import observe
from backupready.probes import freeze, mounts, scripts
from fake import configuration, healthy

_JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5) | st.just("/etc/waagent.conf"),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)
_KEYS = st.sampled_from(
    ["preScriptLocation", "postScriptLocation", "timeoutInSeconds", "preScriptParams", "continueBackupOnFailure"]
)
_SCRIPTS = st.one_of(st.binary(max_size=40), st.dictionaries(_KEYS, _JSON).map(lambda v: json.dumps(v).encode()))
_LINES = st.lists(
    st.sampled_from(
        [
            b"[pre_post]\n", b"[SnapshotThread]\n", b"numberOfPlugins: 1\n", b"numberOfPlugins: 99999999999\n", b"\xff",
            b"pluginName0: ScriptRunner\n", b"pluginPath0: /etc\n", b"pluginConfigPath0: /etc/azure/x.json\n", b"a\n",
            b"timeout: -1\n", b"timeout: %(a)s\n", b"MountsToSkip: ,/, /x,,\n", b"SafeFreezeWaitInSeconds: 1e9\n",
            b"timeoutInSeconds: 9\n", b"pluginConfigPath0: \x00\n", b" - ",
        ]
    ),
    max_size=8,
).map(b"".join)  # fmt: skip


@given(script=_SCRIPTS, host=_LINES, config=_LINES, log=_LINES, table=_LINES)
def test_a_look_can_only_not_tell(script: bytes, host: bytes, config: bytes, log: bytes, table: bytes) -> None:
    """Whatever the files are, no probe has a defect."""
    machine = healthy()
    machine.files.update(
        {
            "/etc/azure/VMSnapshotScriptPluginConfig.json": script,
            "/etc/azure/x.json": script,
            "/etc/azure/VMSnapshotPluginHost.conf": host,
            "/etc/azure/vmbackup.conf": config,
            freeze._LOG: log,
            "/sys/fs/ext4/sda1/errors_count": log,
        }
    )
    settings: Any = configuration()
    for probe in (scripts.PROBE, freeze.PROBE, mounts.PROBE):
        looked = observe(probe, machine, settings)
        assert looked.state is not ProbeState.FAILED, looked.traceback


@pytest.mark.parametrize(("directory", "effect"), [("/root/bin", Effect.RISKS), ("/opt", Effect.BLOCKS)])
def test_scripts_below_root_are_hidden_for_ever(directory: str, effect: Effect) -> None:
    """What can never be looked at must not keep the whole verdict unknown for ever."""
    machine = healthy()
    why = CannotTell("cannot look at it: Permission denied")
    machine.files["/etc/azure/VMSnapshotScriptPluginConfig.json"] = json.dumps(
        {
            "preScriptLocation": f"{directory}/pre.sh",
            "postScriptLocation": f"{directory}/post.sh",
            "continueBackupOnFailure": False,
        }
    )
    machine.modes["/etc/azure/VMSnapshotScriptPluginConfig.json"] = (0o600, 0)
    machine.files.update(dict.fromkeys((f"{directory}/pre.sh", f"{directory}/post.sh"), why))
    looked = observe(scripts.PROBE, machine, configuration())
    assert not looked.findings
    assert [unknown.effect for unknown in looked.unknown] == [effect, effect]
