"""The bundle: everything that support asks for, nothing that is secret, and never more than a bound."""

from __future__ import annotations

import base64
import errno
import gzip
import hashlib
import io
import json
import os
import shutil
import tarfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from backupready import bundle, cli, fixes, waagent
from backupready.eyes.machine import OUTPUT_LIMIT, CapturedMachine
from backupready.hands import ledger
from backupready.model import CannotTell, Machine, Ran
from backupready.redaction import REDACTED, redact
from fake import NOW, FakeMachine
from measured import measured

DATA = Path(__file__).parent / "data"
HANDLER = f"{waagent.LIB_DIR}/{waagent.VMSNAPSHOT}-1.0.9220.0"
EXTENSION_LOG = f"{waagent.EXTENSION_LOGS}/{waagent.VMSNAPSHOT}/extension.log"

WORD = "tOpSeCrEt"
ACCOUNT_KEY = base64.b64encode(hashlib.sha512(b"an account's key").digest()).decode()
BLOCK = "\n".join(
    [
        "-----BEGIN PRIVATE KEY-----",
        *(ACCOUNT_KEY[start : start + 64] for start in (0, 64)),
        "-----END PRIVATE KEY-----",
    ]
)
STAMPED = "\n".join(f"2026-11-23T00:00:00Z INFO {line}" for line in BLOCK.splitlines())
JWT = ".".join(
    base64.urlsafe_b64encode(part).decode().rstrip("=") for part in (b'{"alg":"HS256"}', b'{"sub":1}', b"xyz!")
)

