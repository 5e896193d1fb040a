"""What has the administrator set, and is all of it meant?

One table of settings feeds the parser, the checks, the sample file and `backupready config show`. Files are INI,
systemd style: the main file, then the drop-ins of its conf.d in the order of their names, the last value of a key
wins. Every mistake of every file is reported at once, with its line and a hint; a file with a mistake is not used.
"""

from __future__ import annotations

import difflib
import ipaddress
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from backupready.model import Probe, Setting
from backupready.model import duration as duration
from backupready.model import yes_or_no as yes_or_no

DEFAULT_PATH = Path("/etc/backupready/backupready.conf")
EXIT_CONFIG = 78  # EX_CONFIG of sysexits.h

# ------------------------------------------------------------------------------------------------- value forms


def positive_duration(text: str) -> timedelta:
    """A time span that is not zero."""
    span = duration(text)
    if span <= timedelta(0):
        raise ValueError("must be longer than 0")
    return span


_SIZE_UNITS = {"": 0, "K": 10, "M": 20, "G": 30}  # as powers of 2


def size(text: str) -> int:
    """A number of bytes in systemd's manner, to the base of 1024: `1000000`, `500K`, `20M`, `20 MB`."""
    match = re.fullmatch(r"(\d{1,12})\s*([KMG]?)(?:i?B)?", text.strip(), re.ASCII | re.IGNORECASE)
    if not match:
        raise ValueError(f"{text!r} is not a size")
    return int(match.group(1)) << _SIZE_UNITS[match.group(2).upper()]


def history_limit(text: str) -> int:
    """A size in which the empty file and some days of records have room."""
    found = size(text)
    if found < 1 << 20:
        raise ValueError("must be 1M at least")
    return found


def look_deadline(text: str) -> timedelta:
    """A time span that ends before the unit of the eyes would end the look (its RuntimeMaxSec is 60)."""
    span = positive_duration(text)
    if span > timedelta(seconds=50):
        raise ValueError("must be 50s at most: the service manager ends a look after 60 s")
    return span


def address(text: str) -> tuple[str, int]:
    """`127.0.0.1:10168`, `[::1]:10168`, or `:10168` for every address."""
    host, colon, port = text.strip().rpartition(":")
    if not colon or not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise ValueError(f"{text!r} has no port")
    if not host:
        return "::", int(port)
    in_brackets = host.startswith("[") and host.endswith("]")
    try:
        parsed = ipaddress.ip_address(host[1:-1] if in_brackets else host)
    except ValueError:
        raise ValueError(f"{host!r} is not an IP address") from None
    if (parsed.version == 6) is not in_brackets:
        raise ValueError(f"{host!r} must stand in brackets exactly if it is an IPv6 address")
    return str(parsed), int(port)


def addresses(text: str) -> tuple[tuple[str, int], ...]:
    """Several addresses, separated by commas or blanks."""
    words = text.replace(",", " ").split()
    if not words:
        raise ValueError("names no address")
    return tuple(address(word) for word in words)


def endpoint(text: str) -> str:
    """One host:port, kept as text."""
    host, port = address(text)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def absolute_path(text: str) -> str:
    """A path from the root."""
    if not text.startswith("/"):
        raise ValueError(f"{text!r} is not an absolute path")
    if "\0" in text:
        raise ValueError(f"{text!r} has a NUL, which no path has")
    return text


def optional_path(text: str) -> str:
    """A path from the root, or nothing."""
    return absolute_path(text) if text else ""


def text_file(text: str) -> str:
    """A path from the root to a file that node_exporter reads, or nothing."""
    if text and not text.endswith(".prom"):
        raise ValueError(f"{text!r} does not end in .prom, and node_exporter reads no other file")
    return optional_path(text)


def count(text: str) -> int:
    """A whole number that is not zero."""
    if not (text.isascii() and text.isdigit() and len(text) < 7) or int(text) < 1:
        raise ValueError(f"{text!r} is no number of at least 1")
    return int(text)


