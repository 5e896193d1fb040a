"""Which of the installed kernels is newer than the running one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backupready.probes.guest import newer_kernel


@pytest.mark.parametrize(
    ("running", "installed", "newer"),
    [
        ("6.1.0-9-amd64", ["6.1.0-13-amd64"], "6.1.0-13-amd64"),
        ("6.1.0-13-amd64", ["6.1.0-9-amd64", "6.1.0-13-amd64"], None),
        ("6.1.0-13-cloud-amd64", ["6.1.0-26-amd64"], None),
        ("6.5.0-1017-azure", ["6.5.0-1017-azure", "6.8.0-1008-azure"], "6.8.0-1008-azure"),
        ("5.14.21-150500.33.26-azure", ["5.14.21-150500.33.100-azure"], "5.14.21-150500.33.100-azure"),
        ("4.18.0-513.5.1.el8_9.x86_64", ["4.18.0-553.el8_10.x86_64"], "4.18.0-553.el8_10.x86_64"),
        ("4.18.0-513.5.1.el8_9.x86_64", ["5.14.0-427.13.1.el9_4.x86_64"], None),
        ("5.15.0-200.131.27.el8uek.x86_64", ["4.18.0-553.el8_10.x86_64", "5.15.0-205.1.el8uek.x86_64"],
         "5.15.0-205.1.el8uek.x86_64"),
        ("5.15.148.2-2.cm2", ["5.15.153.1-1.cm2"], "5.15.153.1-1.cm2"),
        ("6.1.0-13-amd64", ["", "0-rescue-0123", "old", "6.1.0-13-amd64.old"], None),
        ("garbage", ["6.1.0-13-amd64"], None),
    ],
)  # fmt: skip
def test_a_newer_kernel_is_one_of_the_same_flavour(running: str, installed: list[str], newer: str | None) -> None:
    """Compared as numbers; a minor release of the distribution is no other flavour."""
    assert newer_kernel(running, installed) == newer


@given(running=st.text(max_size=30), installed=st.lists(st.text(max_size=30), max_size=5))
def test_names_of_any_kind(running: str, installed: list[str]) -> None:
    """What is found is one of them, and not the running one."""
    assert newer_kernel(running, installed) in {None, *installed} - {running}
