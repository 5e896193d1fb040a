"""What does a look give up, beyond what its unit can take from it?

The unit's filter sees which system call is made, not with what. Root without capabilities may still have the kernel
send any signal to any process, by making that process the owner of a file's events, and may hold up others' opens with
a lease. A look needs neither, so before it reads a word from outside it refuses both to itself and to what it starts.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct

# AUDIT_ARCH of linux/audit.h, and the numbers of fcntl and ioctl there.
_ARCHITECTURES = {"x86_64": (0xC000003E, 72, 16), "aarch64": (0xC00000B7, 25, 29)}
# F_SETOWN, F_SETSIG, F_SETOWN_EX, F_SETLEASE, F_NOTIFY of linux/fcntl.h; FIOSETOWN, SIOCSPGRP of asm/sockios.h.
_FCNTL = (8, 10, 15, 1024, 1026)
_IOCTL = (0x8901, 0x8902)

_LOAD, _EQUAL, _RETURN = 0x20, 0x15, 0x06  # BPF_LD|W|ABS, BPF_JMP|JEQ|K, BPF_RET|K of linux/bpf_common.h
_NUMBER, _ARCHITECTURE, _SECOND = 0, 4, 24  # offsets in struct seccomp_data; the low half of the second argument
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050000 | errno.EPERM  # SECCOMP_RET_ALLOW, SECCOMP_RET_ERRNO
_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 38, 22, 2


class _Program(ctypes.Structure):
    """struct sock_fprog."""

    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def program(machine: str) -> bytes:
    """The filter for a machine as platform.machine() names it: struct sock_filter, one after the other. Empty for one
    that is not known."""
    if machine not in _ARCHITECTURES:
        return b""
    architecture, fcntl, ioctl = _ARCHITECTURES[machine]
    # Operation, value, and where to go if it is equal and if not: a label, or the next instruction.
    steps: list[tuple[int, int, str, str]] = [
        (_LOAD, _ARCHITECTURE, "", ""),
        (_EQUAL, architecture, "", "allow"),
        (_LOAD, _NUMBER, "", ""),
        (_EQUAL, fcntl, "fcntl", ""),
        (_EQUAL, ioctl, "ioctl", "allow"),
    ]
    labels = {}
    for label, commands in (("fcntl", _FCNTL), ("ioctl", _IOCTL)):
        labels[label] = len(steps)
        steps.append((_LOAD, _SECOND, "", ""))
        steps += [(_EQUAL, command, "refuse", "") for command in commands[:-1]]
        steps.append((_EQUAL, commands[-1], "refuse", "allow"))
    labels.update(allow=len(steps), refuse=len(steps) + 1)
    steps += [(_RETURN, _ALLOW, "", ""), (_RETURN, _REFUSE, "", "")]

    def jump(here: int, label: str) -> int:
        return labels[label] - here - 1 if label else 0

    return b"".join(
        struct.pack("=HBBI", operation, jump(here, equal), jump(here, other), value)
        for here, (operation, value, equal, other) in enumerate(steps)
    )


def confine() -> str:
    """Refuse it from now on. Gives why that could not be done, empty where it is done."""
    code = program(platform.machine())
    if not code:
        return f"no filter is known for {platform.machine()}"
    library = ctypes.CDLL(None, use_errno=True)
    kept = ctypes.create_string_buffer(code, len(code))
    filter_ = _Program(len(code) // 8, ctypes.addressof(kept))
    if library.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or library.prctl(
        _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(filter_), 0, 0
    ):
        return f"the kernel refuses the filter: {os.strerror(ctypes.get_errno())}"
    return ""