def remedy_names(text: str) -> tuple[str, ...]:
    """Names such as restart-agent, separated by commas or blanks, in their order and each once; none is fine."""
    words = text.replace(",", " ").split()
    for word in words:
        if not re.fullmatch(r"[a-z]+(?:-[a-z]+)*", word):
            raise ValueError(f"{word!r} is no name of a remedy")
    return tuple(dict.fromkeys(words))


def web_address(text: str) -> str:
    """A whole address, or nothing."""
    if text and not re.fullmatch(r"https?://[!-~]+", text):
        raise ValueError(f"{text!r} is no address that begins with http:// or https://")
    return text


def words(text: str) -> tuple[str, ...]:
    """Words, separated by commas or blanks; none is fine."""
    return tuple(dict.fromkeys(text.replace(",", " ").split()))


def choice(*words: str) -> Any:
    """One of a closed set of words."""

    def parse(text: str) -> str:
        if text not in words:
            raise ValueError(f"{text!r} is none of {', '.join(words)}")
        return text

    return parse


# --------------------------------------------------------------------------------------------------- the table

CORE: tuple[Setting, ...] = (
    Setting(
        "look",
        "door",
        "auto",
        "How the eyes are reached: through the socket unit, as a child process, or the socket where it exists.",
        choice("auto", "socket", "child"),
        "auto, socket or child",
    ),
    Setting(
        "look",
        "socket",
        "/run/backupready/look.sock",
        "Where the socket unit of the eyes listens.",
        absolute_path,
        "a path",
    ),
    Setting(
        "look",
        "deadline",
        "30s",
        "The longest that one whole look may take; after that its probes are unknown.",
        look_deadline,
        "a time span of at most 50s",
    ),
    Setting(
        "look",
        "confirm_after",
        "500ms",
        "How soon a problem that was seen once is looked at again; doubles with every look of a burst.",
        positive_duration,
        "a time span",
    ),
    Setting(
        "look",
        "lead_interval",
        "1min",
        "How often every probe looks at least in the lead time of a backup window.",
        positive_duration,
        "a time span",
    ),
    Setting(
        "state",
        "directory",
        "/var/lib/backupready",
        "Where the daemon keeps what outlives a restart. Another directory must be opened to the unit by a drop-in with"
        " ReadWritePaths=; it is taken over at the next start.",
        absolute_path,
        "a path",
    ),
    Setting(
        "history",
        "keep",
        "90d",
        "How long past verdicts, problems, backups and loads are kept. A forecast of a busy window of a weekly schedule"
        " needs five weeks.",
        positive_duration,
        "a time span",
    ),
    Setting(
        "history",
        "limit",
        "20M",
        "How large the file of the history may become, in state.directory; the oldest records make room for the"
        " newest.",
        history_limit,
        "a size of at least 1M",
    ),
    Setting(
        "web",
        "listen_address",
        "127.0.0.1:10168",
        "Where /metrics and the status page are served.",
        addresses,
        "host:port, several separated by commas",
    ),
    Setting(
        "web",
        "systemd_socket",
        "no",
        "Whether the sockets that systemd hands over are served, of a socket unit with Service=backupready.service;"
        " web.listen_address then counts only where it is set as well. systemd starts no socket unit of a service that"
        " runs: stop backupready.service, enable and start the socket unit, and start the service again.",
        yes_or_no,
        "yes or no",
    ),
    Setting(
        "web",
        "config_file",
        "",
        "A file with TLS, users and headers in the format of Prometheus' exporter-toolkit; see web.yml among the"
        " examples. It and the certificates are read anew when they have changed. Other than with exporter-toolkit, a"
        " running server is never opened by that: where TLS, users, headers or the clients' certificates as a whole are"
        " there no longer, as in a file that was cut off, the old file stays in force, and `systemctl reload"
        " backupready`, or a restart, takes the new one as it is. The user backupready must be able to"
        " read them, but not the key: a key_file without a directory, such as web.key, is looked for first among the"
        " unit's credentials, and the unit hands over /etc/backupready/web.key under that name (systemd 247 or later),"
        " which so stays root's; a drop-in with LoadCredential=NAME:PATH hands over another as NAME. A key is handed"
        " over when the daemon starts, so that a certificate with a new one needs a restart. Root's"
        " `backupready status` asks at web.status_socket, where neither a password nor a certificate is needed.",
        optional_path,
        "a path",
    ),
    Setting(
        "web",
        "status_socket",
        "/run/backupready/mind/status.sock",
        "The unix socket at which root, and nobody else, gets the same pages in the clear, without a password, and"
        " also where the web server listens nowhere: `backupready status`, `window` and `fix` ask there first. Its"
        " directory must be writable for the user backupready. Empty: there is none.",
        optional_path,
        "a path, or nothing",
    ),
    Setting(
        "textfile",
        "path",
        "",
        "Where the metrics are written for the textfile collector of node_exporter. The directory must be opened to the"
        " unit by a drop-in with ReadWritePaths=, and be writable for the user backupready. The web server listens"
        " for others then only where web.listen_address or web.systemd_socket is set. The file is removed when the"
        " daemon stops; one that is no longer written shows by node_textfile_mtime_seconds, which alerts.yml looks at"
        " where the path has backupready in it.",
        text_file,
        "a path that ends in .prom",
    ),
    Setting(
        "textfile",
        "interval",
        "1min",
        "How often that file is written; when the verdict changes, at once.",
        positive_duration,
        "a time span",
    ),
    Setting(
        "machine",
        "root",
        "/",
        "Below which directory the guest's files lie; another one than / is for emulated guests only.",
        absolute_path,
        "a path",
    ),
    Setting(
        "machine",
        "wire_server",
        "168.63.129.16:80",
        "The wire server; another one is for emulated guests only.",
        endpoint,
        "host:port",
    ),
    Setting(
        "machine",
        "host_plugin",
        "168.63.129.16:32526",
        "The host plugin; another one is for emulated guests only.",
        endpoint,
        "host:port",
    ),
    Setting(
        "fix",
        "mode",
        "observe",
        "Whether documented fixes are done ahead of a backup: not at all, or only planned and counted, or done as"
        " far as fix.allow goes.",
        choice("off", "observe", "on"),
        "off, observe or on",
    ),
    Setting(
        "fix",
        "allow",
        "",
        "The remedies that may be done; none is unless it is named here. `backupready fix` lists them.",
        remedy_names,
        "names of remedies, separated by commas",
    ),
    Setting(
        "fix",
        "socket",
        "/run/backupready/fix.sock",
        "The socket behind which a fix is done, with the right to change the machine.",
        absolute_path,
        "a path",
    ),
    Setting(
        "fix",
        "pause_file",
        "/run/backupready/pause",
        "While this file is there, nothing is fixed; for as long as it says (2h) since it was written, or until it is"
        " removed.",
        absolute_path,
        "a path",
    ),
    Setting(
        "fix",
        "guard_url",
        "",
        "Where to ask for alerts before anything is fixed without a person asking: an Alertmanager's"
        " http://HOST:9093/api/v2/alerts?active=true&silenced=false&inhibited=false, with &filter=... for those of"
        " this machine alone, or a Prometheus' http://HOST:9090/api/v1/alerts. While one fires nothing is fixed, nor"
        " while none can be asked for. No proxy is used; of https, the certificate must be one that this system"
        " trusts. Empty: no alert is asked for.",
        web_address,
        "an address, or nothing",
    ),
    Setting(
        "fix",
        "guard_ignore",
        "Watchdog, InfoInhibitor",
        "Names of alerts that may fire meanwhile. The alerts of backupready itself always may.",
        words,
        "names, separated by commas",
    ),
    Setting(
        "fix",
        "attempts_per_day",
        "10",
        "How many fixes may be done in a day, all together; a remedy's own limits hold as well.",
        count,
        "a number of at least 1",
    ),
    Setting(
        "fix",
        "different_per_hour",
        "3",
        "How many different fixes may be done in an hour: more than that is no fault that a fix mends.",
        count,
        "a number of at least 1",
    ),
    Setting(
        "fix",
        "without_window",
        "no",
        "Whether anything is fixed without being asked for while it is not known when the next backup starts.",
        yes_or_no,
        "yes or no",
    ),
    Setting(
        "fix",
        "verbose_for",
        "2h",
        "How long the agent's log is verbose when enable-verbose-logging has made it so; then that is undone.",
        positive_duration,
        "a time span",
    ),
)


