"""What do the manual pages say? backupready(8) comes from the parser and the problems, the other from the settings."""

from __future__ import annotations

import argparse
import re
import textwrap
from collections.abc import Iterable, Iterator

from backupready import cli, config, fixes, probes, waagent
from backupready.catalogue import SETTINGS
from backupready.hands import ledger
from backupready.model import Setting, Verdict
from backupready.report import SENTENCES

_CONF = str(config.DEFAULT_PATH)
_DROP_INS = str(config.DEFAULT_PATH.parent / "conf.d/*.conf")
_ESCAPES = {"\\": "\\e", "-": "\\-", "'": "\\(aq", "`": "\\(ga", "^": "\\(ha", "~": "\\(ti", '"': "\\(dq"}

DESCRIPTION = (
    (
        "`backupready` looks at what Azure Backup needs inside a Linux VM: the VM agent, the VMSnapshot extension,"
        " their configuration, and the way to the wire server. It says hours ahead whether the next backup of this"
        " machine will succeed, and if not, why not. Looking changes nothing on the machine."
    ),
    (
        "The daemon runs as a user of its own without privileges. What only root may read is looked at by another,"
        " short-lived process that systemd starts through a socket. Every problem that is believed, and the verdict"
        " that follows from them, is in the journal, at http://ADDRESS/ for people, at http://ADDRESS/metrics for"
        " Prometheus and at http://ADDRESS/api/v1/status for programs. `journalctl -x -u backupready` explains each"
        " entry."
    ),
)
SIGNALS = (
    (
        "SIGHUP",
        (
            "The daemon reads its configuration anew, as `systemctl reload backupready` asks for. With a mistake in"
            " it the old one stays in force, and the journal says what is wrong. Where the web server listens and"
            " the text file is written is taken over at the next start only; `web.config_file` itself is read anew"
            " whenever it has changed, and now as it is, even if it lets in more than before."
        ),
    ),
    ("SIGTERM, SIGINT", "The daemon gives up running looks, closes its listener and ends with status 0."),
)
UNITS = (
    ("backupready.service", "The daemon, `backupready run`."),
    ("backupready-look.socket", "Where the daemon asks for a look as root."),
    ("backupready-look@.service", "One such look, `backupready look`; it ends after seconds."),
    (
        "backupready-fix.socket",
        "Where the daemon asks for a documented fix. It is not enabled: `backupready fix --enable`.",
    ),
    ("backupready-fix@.service", "One such fix, as root, `backupready hands`; it ends with it."),
    (
        "backupready-fix-end.timer",
        (
            "Every five minutes and after a boot: ends what a fix has left unfinished, and undoes what it has changed"
            " for a time only. Does nothing where there is no such thing."
        ),
    ),
)
FORMAT = (
    (
        f"Settings stand in {_CONF} and in drop-ins, {_DROP_INS}. The main file is read first, then the drop-ins in"
        " the order of their names. When several files give a setting a value, the last one wins. Every setting has a"
        " default and no file has to exist. With --config FILE, FILE takes the place of the main file, and the"
        " drop-ins are those of conf.d beside it."
    ),
    (
        "The format is INI: sections in brackets, `key = value` in a line of its own, and comments in lines that"
        " begin with # or ;. Within one file a setting is given once."
    ),
    (
        "All mistakes of all files are reported at once, each with its file, its line and a hint, and a configuration"
        " with a mistake is not used: the program ends with exit status 78, and a daemon that reloads keeps the one it"
        " has. `backupready config check` finds mistakes before that, `backupready config show` says what is in force"
        " and which line it comes from."
    ),
)
FORMS = (
    (
        "a time span",
        (
            "Numbers with the units ms, s (or sec), min (or m), h and d, added up: `500ms`, `90s`, `1h 30min`. A number"
            " without a unit is in seconds."
        ),
    ),
    ("yes or no", "Also true, on or 1, and false, off or 0."),
    (
        "host:port",
        (
            "An IP address and a port: `127.0.0.1:10168`, `[::1]:10168`. Without an address, as in `:10168`, every"
            " address of the machine is meant."
        ),
    ),
    ("a path", "An absolute one."),
)


# ------------------------------------------------------------------------------------------------------- roff


def escape(text: str) -> str:
    """Text as roff shows it unchanged, and as it can be copied from a terminal."""
    return "".join(_ESCAPES.get(c, c) if ord(c) < 128 else f"\\[u{ord(c):04X}]" for c in text)


