"""The configuration: forms of values, every mistake at once, drop-ins, and the sample file."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backupready import catalogue, config, remedies
from backupready.config import ConfigError, Mistake

TABLE = catalogue.SETTINGS


def mistakes(directory: Path, text: str | bytes, name: str = "backupready.conf") -> list[tuple[int, str, str]]:
    """Load a file of this text, and give line, what and hint of all that is wrong."""
    path = directory / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError) as caught:
        config.load(TABLE, path)
    assert {mistake.path for mistake in caught.value.mistakes} == {str(path)}
    return [(mistake.line, mistake.what, mistake.hint) for mistake in caught.value.mistakes]


# ------------------------------------------------------------------------------------------------- value forms


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90),
        ("90s", 90),
        ("90 sec", 90),
        ("5min", 300),
        ("5m", 300),
        ("1h 30min", 5400),
        ("1h30min", 5400),
        (" 2 H ", 7200),
        ("1d", 86400),
        ("500ms", 0.5),
        ("1.5s", 1.5),
        ("0", 0),
    ],
)
def test_a_time_span_is_written_as_systemd_does(text: str, seconds: float) -> None:
    """Numbers with units, several of them added; a bare number is seconds."""
    assert config.duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "  ", "soon", "5 parsecs", "-5s", "5s later", "1,5s", "s", "1e3", "9" * 30 + "d"])
def test_what_is_no_time_span_is_refused(text: str) -> None:
    """Anything else is a ValueError, also a number beyond what a time span can hold."""
    with pytest.raises(ValueError, match=r"time span|is empty"):
        config.duration(text)


@given(st.text(max_size=20) | st.from_regex(r"\d{1,400}(\.\d{1,3})?(ms|s|d)?", fullmatch=True))
def test_a_time_span_is_a_value_or_a_mistake(text: str) -> None:
    """Whatever is written, duration() gives a span that is not negative or raises ValueError."""
    try:
        assert config.duration(text) >= timedelta(0)
    except ValueError:
        return


def test_a_span_that_must_last_cannot_be_zero() -> None:
    """Where a zero would make a loop or a deadline of nothing, it is refused."""
    assert config.positive_duration("1ms") == timedelta(milliseconds=1)
    with pytest.raises(ValueError, match="longer than 0"):
        config.positive_duration("0s")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1048576", 1 << 20),
        ("20M", 20 << 20),
        (" 20 mb ", 20 << 20),
        ("1500KiB", 1500 << 10),
        ("2G", 2 << 30),
        ("1048576B", 1 << 20),
    ],
)
def test_a_size_is_in_bytes(text: str, expected: int) -> None:
    """To the base of 1024, as in systemd's files."""
    assert config.size(text) == expected
    assert config.history_limit(text) == expected


@pytest.mark.parametrize("text", ["", "M", "1.5M", "-1M", "20 megabytes", "20T", "1e6", "٢M", "9" * 13, "1M 1M"])
def test_what_is_no_size_is_refused(text: str) -> None:
    """Rather than read as another one."""
    with pytest.raises(ValueError, match="is not a size"):
        config.size(text)


def test_a_history_has_room_for_some_days() -> None:
    """A limit that the empty file would exceed is a mistake."""
    with pytest.raises(ValueError, match="1M at least"):
        config.history_limit("1023K")


def test_what_the_readme_shows_can_be_set(tmp_path: Path) -> None:
    """Whoever copies it gets what it says."""
    shown = re.findall(r"```ini\n(.*?)```", (Path(__file__).parents[1] / "README.md").read_text(), re.DOTALL)
    assert len(shown) == 2
    (tmp_path / "x.conf").write_text("".join(shown))
    loaded = config.load(TABLE, tmp_path / "x.conf")
    assert loaded["window.schedule"] == "daily at 22:00"
    assert loaded["window.time_zone"] == "Europe/Berlin"
    assert loaded["fix.mode"] == "on"
    assert set(loaded["fix.allow"]) < {remedy.name for remedy in remedies.REMEDIES}