def table(probes: Iterable[Probe]) -> tuple[Setting, ...]:
    """The whole table: the daemon's own settings, and for each probe its switch, its cadence and what it declares."""
    rows = list(CORE)
    for probe in probes:
        rows += [
            Setting(
                probe.name,
                "enabled",
                "yes",
                f"Whether the {probe.name} probe looks at all. What is switched off is not judged, "
                "and the verdict says so.",
                yes_or_no,
                "yes or no",
            ),
            Setting(
                probe.name,
                "interval",
                f"{int(probe.interval.total_seconds())}s",
                f"How often the {probe.name} probe looks.",
                positive_duration,
                "a time span",
            ),
        ]
        rows += probe.settings
    return tuple(rows)


# ----------------------------------------------------------------------------------------------------- the files


@dataclass(frozen=True)
class Mistake:
    """One thing wrong in one file; `line` is 0 when the file itself is the matter."""

    path: str
    line: int
    what: str
    hint: str = ""

    def __str__(self) -> str:
        where = f"{self.path}:{self.line}" if self.line else self.path
        return f"{where}: {self.what}" + (f" ({self.hint})" if self.hint else "")


class ConfigError(Exception):
    """All mistakes of all files."""

    def __init__(self, mistakes: Sequence[Mistake]) -> None:
        super().__init__("\n".join(str(mistake) for mistake in mistakes))
        self.mistakes = tuple(mistakes)