def _prose(text: str) -> str:
    """A paragraph; what stands in backticks becomes bold. No line of it can be taken for a request."""
    lines = []
    bold = False
    for line in textwrap.wrap(text, 100, break_long_words=False, break_on_hyphens=False):
        roff = "\\fB" if bold else ""
        for place, part in enumerate(line.split("`")):
            if place:
                bold = not bold
                roff += "\\fB" if bold else "\\fR"
            roff += escape(part)
        lines.append(("\\&" if roff.startswith(".") else "") + roff + ("\\fR" if bold else ""))
    return "\n".join(lines)


def _bold(text: str) -> str:
    return f"\\fB{escape(text)}\\fR"


def _italic(text: str) -> str:
    return f"\\fI{escape(text)}\\fR"


def _section(title: str, *parts: str) -> str:
    return f".SH {escape(title)}\n" + "\n".join(parts)


def _paragraphs(texts: Iterable[str]) -> str:
    return "\n.PP\n".join(map(_prose, texts))


def _item(tag: str, text: str) -> str:
    """A tagged paragraph; the tag is roff already."""
    return f".TP\n{tag}\n{text}"


def _items(rows: Iterable[tuple[str, str]]) -> str:
    return "\n".join(_item(_bold(tag), _prose(text)) for tag, text in rows)


def _page(name: str, section: int, sections: Iterable[str]) -> str:
    # Without a date and a version: the page is the same whenever it is rendered.
    head = [
        '.\\" Rendered from the declarations of backupready; `make render` does it again.',
        f'.TH {name} {section} "" backupready',
        ".nr HY 0",  # names and paths are copied from the page: nothing is hyphenated or stretched
        ".ad l",
    ]
    return "\n".join([*head, *sections]) + "\n"


# ------------------------------------------------------------------------------------------------- command line


def _value(action: argparse.Action) -> str:
    """What an option or a place takes, in roff: a word to replace, or the words to choose from."""
    if action.choices is not None:
        return "{" + "|".join(_bold(str(word)) for word in action.choices) + "}"
    return _italic(str(action.metavar or action.dest.upper()))


def _call(action: argparse.Action, names: Iterable[str]) -> str:
    """An option by its names with its value, or a place."""
    value = "" if action.nargs == 0 else _value(action)
    return ", ".join(_bold(name) + (f" {value}" if value else "") for name in names) or value