def test_a_look_ends_before_its_unit_would_end_it() -> None:
    """A deadline beyond the unit's RuntimeMaxSec would never be kept."""
    unit = (Path(__file__).parents[1] / "systemd/backupready-look@.service").read_text()
    assert "\nRuntimeMaxSec=60\n" in unit
    assert config.look_deadline("50s") == timedelta(seconds=50)
    with pytest.raises(ValueError, match="50s at most"):
        config.look_deadline("51s")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("yes", True),
        ("TRUE", True),
        ("on", True),
        ("1", True),
        ("no", False),
        ("False", False),
        ("off", False),
        ("0", False),
    ],
)
def test_yes_and_no_in_every_word_of_systemd(text: str, value: bool) -> None:
    """yes, true, on, 1 and their opposites, in any case."""
    assert config.yes_or_no(text) is value


@pytest.mark.parametrize("text", ["", "y", "maybe", "2", "yes no"])
def test_a_word_that_is_neither_is_refused(text: str) -> None:
    """A switch is never guessed."""
    with pytest.raises(ValueError, match="neither yes nor no"):
        config.yes_or_no(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("127.0.0.1:10168", ("127.0.0.1", 10168)),
        ("[::1]:10168", ("::1", 10168)),
        (":10168", ("::", 10168)),
        ("0.0.0.0:65535", ("0.0.0.0", 65535)),
    ],
)
def test_an_address_has_an_ip_address_and_a_port(text: str, value: tuple[str, int]) -> None:
    """IPv4, IPv6 in brackets, and no host for every address."""
    assert config.address(text) == value