@dataclass(frozen=True)
class Value:
    """A setting's value, and where it comes from: `default` or file:line."""

    setting: Setting
    text: str
    value: Any
    origin: str


@dataclass(frozen=True)
class Config:
    """Every setting of the table, valued."""

    values: Mapping[str, Value]

    def __getitem__(self, name: str) -> Any:
        return self.values[name].value

    def changed(self) -> dict[str, str]:
        """What is not left at its default, as text: enough for `from_texts` to make the same again."""
        return {name: value.text for name, value in self.values.items() if value.origin != "default"}

    def section(self, name: str) -> dict[str, Any]:
        """The values of one section by key."""
        return {value.setting.key: value.value for value in self.values.values() if value.setting.section == name}


def load(settings: Sequence[Setting], path: Path | None = None, options: Mapping[str, str] | None = None) -> Config:
    """Read the main file and its drop-ins; `options` of the command line, texts by setting name, come last.

    A missing default file is fine (everything has a default); a missing file that was asked for is a mistake.
    Raises ConfigError with all mistakes.
    """
    main = path or DEFAULT_PATH
    mistakes: list[Mistake] = []
    values = {s.name: Value(s, s.default, s.parse(s.default), "default") for s in settings}
    if main.is_file():
        files = [main]
    else:
        files = []
        if path is not None or main.exists():
            mistakes.append(Mistake(str(main), 0, "cannot read this file: there is no such file"))
    files += sorted((main.parent / "conf.d").glob("*.conf"))
    for file in files:
        try:
            text = file.read_bytes().decode("utf-8")
        except OSError as error:
            mistakes.append(Mistake(str(file), 0, f"cannot read this file: {error.strerror}"))
            continue
        except UnicodeDecodeError as error:
            line = error.object[: error.start].count(b"\n") + 1
            mistakes.append(Mistake(str(file), line, "cannot read this line: it is not UTF-8"))
            continue
        found, wrong = _parse(text, str(file), settings)
        values.update(found)
        mistakes += wrong
    for name, text in (options or {}).items():
        setting = values[name].setting
        try:
            values[name] = Value(setting, text, setting.parse(text), "command line")
        except ValueError as error:
            mistakes.append(Mistake("command line", 0, f"{name}: {error}", f"give {setting.form}"))
    if mistakes:
        raise ConfigError(mistakes)
    return Config(values)