# What is written somewhere → the part of it that must be nowhere.
PLANTED: Mapping[str, str] = {
    f"https://x.blob.core.windows.net/c/b?sv=2020-08-04&sr=b&sig={WORD}%2Bab%3D&se=2027": WORD,
    f"https%3A%2F%2Fx.blob.core.windows.net%2Fc%3Fsv%3D2020%26sig%3D{WORD}%252Bx&next": WORD,
    f"https://x.blob.core.windows.net/c?sv=1\\u0026sig={WORD}\\u0026se=2": WORD,
    f"https://x.blob.core.windows.net/c?sv=1&amp;sig={WORD}&amp;se=2": WORD,
    f"Authorization: Bearer {WORD}.{WORD}": WORD,
    f"sent Bearer {WORD}12345": WORD,
    f"the token was {JWT}": JWT.split(".")[1],
    f"HttpProxy.Host=http://user:{WORD}@proxy.example:3128/": WORD,
    f"https_proxy=http://user:a/b@{WORD}@proxy.example:3128/": WORD,
    f"https_proxy=user:{WORD}@proxy.example:3128": WORD,
    f"DefaultEndpointsProtocol=https;AccountName=x;AccountKey={ACCOUNT_KEY};EndpointSuffix=x.net": ACCOUNT_KEY,
    f"got {ACCOUNT_KEY} from somebody": ACCOUNT_KEY,
    f"SharedAccessSignature sr=x&sig={WORD}&skn=y": WORD,
    BLOCK: ACCOUNT_KEY[:64],
    BLOCK.replace("\n", "\\n"): ACCOUNT_KEY[:64],
    BLOCK.replace("\n", "\r\n"): ACCOUNT_KEY[64:],
    STAMPED: ACCOUNT_KEY[64:],
    f'{{"protectedSettings": "{ACCOUNT_KEY}"}}': ACCOUNT_KEY,
    f'{{"protectedSettings":\n   "{WORD} {WORD}"}}': WORD,
    f'{{"a": "{{\\"password\\": \\"{WORD}, {WORD}\\"}}"}}': WORD,
    f'{{"password": "\\"{WORD}"}}': WORD,
    f"'storageAccountKey' : '{WORD}'": WORD,
    f"<UserPassword>{WORD}</UserPassword>": WORD,
    f"&lt;UserPassword&gt;{WORD}&lt;/UserPassword&gt;": WORD,
    f"&quot;password&quot;:&quot;{WORD}&quot;": WORD,
    f"mount -o username=x,password={WORD} //server/share": WORD,
    f"tool --client-secret {WORD}": WORD,
    f"AccountKey=\r\n  {WORD}": WORD,
    f"AccountKey=\u2028{WORD}": WORD,
    f"password=\x0b\x1b[1m{WORD}\x1b[0m": WORD,
    f"passphrase = correct horse battery {WORD}": WORD,
    f"the passphrase: correct horse {WORD}": WORD,
    f'{{"log": "passphrase = correct {WORD}"}}': WORD,
    f"PASSPHRASE='correct horse {WORD}'": WORD,
    f'passphrase = "correct \\" horse {WORD}"': WORD,
    f'passphrase = it\'s "one" {WORD}': WORD,
    f"wifi.password = correct horse {WORD}": WORD,
    f"password: correct horse, {WORD}": WORD,
    f"Cookie: a=1; session={WORD}": WORD,
    f"sent Cookie: a=1; b=2, c={WORD}": WORD,
    f'sent Cookie: a="1"; b={WORD}': WORD,
    f'{{"header": "Set-Cookie: a=1; session={WORD}"}}': WORD,
    f"https://x.blob.core.windows.net/c?sv=1\\u0026sig\\u003d{WORD}": WORD,
    f"https://x.blob.core.windows.net/c?sv=1\\\\u0026sig\\\\u003D{WORD}": WORD,
    f"sv\\x3d1\\x26sig\\x3d{WORD}": WORD,
    f"c?sv=1&amp;sig&#61;{WORD}": WORD,
    f"c?sv=1&amp;sig&#x3D;{WORD}": WORD,
    f"sig%3D{WORD}": WORD,
    f"\\u0022password\\u0022\\u003a\\u0022correct {WORD}\\u0022": WORD,
    f"&quot;password&quot;:&quot;a&amp;{WORD}&quot;": WORD,
    f'{{"name": "password", "value": "correct {WORD}"}}': WORD,
    f'{{"name": "DB_PASSWORD", "secure": true,\n "value": "{WORD}"}}': WORD,
    f'{{"value": "correct {WORD}", "name": "password"}}': WORD,
    f'{{"a": "{{\\"name\\": \\"password\\", \\"value\\": \\"correct {WORD}\\"}}"}}': WORD,
    f"[{{'name': 'token', 'value': '{WORD}'}}]": WORD,
    f"- name: DB_PASSWORD\n  value: correct {WORD}": WORD,
    f'<add key="password" value="a>b {WORD}"/>': WORD,
    f'<add value="correct {WORD}" key="db.password"/>': WORD,
    f"&lt;add key=&quot;password&quot; value=&quot;correct {WORD}&quot;/&gt;": WORD,
    f"<property><name>password</name>\n<value>correct {WORD}</value></property>": WORD,
    f"<key>Password</key><string>{WORD}</string>": WORD,
    f'<setting name="password">correct {WORD}</setting>': WORD,
    f"<UserPassword>a&amp;{WORD}</UserPassword>": WORD,
    f"<UserPassword><![CDATA[{WORD}]]></UserPassword>": WORD,
    f"curl -s -u user:{WORD} https://x": WORD,
    f"curl -uuser:{WORD} https://x": WORD,
    f"curl --user 'user:correct {WORD}' https://x": WORD,
    f'curl --proxy-user "user:correct {WORD}" https://x': WORD,
    f"['curl', '-u', 'user:{WORD}']": WORD,
    f'curl -u "user:a\\b{WORD}"': WORD,
    f'{{"command": "curl -u \\"user:correct {WORD}\\""}}': WORD,
    f"['tool', '--password', '{WORD}']": WORD,
    f"mount -o user=x,pass={WORD}": WORD,
    f"DB_PASS: {WORD}": WORD,
    f"tool --pass {WORD}": WORD,
    f"sshpass -p {WORD} ssh host": WORD,
    f"sshpass -p 'correct {WORD}' ssh host": WORD,
    f"['sshpass', '-p', '{WORD}']": WORD,
    f"mysqldump -u root -p{WORD} db": WORD,
    f"mysql -h x -p'correct {WORD}'": WORD,
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A captured machine with a healthy agent."""
    root = tmp_path / "root"
    shutil.copytree(DATA / "libdir-2.15.0.1", root / "var/lib/waagent")
    for path in ("etc/azure", EXTENSION_LOG.rpartition("/")[0][1:], "proc", "usr/lib"):
        (root / path).mkdir(parents=True)
    (root / "etc/waagent.conf").write_text("Extensions.Enabled=y\n")
    (root / "var/log/waagent.log").write_text("2026-11-23T00:00:00.000000Z INFO ExtHandler a record\n")
    (root / EXTENSION_LOG[1:]).write_text("2026-11-23 00:00:00.000000 [x]a record\n")
    return root


def packed(root: Path, more: Mapping[str, str] | None = None, machine: Machine | None = None) -> bytes:
    found = bundle.gather(machine or CapturedMachine(str(root)), more or {}, 60.0)
    return found.archive("b", NOW)


def unpacked(data: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:gz") as archive:
        files = [(entry.name, archive.extractfile(entry)) for entry in archive.getmembers()]
        return {name.partition("/")[2]: file.read() for name, file in files if file}


def manifest(files: Mapping[str, bytes]) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(files["manifest.json"])
    return document


def why_not(files: Mapping[str, bytes]) -> dict[str, str]:
    return {one["source"]: one["why"] for one in manifest(files)["left_out"]}


def told(data: bytes) -> str:
    return "\n".join(file.decode() for file in unpacked(data).values())


# -------------------------------------------------------------------------------------------------- secrets


@pytest.mark.parametrize("text", PLANTED)
def test_no_secret_gets_into_the_bundle(text: str, root: Path) -> None:
    """Planted in every file that is there, in what programs print, and in what the caller adds: nowhere after
    unpacking, while the records around it are there."""
    count = 0
    for path in sorted(root.rglob("*")):
        if path.is_file():
            before, after = b"2026-11-23T00:00:01Z INFO before\n", b"\n2026-11-23T00:00:02Z INFO after\n"
            path.write_bytes(before + text.encode() + after)
            count += 1
    assert count > 10

    class Talkative(CapturedMachine):
        def run(
            self, command: Sequence[str], timeout: float, privileged: bool = False, limit: int = OUTPUT_LIMIT
        ) -> Ran:
            return Ran(1, text.encode(), text)

    files = unpacked(packed(root, {"check.json": text}, Talkative(str(root))))
    for name, data in files.items():
        assert PLANTED[text] not in data.decode(), name
    assert {"backupready/check.json", "commands/agent-journal.txt", "files/etc/waagent.conf"} <= set(files)
    log = files["files/var/log/waagent.log"].decode()
    assert "INFO before\n" in log
    assert REDACTED in log
    assert "INFO after\n" in log or "PRIVATE" in text


@pytest.mark.parametrize(
    "name", ["ab12.prv", "ab12.crt", "TransportPrivate.pem", "Certificates.xml", "ovf-env.xml", "x.p7m"]
)
def test_what_is_secret_by_nature_is_told_by_name_only(name: str, root: Path) -> None:
    """Also where its content looks like nothing."""
    (root / waagent.LIB_DIR[1:] / name).write_text("plain words")
    text = told(packed(root))
    assert f" {name}\n" in text
    assert "plain words" not in text


def test_goal_states_are_told_by_name_only(root: Path) -> None:
    """They hold protected settings and addresses with signatures."""
    text = told(packed(root))
    assert " ExtensionsConfig.xml\n" in text
    assert "<Plugin" not in text


def test_settings_are_reduced_to_their_structure(root: Path) -> None:
    """Values that support asks for stay where they have the form that they should have; names that are no names go."""
    task = "7f5a3c3e-0000-4000-8000-000000000001"
    settings = {"runtimeSettings": [{"handlerSettings": {
        "publicSettings": {"taskId": task, "commandToExecute": "plain words", "other": "plain words", "n": 12345,
                           "plain words": [True, None, "plain words"]},
        "protectedSettings": "plainwords", "protectedSettingsCertThumbprint": "A" * 40}}]}  # fmt: skip
    (root / HANDLER[1:] / "config/1.settings").write_text(json.dumps(settings))
    files = unpacked(packed(root))
    inner = json.loads(files[f"files{HANDLER}/config/1.settings"])["runtimeSettings"][0]["handlerSettings"]
    assert inner == {
        "publicSettings": {
            "taskId": task,
            "commandToExecute": "<text, 11 characters>",
            "other": "<text, 11 characters>",
            "n": "<number>",
            "<name 4>": [True, None, "<text, 11 characters>"],
        },
        "protectedSettings": REDACTED,
        "protectedSettingsCertThumbprint": "A" * 40,
    }


def test_settings_of_many_levels_are_told_to_a_bound(root: Path) -> None:
    """As deep as any real one is."""
    (root / HANDLER[1:] / "config/1.settings").write_text("[" * 200 + "]" * 200)
    assert b'"<deeper>"' in unpacked(packed(root))[f"files{HANDLER}/config/1.settings"]


@pytest.mark.parametrize("text", ["{", "[" * 100_000, '{"protectedSettings": "tOpSeCrEt"', "\xff"])
def test_settings_that_cannot_be_parsed_are_left_out(text: str, root: Path) -> None:
    """What has no structure is not told."""
    (root / HANDLER[1:] / "config/1.settings").write_text(text)
    files = unpacked(packed(root))
    assert f"files{HANDLER}/config/1.settings" not in files
    assert "is not JSON" in why_not(files)[f"{HANDLER}/config/1.settings"]


_HEAD = "2026-11-23T00:00:00.000000Z INFO ExtHandler "


@given(
    planted=st.sampled_from([*PLANTED.items()]),
    before=st.integers(0, 200),
    after=st.integers(0, 400),
    end=st.sampled_from(["\n", "\r\n", ""]),
)
@example(planted=(BLOCK, ACCOUNT_KEY[64:]), before=3, after=290, end="\n")
@example(planted=(STAMPED, ACCOUNT_KEY[64:]), before=0, after=56, end="")
def test_no_secret_passes_at_the_cut_of_a_log(planted: tuple[str, str], before: int, after: int, end: str) -> None:
    """Wherever the cut goes through it, and wherever in a line it stands."""
    text, secret = planted
    log = f"{_HEAD}{'x' * before} {text} {'y' * after}{end}{_HEAD}the last{end}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bundle, "MOST_LOG", 400)
        machine = FakeMachine(files={waagent.LOG: log.encode()})
        found = bundle.gather(machine, {}, 60.0)
    kept = {member.source: member for member in found.members}
    if waagent.LOG in kept:
        data = kept[waagent.LOG].data.decode()
        for length in (8, len(secret)):
            assert secret[-length:] not in data
            assert secret[:length] not in data
        assert not data or data.startswith(("2026-", REDACTED))
        assert bool(kept[waagent.LOG].cut) == (len(log.encode()) > 400 or not end)


def test_half_a_line_is_no_record(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where it looks like the beginning of one."""
    rest, last = f"2026-11-23T{WORD}\n", f"{_HEAD}the last\n"
    monkeypatch.setattr(bundle, "MOST_LOG", len(rest + last))
    found = bundle.gather(FakeMachine(files={waagent.LOG: f"{_HEAD}password={rest}{last}"}), {}, 60.0)
    assert [member.data.decode() for member in found.members if member.source == waagent.LOG] == [last]


@given(
    before=st.text(max_size=50),
    gap=st.sampled_from(["", " ", "\t", "\r\n", "\n\n  "]),
    line=st.integers(41, 76),
    data=st.binary(min_size=64, max_size=600),
)
def test_what_is_encoded_is_known_by_its_form(before: str, gap: str, line: int, data: bytes) -> None:
    """A key or something encrypted, in one line or in many, whatever stands before it; hexadecimal is no secret."""
    encoded = base64.b64encode(hashlib.sha512(data).digest() + data).decode()
    lines = [encoded[start : start + line] for start in range(0, len(encoded), line)]
    text = redact(f"{before} {gap}" + "\n".join(lines) + "\n and after")
    assert all(part not in text for part in lines if len(part) > 16)
    assert text.endswith("\n and after")
    assert redact(data.hex()) == data.hex()


@pytest.mark.parametrize(
    "text",
    [
        "/var/lib/waagent/WALinuxAgent-2.15.0.1/bin/WALinuxAgent-2.15.0.1-py3.9.egg",
        "Microsoft.Azure.RecoveryServices.VMSnapshotLinux-1.0.9220.0",
        "incarnation_1 7f5a3c3e-0000-4000-8000-000000000001",
        "thumbprint 0123456789ABCDEF0123456789ABCDEF01234567",
        "/usr/lib/python3.11/site-packages/azurelinuxagent/common/protocol/wire.py",
        "Provisioning.RegenerateSshHostKeyPair=y",
        "Extensions.GoalStateHistoryCleanupPeriod= 1800",
        '{"protectedSettings": null, "token": ""}',
        "http://168.63.129.16/machine/?comp=goalstate",
        "Agent WALinuxAgent-2.7.3.0 launched with command '/usr/bin/python3 -u /usr/sbin/waagent -run-exthandlers'",
        "journalctl -u walinuxagent.service: exit status 1",
        "bypass=all, first pass done; 3 keys; no cookies: none",
        '{"name": "keyboard", "value": "us"}, {"name": "VMSnapshotLinux", "value": "1.0.9220.0"}',
        '<setting name="LogLevel" value="Verbose"/><setting name="LogLevel">Verbose</setting>',
        "curl -u https://x/; docker run --user root; date -u +%H:%M:%S",
        "mysql -p db",
        "sshpass -e ssh host",
    ],
)
def test_what_support_needs_stays(text: str) -> None:
    """Paths, versions, identifiers and addresses without a signature."""
    assert redact(text) == text


def test_a_document_stays_one() -> None:
    """The quotes around what was redacted are kept."""
    assert json.loads(redact('{"token": "x y", "b": "{\\"key\\": \\"z\\"}", "c": 1}')) == {
        "token": REDACTED,
        "b": f'{{"key": "{REDACTED}"}}',
        "c": 1,
    }
    assert json.loads(redact('[{"a": "Cookie: x=1; y=2"}, {"a": "{\\"b\\": \\"passphrase: z y\\"}"}, "c"]')) == [
        {"a": f"Cookie: {REDACTED}"},
        {"a": f'{{"b": "passphrase: {REDACTED}"}}'},
        "c",
    ]
    assert json.loads(redact('[{"name": "password", "value": "x y"}, {"value": "z", "name": "pwd"}, 1]')) == [
        {"name": "password", "value": REDACTED},
        {"value": REDACTED, "name": "pwd"},
        1,
    ]


@pytest.mark.parametrize("stamp", ["", "2026-11-23T00:00:00Z INFO "])
def test_a_block_whose_beginning_was_lost_is_known_by_its_end(stamp: str) -> None:
    """Its last line is too short to be known by its form; what is further away stays."""
    text = f"one\ntwo\n{stamp}{ACCOUNT_KEY[64:]}\n{stamp}-----END PRIVATE KEY-----\nthree"
    assert redact(text) == f"one{REDACTED}\nthree"


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-16"])
def test_a_secret_in_two_bytes_a_character_is_known(encoding: str, root: Path) -> None:
    """Also between text of one byte."""
    path = root / "var/log/waagent.log"
    path.write_bytes(b"2026-11-23 one\n" + f"sig={WORD}".encode(encoding) + b"\n2026-11-23 two\n")
    data = unpacked(packed(root))["files/var/log/waagent.log"].decode()
    assert "sig" in data
    assert WORD not in data.replace("\0", "").replace(" ", "")


def test_a_secret_behind_a_megabyte_of_beginnings_is_known() -> None:
    """What begins like a secret over and over, and is none, is passed in a time that grows with its length alone."""
    beginnings = ("\\", "key ", "name=key, ", "value=a, ", '<a name="key" ', "<name>key</name> ", "-u a ", "mysql -h ")
    started = time.process_time()
    for text in beginnings:
        redacted = redact(text * (2**20 // len(text)) + f"\npassword={WORD}")
        assert redacted.endswith(f"\npassword={REDACTED}")
        assert len(redacted) > 2**20
    measured(f"the redaction of {len(beginnings)} hostile MiB: {time.process_time() - started:.1f} CPU s")


# --------------------------------------------------------------------------------------------------- bounds


def test_binary_garbage_is_taken_as_text(root: Path) -> None:
    """No control character gets out, and the manifest's digest is of what is in the archive."""
    (root / "var/log/waagent.log").write_bytes(bytes(range(256)) * 100 + b"\n")
    (root / HANDLER[1:] / "config/HandlerStatus").write_bytes(b"\xff\xfe\0\0\x1b[2J")
    files = unpacked(packed(root))
    for entry in manifest(files)["files"]:
        data = files[entry["name"]]
        assert (entry["bytes"], entry["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())
        assert all(c.isprintable() or c in "\n\t\r" or ord(c) > 127 for c in data.decode()), entry["name"]


def test_of_a_huge_log_its_newest_records_are_taken(root: Path) -> None:
    """A sparse file of 4 GB costs what a small one does; the manifest says what was cut."""
    path = root / "var/log/waagent.log"
    with path.open("r+b") as log:
        log.truncate(4 << 30)
        log.seek(0, os.SEEK_END)
        log.write(b"\n" + b"2026-11-23T00:00:00.000000Z INFO ExtHandler the newest\n" * 30_000)
    files = unpacked(packed(root))
    data = files["files/var/log/waagent.log"]
    assert bundle.MOST_LOG - 1000 < len(data) <= bundle.MOST_LOG
    assert data.startswith(b"2026-11-23T")
    (entry,) = (entry for entry in manifest(files)["files"] if entry["source"] == waagent.LOG)
    assert entry["cut"] == f"its first {path.stat().st_size - len(data)} bytes"


def test_a_log_in_which_no_record_begins_is_left_out(root: Path) -> None:
    """Nobody knows of what its end is a part."""
    (root / "var/log/waagent.log").write_bytes(b"x" * 80 + b"\n" + b"y\n" * bundle.MOST_LOG)
    files = unpacked(packed(root))
    assert "files/var/log/waagent.log" not in files
    assert "no record begins" in why_not(files)[waagent.LOG]


def test_all_of_it_is_bounded(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What does not fit any more is left out, and what is small still fits."""
    monkeypatch.setattr(bundle, "MOST_BYTES", 20_000)
    (root / "var/log/waagent.log").write_text("2026-11-23T00:00:00Z INFO x\n" * 10_000)
    files = unpacked(packed(root))
    assert sum(len(data) for name, data in files.items() if name != "manifest.json") <= 20_000
    assert "the bundle holds no more" in why_not(files)[waagent.LOG]
    assert f"files{EXTENSION_LOG}" in files


def test_a_file_that_should_be_small_and_is_not_is_left_out(root: Path) -> None:
    """Rather than half of it."""
    (root / "etc/waagent.conf").write_bytes(b"#" * (bundle.MOST_FILE + 1))
    assert f"more than {bundle.MOST_FILE} bytes" in why_not(unpacked(packed(root)))["/etc/waagent.conf"]


def test_of_ten_thousand_names_the_first_and_the_last_are_told(root: Path) -> None:
    """And of as many status and settings files the newest are taken."""
    for number in range(10_000):
        (root / HANDLER[1:] / f"status/{number}.status").touch()
    started = time.process_time()
    files = unpacked(packed(root))
    measured(f"a bundle with a directory of 10000 entries: {time.process_time() - started:.2f} CPU s")
    taken = [name for name in files if name.endswith(".status")]
    assert taken == [f"files{HANDLER}/status/{number}.status" for number in range(9990, 10_000)]
    names = files["names.txt"].decode()
    assert names.count(".status\n") == 400
    assert "status: 10000 entries\n" in names
    assert "… 9600 others …" in names


def test_a_name_cannot_pretend_to_be_another_line(root: Path) -> None:
    """A line break, a control character or a secret in a name."""
    (root / waagent.LIB_DIR[1:] / f"a\nfile fake\x1b[2J?sig={WORD}\udcff").touch()
    names = unpacked(packed(root))["names.txt"].decode()
    assert " a file fake [2J?sig=[redacted]" in names
    assert "\nfile fake" not in names
    assert WORD not in names


@pytest.mark.parametrize("target", ["/etc/shadow", "../../etc/passwd", "waagent.log.2", "/nowhere"])
def test_a_link_is_not_followed(target: str, root: Path) -> None:
    """Neither out of the tree nor within it: it could lead to what is not on the list."""
    (root / "var/log/waagent.log.2").write_text("2026-11-23 plain words\n")
    (root / "etc/passwd").write_text("2026-11-23 plain words\n")
    (root / "var/log/waagent.log").unlink()
    (root / "var/log/waagent.log").symlink_to(target)
    (root / "etc/waagent.conf").unlink()
    (root / "etc/waagent.conf").symlink_to(target)
    data = packed(root)
    assert "plain words" not in told(data)
    assert "root:" not in told(data)
    assert f"a link to {target}" in why_not(unpacked(data))[waagent.LOG]
    assert f"a link to {target}" in why_not(unpacked(data))["/etc/waagent.conf"]


def test_a_reason_is_redacted_too(root: Path) -> None:
    """The manifest tells where a link leads to."""
    (root / "etc/waagent.conf").unlink()
    (root / "etc/waagent.conf").symlink_to(f"/x?sig={WORD}")
    data = packed(root)
    assert f"a link to /x?sig={REDACTED}" in why_not(unpacked(data))["/etc/waagent.conf"]
    assert WORD not in told(data)


def test_a_directory_that_leads_out_of_the_tree_is_not_followed(root: Path, tmp_path: Path) -> None:
    """Its files are told as not readable."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/extension.log").write_text("2026-11-23 plain words\n")
    logs = root / EXTENSION_LOG.rpartition("/")[0][1:]
    shutil.rmtree(logs)
    logs.symlink_to(tmp_path / "outside")
    data = packed(root)
    assert "plain words" not in told(data)
    assert "leads out of" in why_not(unpacked(data))[EXTENSION_LOG]


def test_what_cannot_be_read_does_not_keep_the_rest_out() -> None:
    """Each with its reason; what is not there is told as such."""
    files: Any = {
        waagent.LOG: CannotTell(f"cannot read {waagent.LOG}: Input/output error"),
        EXTENSION_LOG: "2026-11-23 a record\n",
    }
    found = bundle.gather(FakeMachine(files=files), {}, 60.0)
    left = {one.source: one for one in found.left_out}
    assert left[waagent.LOG].why == f"cannot read {waagent.LOG}: Input/output error"
    assert not left[waagent.LOG].absent
    assert left["/etc/waagent.conf"].absent
    assert EXTENSION_LOG in {member.source for member in found.members}


def test_no_file_of_a_machine_is_waited_for_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was read before is there; what hung is named."""
    gate, reached = threading.Event(), threading.Event()

    class Hangs(FakeMachine):
        def read_new(self, path: str, *others: Any, **more: Any) -> Any:
            if path == EXTENSION_LOG:
                reached.set()
                gate.wait(60)
            return super().read_new(path, *others, **more)

    def wait() -> None:
        gate.wait(60)

    in_time = bundle._in_time

    def until_it_hangs(do: Callable[[], None], seconds: float) -> str:
        threading.Thread(target=do, daemon=True).start()
        assert reached.wait(60)
        return in_time(wait, 0.05)

    monkeypatch.setattr(bundle, "_in_time", until_it_hangs)
    machine = Hangs(files={waagent.LOG: "2026-11-23 a record\n", EXTENSION_LOG: "2026-11-23 late\n"})
    try:
        found = bundle.gather(machine, {"a.txt": "x"}, 60.0)
    finally:
        gate.set()
    assert {"backupready", waagent.LOG} <= {member.source for member in found.members}
    assert found.left_out[-1].source == f"{EXTENSION_LOG}, and what comes after it"
    assert "not done in time" in found.left_out[-1].why


def test_when_no_time_is_left_the_machine_is_not_asked() -> None:
    """What the caller knows is kept; all else is named, and that there was no time."""
    machine = FakeMachine(files={waagent.LOG: "2026-11-23 a record\n"})
    desk = bundle._Desk(machine, time.monotonic() - 1)
    bundle._gather(desk, {"a.txt": "x"})
    found = desk.close("")
    assert [member.name for member in found.members] == ["backupready/a.txt", "names.txt"]
    assert b"a record" not in b"".join(member.data for member in found.members)
    assert {one.why for one in found.left_out} == {"no time was left"}


def test_of_what_a_program_printed_no_half_line_is_taken() -> None:
    """It was cut at its end."""
    command = " ".join(bundle.COMMANDS["agent-journal.txt"])
    machine = FakeMachine(programs={command: Ran(0, b"whole\nsig=\nhal", "", cut=True)})
    (member,) = (one for one in bundle.gather(machine, {}, 60.0).members if one.source == command)
    assert (member.name, member.data, member.cut) == ("commands/agent-journal.txt", b"whole\nsig=\n", "its end")


# -------------------------------------------------------------------------------------------------- archive


def test_the_same_machine_gives_the_same_bytes(root: Path) -> None:
    """In the same order, the manifest first, owned by root and for nobody else; what was JSON is JSON."""
    data = packed(root, {"b": "1", "a": "2"})
    assert data == packed(root, {"b": "1", "a": "2"})
    assert data[4:8] == bytes(4)  # the time in the head of gzip
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:gz") as archive:
        entries = archive.getmembers()
    assert [entry.name for entry in entries][:3] == ["b/manifest.json", "b/backupready/b", "b/backupready/a"]
    assert {(e.uid, e.gid, e.mode, e.mtime, e.isfile()) for e in entries} == {(0, 0, 0o600, int(NOW), True)}
    files = unpacked(data)
    assert json.loads(files[f"files{waagent.LIB_DIR}/history/2026-11-23T00-22-46__2/waagent_status.json"])["version"]


# -------------------------------------------------------------------------------------------------- evidence


def collect(root: Path, directory: Path, now: float = NOW) -> str:
    return bundle.collect(CapturedMachine(str(root)), now, {"attempt.json": "{}"}, str(directory))


def test_evidence_is_kept_where_only_root_reads_it(root: Path, tmp_path: Path) -> None:
    """Also where the directory was open before."""
    place = tmp_path / "hands/evidence"
    place.mkdir(parents=True, mode=0o755)
    path = Path(collect(root, place))
    assert path == place / "2026-11-23T002302Z.tar.gz"
    assert (path.stat().st_mode & 0o777, place.stat().st_mode & 0o777) == (0o600, 0o700)
    with tarfile.open(path) as archive:
        assert "evidence-2026-11-23T002302Z/backupready/attempt.json" in archive.getnames()


def test_two_of_one_second_are_two(root: Path, tmp_path: Path) -> None:
    """None takes another's place."""
    first = collect(root, tmp_path / "e")
    content = Path(first).read_bytes()
    assert collect(root, tmp_path / "e") == first.replace("Z.tar", "Z-2.tar")
    assert Path(first).read_bytes() == content


@pytest.mark.parametrize("bound", ["number", "size"])
def test_the_oldest_evidence_is_let_go(bound: str, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By number and by size; what is not ours stays, and so does the newest, be it alone too large."""
    place = tmp_path / "e"
    paths = []
    for number in range(5):
        path = Path(collect(root, place, NOW + number))
        os.utime(path, (NOW + number, NOW + number))
        paths.append(path)
    (place / "notes.tar.gz").write_bytes(b"x")
    size = paths[0].stat().st_size
    if bound == "number":
        monkeypatch.setattr(bundle, "MOST_KEPT", 3)
    else:
        monkeypatch.setattr(bundle, "MOST_KEPT_BYTES", int(size * 3.5))
    last = Path(collect(root, place, NOW + 9))
    assert sorted(place.iterdir()) == sorted([*paths[-2:], last, place / "notes.tar.gz"])
    monkeypatch.setattr(bundle, "MOST_KEPT_BYTES", 1)
    alone = Path(collect(root, place, NOW + 10))
    assert sorted(place.iterdir()) == sorted([alone, place / "notes.tar.gz"])


def test_a_full_disk_is_told_and_nothing_is_left_of_it(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half a bundle is none, and what was kept before stays."""
    first = Path(collect(root, tmp_path / "e"))

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    assert "No space left on device" in collect(root, tmp_path / "e", NOW + 1)
    assert list((tmp_path / "e").iterdir()) == [first]


def test_evidence_leaves_room_to_others(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not kept on a file system that is nearly full."""
    monkeypatch.setattr(bundle, "_ROOM_LEFT", 1 << 60)
    assert collect(root, tmp_path / "e").startswith("no evidence was kept: less than")
    assert list((tmp_path / "e").iterdir()) == []


def test_it_lies_with_what_the_hands_keep() -> None:
    """And what they tell everybody is in it."""
    assert Path(bundle.EVIDENCE).parent == Path(ledger.DIRECTORY)
    assert fixes.SUMMARY in bundle.FILES


@pytest.mark.parametrize("place", ["a file", "a link to nothing"])
def test_a_place_that_is_none_is_told(place: str, root: Path, tmp_path: Path) -> None:
    """Never raised."""
    path = tmp_path / "e"
    if place == "a file":
        path.touch()
    else:
        path.symlink_to(tmp_path / "nowhere")
    assert collect(root, path).startswith("no evidence was kept: cannot write below")


def test_a_defect_of_ours_keeps_no_fix_from_being_done(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What was gathered before it is kept, and it is told."""
    monkeypatch.setattr(threading, "excepthook", lambda arguments: None)

    def breaks(*arguments: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(bundle, "_take_log", breaks)
    path = Path(collect(root, tmp_path / "e"))
    assert b"a defect of backupready" in gzip.decompress(path.read_bytes())
    monkeypatch.setattr(bundle, "_keep", breaks)
    assert collect(root, tmp_path / "e") == "no evidence was kept: a defect of backupready's"


# ------------------------------------------------------------------------------------------------ command line


def run(*arguments: str, config: Path) -> int:
    return cli.main(["--config", str(config), "bundle", *arguments])


def test_the_verb_writes_a_new_file_and_says_which(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """0600, with the configuration and a check in it, and it says what could not be read."""
    config = tmp_path / "x.conf"
    config.write_text("[history]\nkeep = 3d\n")
    monkeypatch.chdir(tmp_path)
    assert run("--root", str(root), config=config) == 0
    (path,) = tmp_path.glob("backupready-captured-tree-*.tar.gz")
    captured = capsys.readouterr()
    assert captured.out.splitlines()[-1].startswith(f"{path.name}: {path.stat().st_size} bytes")
    assert "left out: free space: a captured tree cannot say" in captured.out
    assert path.stat().st_mode & 0o777 == 0o600
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"backupready/config.txt", "backupready/check.json", "files/etc/waagent.conf", "manifest.json"} <= names


def test_nothing_is_overwritten(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Neither a file nor what a link leads to; exit status 73."""
    config, path = tmp_path / "x.conf", tmp_path / "there"
    config.touch()
    path.write_text("mine")
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "elsewhere")
    for place in (path, link):
        assert run("--root", str(root), "--output", str(place), config=config) == 73
        assert f"cannot write {place}: File exists" in capsys.readouterr().err
    assert path.read_text() == "mine"
    assert not (tmp_path / "elsewhere").exists()


def test_a_wrong_configuration_is_no_reason_for_no_bundle(root: Path, tmp_path: Path) -> None:
    """Its mistakes are in it."""
    config, path = tmp_path / "x.conf", tmp_path / "b.tar.gz"
    config.write_text("[history]\nkeep = sing\n")
    assert run("--root", str(root), "--output", str(path), config=config) == 0
    assert b"x.conf:2" in gzip.decompress(path.read_bytes())


def test_a_tree_that_is_none_is_wrong_usage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """64, and nothing is written."""
    config = tmp_path / "x.conf"
    config.touch()
    assert run("--root", str(tmp_path / "none"), "--output", str(tmp_path / "b"), config=config) == 64
    assert not (tmp_path / "b").exists()