@pytest.mark.parametrize(
    "text",
    [
        "",
        "127.0.0.1",
        "localhost:80",
        "127.0.0.1:",
        "127.0.0.1:65536",
        "127.0.0.1:-1",
        "[::1]",
        "1.2.3:80",
        "::1",
        "[]:0",
    ]
    + ["127.0.0.1:²", "127.0.0.1:٣", "fe80::1:80", "[127.0.0.1]:80"],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    """A name is no address, a port must be there and be one, and brackets are for IPv6 alone."""
    with pytest.raises(ValueError, match=r"no port|not an IP address|in brackets"):
        config.address(text)


@given(st.text(alphabet="0123456789.:[]a٣²", max_size=12))
def test_an_address_is_a_value_or_a_mistake(text: str) -> None:
    """Whatever is written, address() gives a host and a port that can be bound, or raises ValueError."""
    try:
        _, port = config.address(text)
    except ValueError:
        return
    assert 0 <= port <= 65535


def test_several_addresses_are_separated_by_commas_or_blanks() -> None:
    """At least one must be there."""
    assert config.addresses("127.0.0.1:1, [::1]:2 :3") == (("127.0.0.1", 1), ("::1", 2), ("::", 3))
    with pytest.raises(ValueError, match="names no address"):
        config.addresses(" , ")


def test_an_endpoint_is_kept_as_text() -> None:
    """IPv6 keeps its brackets, since the text becomes part of a URL."""
    assert config.endpoint("168.63.129.16:80") == "168.63.129.16:80"
    assert config.endpoint("[::1]:80") == "[::1]:80"


def test_remedies_are_given_by_their_names() -> None:
    """In their order and each once; none is fine, and what is no name is told."""
    assert config.remedy_names("") == ()
    assert config.remedy_names("restart-agent, enable-agent restart-agent") == ("restart-agent", "enable-agent")
    for wrong in ("Restart-agent", "restart agent;", "all*", "-x", "../x"):
        with pytest.raises(ValueError, match="is no name of a remedy"):
            config.remedy_names(wrong)


def test_a_count_is_a_whole_number_that_is_not_zero() -> None:
    """Nothing else is read as one."""
    assert config.count("12") == 12
    for wrong in ("", "0", "-1", "1.5", "many", "٢", "9" * 8):
        with pytest.raises(ValueError, match="at least 1"):
            config.count(wrong)


def test_a_path_is_absolute_and_a_choice_is_one_of_its_words() -> None:
    """Both refuse anything else."""
    assert config.absolute_path("/run") == "/run"
    assert config.choice("a", "b")("b") == "b"
    with pytest.raises(ValueError, match="absolute"):
        config.absolute_path("run")
    with pytest.raises(ValueError, match="NUL"):
        config.absolute_path("/run\0")
    with pytest.raises(ValueError, match="none of a, b"):
        config.choice("a", "b")("c")


# ---------------------------------------------------------------------------------------------------- mistakes


def test_every_kind_of_mistake_is_told_with_line_and_hint(tmp_path: Path) -> None:
    """All that is wrong in a file is reported at once, each with its line and what to do."""
    text = """\
# nothing wrong with a comment
key = value
[lok]
deadline = 1s
[look]
; another comment
deadlin = 1s
deadline
deadline = soon
door = auto
door = child
[nothing like it]
[web
[web]
zzz = 1
"""
    assert mistakes(tmp_path, text) == [
        (2, "key stands in no section", "begin with [look]"),
        (3, "there is no section [lok]", "did you mean look?"),
        (7, "[look] has no setting 'deadlin'", "did you mean deadline?"),
        (8, "'deadline' is no setting", "write key = value"),
        (9, "look.deadline: 'soon' is not a time span", "give a time span of at most 50s"),
        (11, "look.door is set twice", "first in line 10"),
        (12, "there is no section [nothing like it]", f"there are {', '.join(sorted({row.section for row in TABLE}))}"),
        (13, "'[web' is no section", "the ] is missing"),
        (15, "[web] has no setting 'zzz'", "there are config_file, listen_address, status_socket, systemd_socket"),
    ]


def test_what_stands_in_an_unknown_section_is_not_reported_again(tmp_path: Path) -> None:
    """One mistake, one message: the lines below a wrong section header are not counted as wrong as well."""
    assert [line for line, _, _ in mistakes(tmp_path, "[lock]\na = 1\nb = 2\n[loook]\nc\n")] == [1, 4, 5]


def test_the_mistakes_of_all_files_are_reported_together(tmp_path: Path) -> None:
    """Main file and drop-ins, in the order in which they are read."""
    main, drop_ins = tmp_path / "backupready.conf", tmp_path / "conf.d"
    drop_ins.mkdir()
    main.write_text("[look]\ndoor = window\n")
    (drop_ins / "20.conf").write_text("[web]\nlisten_address = nowhere\n")
    (drop_ins / "10.conf").write_text("\n\nlonely = 1\n")
    with pytest.raises(ConfigError) as caught:
        config.load(TABLE, main)
    assert [(Path(m.path).name, m.line) for m in caught.value.mistakes] == [
        ("backupready.conf", 2),
        ("10.conf", 3),
        ("20.conf", 2),
    ]
    assert str(caught.value).splitlines() == [str(mistake) for mistake in caught.value.mistakes]
    assert str(caught.value).startswith(f"{main}:2: look.door: 'window' is none of auto, socket, child (give auto, ")


def test_a_line_that_is_not_utf_8_is_named(tmp_path: Path) -> None:
    """The file is not used, and the line is told."""
    assert mistakes(tmp_path, b"[look]\n# fine\ndoor = \xff\n") == [
        (3, "cannot read this line: it is not UTF-8", ""),
    ]


def test_a_file_that_was_asked_for_must_be_there(tmp_path: Path) -> None:
    """A missing file that was named is a mistake of its own, without a line."""
    path = tmp_path / "nowhere.conf"
    with pytest.raises(ConfigError) as caught:
        config.load(TABLE, path)
    assert caught.value.mistakes == (Mistake(str(path), 0, "cannot read this file: there is no such file"),)
    assert str(caught.value) == f"{path}: cannot read this file: there is no such file"


def test_the_default_file_may_be_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything has a default, so that no file is needed; drop-ins beside it count all the same."""
    monkeypatch.setattr(config, "DEFAULT_PATH", tmp_path / "backupready.conf")
    assert config.load(TABLE)["look.door"] == "auto"
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d" / "a.conf").write_text("[look]\ndoor = child\n")
    assert config.load(TABLE)["look.door"] == "child"


def test_a_drop_in_that_is_a_directory_is_a_mistake(tmp_path: Path) -> None:
    """What cannot be read is told and not passed over."""
    main = tmp_path / "backupready.conf"
    main.touch()
    (tmp_path / "conf.d" / "x.conf").mkdir(parents=True)
    with pytest.raises(ConfigError, match=r"x\.conf: cannot read this file: Is a directory"):
        config.load(TABLE, main)


@given(
    st.text(max_size=80)
    | st.lists(
        st.sampled_from(["[look]", "[", "]", "=", "door", "deadline", "1s", "#", "\n", " ", "\x1c"]), max_size=20
    ).map("".join)
)
def test_any_file_is_a_configuration_or_mistakes(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    """Whatever a file holds, load() gives a configuration or a ConfigError whose lines are lines of the file."""
    path = tmp_path_factory.getbasetemp() / "any.conf"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        config.load(TABLE, path)
    except ConfigError as error:
        assert error.mistakes
        assert all(1 <= mistake.line <= len(text) + 1 for mistake in error.mistakes)


# -------------------------------------------------------------------------------------------- what is in force


def test_drop_ins_count_in_the_order_of_their_names_and_the_last_wins(tmp_path: Path) -> None:
    """Every value knows the file and line that it comes from; what is set nowhere comes from `default`."""
    main, drop_ins = tmp_path / "backupready.conf", tmp_path / "conf.d"
    drop_ins.mkdir()
    main.write_text("[look]\ndeadline = 10s\ndoor = child\n")
    (drop_ins / "90-last.conf").write_text("# why\n[look]\ndeadline = 0.5min\n")
    (drop_ins / "10-first.conf").write_text("[look]\ndeadline = 20s\n")
    (drop_ins / "ignored.txt").write_text("[no such]\n")
    loaded = config.load(TABLE, main)
    assert loaded["look.deadline"] == timedelta(seconds=30)
    assert loaded.values["look.deadline"].origin == f"{drop_ins}/90-last.conf:3"
    assert loaded.values["look.deadline"].text == "0.5min"
    assert loaded.values["look.door"].origin == f"{main}:3"
    assert loaded.values["look.socket"].origin == "default"


def test_the_order_of_the_directory_does_not_matter(tmp_path: Path) -> None:
    """Whichever drop-in was written first: the name that sorts last wins."""
    (tmp_path / "conf.d").mkdir()
    for number in (7, 3, 19, 0, 11, 5, 2, 16, 13, 1, 18, 4, 9, 15, 6, 12, 8, 17, 10, 14):
        (tmp_path / "conf.d" / f"{number:02}.conf").write_text(f"[look]\ndeadline = {number + 1}s\n")
    assert config.load(TABLE, _empty(tmp_path))["look.deadline"] == timedelta(seconds=20)


def test_a_value_may_hold_an_equals_sign_and_blanks_around_it_do_not_count(tmp_path: Path) -> None:
    """Only the first `=` separates."""
    path = tmp_path / "x.conf"
    path.write_text("[look]\n  socket=/run/a=b \n")
    assert config.load(TABLE, path)["look.socket"] == "/run/a=b"


def test_a_section_is_given_by_its_keys(tmp_path: Path) -> None:
    """A probe is handed its own section only, parsed."""
    section = config.load(TABLE, _empty(tmp_path)).section("agent")
    assert section == {
        "enabled": True,
        "interval": timedelta(minutes=5),
        "report_limit_minutes": timedelta(minutes=15),
    }


def test_the_sample_says_the_defaults(tmp_path: Path) -> None:
    """With every `#key = value` uncommented, the sample sets each setting once, to its default."""
    sample = config.sample(TABLE)
    uncommented = re.sub(r"(?m)^#(\w+ = )", r"\1", sample)
    path = tmp_path / "sample.conf"
    path.write_text(uncommented)
    loaded, defaults = config.load(TABLE, path), config.load(TABLE, _empty(tmp_path))
    assert {name: value.text for name, value in loaded.values.items()} == {row.name: row.default for row in TABLE}
    assert {n: v.value for n, v in loaded.values.items()} == {n: v.value for n, v in defaults.values.items()}
    assert all(value.origin.startswith(f"{path}:") for value in loaded.values.values())


def test_the_sample_as_it_is_changes_nothing(tmp_path: Path) -> None:
    """It can be installed without a consequence, and no line of it is over-long."""
    path = tmp_path / "sample.conf"
    path.write_text(config.sample(TABLE))
    assert {value.origin for value in config.load(TABLE, path).values.values()} == {"default"}
    assert max(map(len, config.sample(TABLE).splitlines())) <= 120


def test_every_setting_is_named_once() -> None:
    """No probe declares a key that the daemon or another probe has."""
    names = [row.name for row in TABLE]
    assert len(names) == len(set(names))
    assert all(row.help and row.form for row in TABLE)


def _empty(directory: Path) -> Path:
    path = directory / "empty.conf"
    path.touch()
    return path