def _arguments(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """What a person gives, without -h and without the verbs."""
    for action in parser._actions:
        if not isinstance(action, (argparse._HelpAction, argparse._SubParsersAction)):
            yield action


def _verbs(parser: argparse.ArgumentParser) -> Iterator[tuple[str, str, argparse.ArgumentParser]]:
    """Each verb with its help and its parser."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            helps = {choice.dest: choice.help or "" for choice in action._choices_actions}
            for verb, inner in action.choices.items():
                yield verb, helps.get(verb, ""), inner


def _usage(parser: argparse.ArgumentParser) -> str:
    """The arguments in one line, those that exclude each other side by side."""
    groups = {id(action): group for group in parser._mutually_exclusive_groups for action in group._group_actions}
    words, shown = [], set()
    for action in _arguments(parser):
        if id(action) in shown:
            continue
        together = groups[id(action)]._group_actions if id(action) in groups else [action]
        shown |= {id(one) for one in together}
        word = "|".join(_call(one, one.option_strings[-1:]) for one in together)
        required = action.required if len(together) == 1 else groups[id(action)].required
        words.append(word if required else f"[{word}]")
    return " ".join(words)


def _listed(parser: argparse.ArgumentParser) -> str:
    """Every argument that says something of itself."""
    items = []
    for action in _arguments(parser):
        if action.help:
            # argparse fills in a %(name)s likewise.
            text = action.help % {**vars(action), "prog": parser.prog}
            items.append(_item(_call(action, action.option_strings), _prose(_sentence(text))))
    return "\n".join(items)


def _sentence(text: str) -> str:
    return text if not text or text.endswith(".") else f"{text[0].upper()}{text[1:]}."


def _verb(verb: str, help_: str, parser: argparse.ArgumentParser) -> str:
    told = _prose(parser.description or _sentence(help_))
    tag = " ".join(filter(None, [_bold(f"backupready {verb}"), _usage(parser)]))
    listed = _listed(parser)
    return _item(tag, told) + (f"\n.RS\n{listed}\n.RE" if listed else "")


def _exit_status() -> str:
    codes: dict[int, list[str]] = {}
    for verdict in Verdict:
        codes.setdefault(verdict.exit_code, []).append(f"{verdict.value.replace('_', ' ')}: {SENTENCES[verdict]}")
    rows = [(str(code), "; ".join(words) + ".") for code, words in sorted(codes.items())]
    rows += [(str(cli.EXIT_USAGE), "Wrong usage."), (str(config.EXIT_CONFIG), "A mistake in the configuration.")]
    return _paragraphs(
        [
            (
                "`check` and `status` tell the verdict, in the codes of Nagios plugins. The other verbs end with 0,"
                " and with 1 when they cannot do what they are for."
            )
        ]
    ) + "\n".join(["", _items((code, text[0].upper() + text[1:]) for code, text in rows)])


def _default(name: str) -> str:
    return next(setting.default for setting in SETTINGS if setting.name == name)


def command() -> str:
    """backupready(8), in roff."""
    parser = cli.command_line()
    address = _default("web.listen_address")
    files = (
        (_CONF, "The configuration; see `backupready.conf(5)`."),
        (_DROP_INS, "Drop-ins to it."),
        (
            _default("state.directory"),
            "What outlives a restart of the daemon: since when there has been which problem.",
        ),
        (_default("look.socket"), "Where the daemon asks for a look as root."),
        (
            _default("web.status_socket"),
            "Where root asks the daemon, without a password, wherever else it listens; `web.status_socket`.",
        ),
        (fixes.SUMMARY, "What fixes were done, refused and are in force for a time only; for everybody to read."),
        (ledger.DIRECTORY, "What the fixes have noted for themselves, and their copies of what they edited; root's."),
        (
            f"{waagent.LIB_DIR}/.backupready",
            "What fixes have moved out of the agent's way. It stays there also when the package is purged.",
        ),
    )
    problems = sorted(probes.PROBLEMS, key=lambda problem: problem.code)
    return _page(
        "BACKUPREADY",
        8,
        [
            _section(
                "NAME", f"backupready \\- {escape('say whether the next Azure Backup of this machine will succeed')}"
            ),
            _section("SYNOPSIS", f".SY backupready\n{_usage(parser)}\n{_italic('VERB')}\n\\&.\\|.\\|.\n.YS"),
            _section("DESCRIPTION", _paragraphs(text.replace("ADDRESS", address) for text in DESCRIPTION)),
            _section("OPTIONS", _listed(parser)),
            _section("VERBS", *(_verb(*row) for row in _verbs(parser))),
            _section("EXIT STATUS", _exit_status()),
            _section("FILES", _items(files)),
            _section("UNITS", _items(UNITS)),
            _section("SIGNALS", _items(SIGNALS)),
            _section(
                "PROBLEMS",
                _paragraphs(
                    [
                        (
                            "What can be wrong, each with what it does to the next backup: blocks, it will fail;"
                            " degrades, it will be late or only crash-consistent; risks, it may fail; notice, nothing."
                            " `backupready explain CODE` tells the rest."
                        )
                    ]
                ),
                _items((problem.code, f"{problem.title} ({problem.effects}).") for problem in problems),
            ),
            _section(
                "SEE ALSO",
                ".BR backupready.conf (5),\n.BR systemctl (1),\n.BR journalctl (1),\n.BR systemd.service (5)",
            ),
        ],
    )


# ------------------------------------------------------------------------------------------------ configuration


def _setting(setting: Setting) -> str:
    default = f"The default is `{setting.default}`." if setting.default else "There is no default."
    return _item(_bold(f"{setting.key} ="), _prose(f"{setting.help} Takes {setting.form}. {default}"))


def configuration() -> str:
    """backupready.conf(5), in roff."""
    sections = list(dict.fromkeys(setting.section for setting in SETTINGS))
    settings = [
        part
        for section in sections
        for part in (f".SS {escape(f'[{section}]')}", *(_setting(s) for s in SETTINGS if s.section == section))
    ]
    example = f"# {config.DEFAULT_PATH.parent}/conf.d/10-scrape.conf\n[web]\nlisten_address = 10.0.0.4:10168\n"
    return _page(
        "BACKUPREADY.CONF",
        5,
        [
            _section("NAME", f"backupready.conf \\- {escape('configuration of backupready')}"),
            _section("SYNOPSIS", f"{_bold(_CONF)}\n.br\n{_bold(_DROP_INS)}"),
            _section("DESCRIPTION", _paragraphs(FORMAT)),
            _section("VALUES", _items(FORMS)),
            _section("SETTINGS", *settings),
            _section(
                "EXAMPLE",
                _prose("Serve the metrics on an address that Prometheus can reach:")
                + f"\n.PP\n.RS 4\n.EX\n{_code(example)}.EE\n.RE",
            ),
            _section("SEE ALSO", ".BR backupready (8)"),
        ],
    )


def _code(text: str) -> str:
    return re.sub(r"^(?=[.'])", r"\\&", escape(text), flags=re.MULTILINE)
