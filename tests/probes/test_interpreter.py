"""What the extension's own files say of the modules that it needs."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

import fake
from backupready import vmsnapshot, waagent
from backupready.model import CannotTell, Finding, Ran
from backupready.probes import interpreter as probe

_DIRECTORY = f"{waagent.LIB_DIR}/{waagent.VMSNAPSHOT}-1.0.9220.0"


def test_an_import_inside_of_a_try_may_fail() -> None:
    """Only what stands at the beginning of a line must succeed."""
    assert vmsnapshot.removed_modules(b"try:\n    import crypt\nexcept ImportError:\n    pass\n", b"") == ()
    assert vmsnapshot.removed_modules(b"import crypt\n", b"") == ("crypt",)


def test_a_loader_that_falls_back_does_not_need_imp() -> None:
    """Later versions name load_source too, for Pythons that have no other way."""
    assert vmsnapshot.removed_modules(b"", b"imp.load_source") == ("imp",)
    assert vmsnapshot.removed_modules(b"", b"spec_from_file_location imp.load_source") == ()


@given(st.binary(max_size=64), st.binary(max_size=64), st.integers(-20, 130))
def test_whatever_an_interpreter_prints_the_probe_says_something(header: bytes, output: bytes, status: int) -> None:
    """Any header of safefreeze and any answer of a Python end in a finding or in what cannot be told."""
    machine = fake.healthy()
    machine.files[f"{_DIRECTORY}/main/handle.py"] = ""
    machine.files[f"{_DIRECTORY}/main/safefreeze/bin/safefreeze"] = header
    machine.programs["/usr/bin/python3 -B -c"] = Ran(status, output, "")
    for one in probe.look(machine, fake.configuration()):
        assert isinstance(one, (Finding, CannotTell))


def test_a_machine_without_the_extension_needs_nothing() -> None:
    """One that has never been backed up is not judged."""
    machine = fake.healthy()
    machine.files = {path: text for path, text in machine.files.items() if not path.startswith(_DIRECTORY)}
    del machine.files["/usr/bin/python3"]
    assert list(probe.look(machine, fake.configuration())) == []