def from_texts(settings: Sequence[Setting], texts: Mapping[str, str], origin: str) -> Config:
    """The defaults, changed by texts by setting name. Raises ConfigError."""
    known = {setting.name: setting for setting in settings}
    values = {s.name: Value(s, s.default, s.parse(s.default), "default") for s in settings}
    mistakes = []
    for name, text in texts.items():
        try:
            setting = known[name]
            values[name] = Value(setting, text, setting.parse(text), origin)
        except KeyError:
            mistakes.append(Mistake(origin, 0, f"there is no setting {name[:80]!r}"))
        except ValueError as error:
            mistakes.append(Mistake(origin, 0, f"{name}: {error}"))
    if mistakes:
        raise ConfigError(mistakes)
    return Config(values)


def _parse(text: str, path: str, settings: Sequence[Setting]) -> tuple[dict[str, Value], list[Mistake]]:
    sections = {setting.section for setting in settings}
    known = {setting.name: setting for setting in settings}
    values: dict[str, Value] = {}
    mistakes: list[Mistake] = []
    seen: dict[str, int] = {}
    section: str | None = None
    in_no_section = True  # nothing but comments so far
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.strip()
        if not line or line[0] in "#;":
            continue
        if line.startswith("["):
            in_no_section = False
            section = line[1:-1].strip() if line.endswith("]") else None
            if section is None:
                mistakes.append(Mistake(path, number, f"{line!r} is no section", "the ] is missing"))
            elif section not in sections:
                mistakes.append(Mistake(path, number, f"there is no section [{section}]", _nearest(section, sections)))
                section = None
            continue
        key, equals, value = (part.strip() for part in line.partition("="))
        if not equals:
            mistakes.append(Mistake(path, number, f"{line!r} is no setting", "write key = value"))
            continue
        if section is None:
            if in_no_section:
                mistakes.append(Mistake(path, number, f"{key} stands in no section", "begin with [look]"))
            continue
        setting = known.get(f"{section}.{key}")
        if setting is None:
            keys = [other.key for other in settings if other.section == section]
            mistakes.append(Mistake(path, number, f"[{section}] has no setting {key!r}", _nearest(key, keys)))
            continue
        if setting.name in seen:
            mistakes.append(
                Mistake(path, number, f"{setting.name} is set twice", f"first in line {seen[setting.name]}")
            )
            continue
        seen[setting.name] = number
        try:
            values[setting.name] = Value(setting, value, setting.parse(value), f"{path}:{number}")
        except ValueError as error:
            mistakes.append(Mistake(path, number, f"{setting.name}: {error}", f"give {setting.form}"))
    return values, mistakes


def _nearest(word: str, words: Iterable[str]) -> str:
    candidates = sorted(words)
    near = difflib.get_close_matches(word, candidates, n=1)
    return f"did you mean {near[0]}?" if near else f"there are {', '.join(candidates)}"


def sample(settings: Sequence[Setting]) -> str:
    """The sample file: every setting with its default, commented out."""
    lines = [
        "# backupready.conf: every setting, with its default. Uncomment what you change; drop-ins go to conf.d/*.conf.",
        "# `backupready config check` finds mistakes, `backupready config show` says what is in force and why.",
    ]
    section = ""
    for setting in settings:
        if setting.section != section:
            section = setting.section
            lines += ["", f"[{section}]"]
        lines += ["", *_comment(f"{setting.help} Takes {setting.form}."), f"#{setting.key} = {setting.default}"]
    return "\n".join(lines) + "\n"


def _comment(text: str, width: int = 100) -> list[str]:
    lines: list[str] = []
    line = "#"
    for word in text.split():
        if len(line) + 1 + len(word) > width:
            lines.append(line)
            line = "#"
        line += f" {word}"
    return [*lines, line]
