"""The declarations: codes and names, precedence without a circle, declared is emitted, rendered is what is shipped."""

from __future__ import annotations

import argparse
import ast
import importlib
import importlib.metadata
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Callable

import pytest

from backupready import catalogue, cli, journal, probes, remedies
from backupready.catalogue import __main__ as catalogue_main
from backupready.catalogue import completions, manual, rendered, runbook
from backupready.catalogue.journal import catalog
from backupready.mind import metrics
from backupready.model import TIME_UNITS, Problem, Remedy, Verdict
from requirement import unavailable

SOURCE = Path(__file__).parents[1]
MODULES = {
    file.stem: file for file in sorted((SOURCE / "daemon/backupready/probes").glob("*.py")) if file.stem != "__init__"
}
CODES = {problem.code: problem for problem in probes.PROBLEMS}


# ------------------------------------------------------------------------------------------------ declarations


def test_every_code_is_declared_once_in_capitals() -> None:
    """UPPER_SNAKE, and no two problems share one."""
    codes = [problem.code for problem in probes.PROBLEMS]
    assert sorted(codes) == sorted(set(codes))
    assert [code for code in codes if not re.fullmatch(r"[A-Z]+(_[A-Z]+)+", code)] == []


def test_precedence_names_declared_problems_only() -> None:
    """Nothing explains itself, nothing is named twice, and no code is misspelt."""
    for problem in probes.PROBLEMS:
        assert set(problem.explains) <= set(CODES) - {problem.code}, problem.code
        assert len(problem.explains) == len(set(problem.explains)), problem.code


def test_precedence_has_no_circle() -> None:
    """Else two active problems would explain each other away, and the verdict would be ready."""

    def walk(code: str, path: tuple[str, ...]) -> None:
        assert code not in path, " explains ".join((*path, code))
        for consequence in CODES[code].explains:
            walk(consequence, (*path, code))

    for code in CODES:
        walk(code, ())


def test_a_cause_is_as_grave_as_what_it_explains() -> None:
    """A mere risk must not explain away what blocks."""
    for problem in probes.PROBLEMS:
        for consequence in problem.explains:
            assert problem.effect.rank <= CODES[consequence].effect.rank, (problem.code, consequence)


@pytest.mark.parametrize("problem", probes.PROBLEMS, ids=lambda problem: problem.code)
def test_a_problem_is_told_in_full(problem: Problem) -> None:
    """Every text is there, the source is an address, and who waits for more than one sighting says why."""
    for words in (problem.title, problem.meaning, problem.diagnosis, problem.fix):
        assert words.strip() == words != ""
    assert not problem.title.endswith(".")
    assert problem.source.startswith("https://")
    assert problem.sightings >= 1
    assert (problem.sightings > 1) == bool(problem.patience)
    if problem.apart:
        assert problem.sightings > 1
    gentlest = next(iter(remedies.remedies_for(problem.code)), None)
    assert problem.remedy == (gentlest and gentlest.name)


FIXES = {
    file.stem: file for file in sorted((SOURCE / "daemon/backupready/remedies").glob("*.py")) if file.stem != "__init__"
}


def test_a_remedy_is_named_as_its_module() -> None:
    """And it finds its way into the list by being there."""
    assert [remedy.name.replace("-", "_") for remedy in remedies.REMEDIES] == list(FIXES)
    assert remedies.remedy("restart-agent").title == "Restart the VM agent"
    with pytest.raises(KeyError):
        remedies.remedy("sing-agent")


@pytest.mark.parametrize("remedy", remedies.REMEDIES, ids=lambda remedy: remedy.name)
def test_a_remedy_is_told_in_full(remedy: Remedy) -> None:
    """A name of verb and object, a title, where it is documented, what its module has from there, and finite limits."""
    assert re.fullmatch(r"[a-z]+(-[a-z]+)+", remedy.name)
    assert remedy.title.strip() == remedy.title != ""
    assert not remedy.title.endswith(".")
    assert remedy.source.startswith("https://")
    module = ast.parse(FIXES[remedy.name.replace("-", "_")].read_text())
    question, _, document = (ast.get_docstring(module) or "").partition("\n")
    assert question.endswith("?")
    assert document.strip()
    assert remedy.worst_case.total_seconds() > 0
    assert remedy.settle.total_seconds() >= 0
    assert 1 <= remedy.attempts <= 3
    assert remedy.cooldown.total_seconds() >= 15 * 60


def test_a_remedy_is_for_declared_problems_or_for_a_person() -> None:
    """No code is misspelt or named twice, and the rungs for a problem are 0, 1 … without a gap or a tie."""
    for remedy in remedies.REMEDIES:
        assert set(remedy.problems) <= set(CODES), remedy.name
        assert len(remedy.problems) == len(set(remedy.problems)), remedy.name
    for code in CODES:
        assert [remedy.rung for remedy in remedies.remedies_for(code)] == list(range(len(remedies.remedies_for(code))))
    assert remedies.ON_DEMAND == ("enable-verbose-logging",)


def test_metric_names_are_plain_and_unique() -> None:
    """Ours and the probes' together: the prefix, small letters, help that ends a sentence, plain labels."""
    rows = [(name, help_, labels) for name, _, help_, labels in metrics.OWN]
    rows += [(metric.name, metric.help, metric.labels) for metric in probes.METRICS]
    names = [name for name, _, _ in rows]
    assert sorted(names) == sorted(set(names))
    for name, help_, labels in rows:
        assert re.fullmatch(r"backupready_[a-z_]+", name)
        assert help_.endswith("."), name
        assert all(re.fullmatch(r"[a-z_]+", label) for label in labels), name
    assert all(not metric.name.endswith("_total") for metric in probes.METRICS), "a probe's metrics are gauges"


def test_a_probe_is_named_as_its_module() -> None:
    """And it finds its way into the list by being there."""
    assert [probe.name for probe in probes.PROBES] == list(MODULES)
    for probe in probes.PROBES:
        assert all(setting.section == probe.name for setting in probe.settings)
        assert probes.probe(probe.name) is probe
        assert probe.question.endswith("?")
        assert probe.budget.total_seconds() > 0
    assert probes.problem("AGENT_STOPPED").code == "AGENT_STOPPED"
    with pytest.raises(KeyError):
        probes.problem("AGENT_SINGS")


# -------------------------------------------------------------------------------------------- declared == emitted


class Emitted(ast.NodeVisitor):
    """The codes and metric names that a probe's module can emit.

    A first argument is a literal, a choice between literals, a local name bound to a tuple of literals, or a parameter
    of a function of the module; then the literals at that place of its calls count.
    """

    def __init__(self, source: str) -> None:
        self.findings: set[str] = set()
        self.unknown: set[str] = set()
        self.readings: set[str] = set()
        self._tree = ast.parse(source)
        self._functions = [n for n in ast.walk(self._tree) if isinstance(n, ast.FunctionDef)]
        for function in self._functions:
            self._function = function
            self.visit(function)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:  # noqa: N802 - the name is the library's
        if node is self._function:
            self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:  # noqa: N802
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        if name == "Finding":
            self.findings |= set(self._texts(node.args[0]))
        elif name == "Reading":
            self.readings |= set(self._texts(node.args[0]))
        elif name == "CannotTell" and len(node.args) > 1:
            self.unknown |= set(self._texts(node.args[1]))
        self.generic_visit(node)

    def _texts(self, node: ast.expr) -> Iterator[str]:
        if isinstance(node, ast.Constant):
            assert isinstance(node.value, str)
            yield node.value
        elif isinstance(node, ast.IfExp):
            yield from (*self._texts(node.body), *self._texts(node.orelse))
        elif isinstance(node, (ast.Tuple, ast.List)):
            for element in node.elts:
                yield from self._texts(element)
        elif isinstance(node, ast.Starred):
            yield from self._texts(node.value)
        elif isinstance(node, ast.Name):
            yield from self._bound(node.id)
        else:
            raise AssertionError(f"line {node.lineno}: this test cannot tell what {ast.unparse(node)} is")

    def _bound(self, name: str) -> Iterator[str]:
        parameters = [argument.arg for argument in self._function.args.args]
        if name in parameters:
            place, outer = parameters.index(name), self._function
            calls = [
                (function, node)
                for function in self._functions
                for node in ast.walk(function)
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == outer.name
            ]
            assert calls, f"{outer.name} is never called"
            for function, call in calls:
                self._function = function
                yield from self._texts(call.args[place])
            self._function = outer
            return
        values = [
            node.value
            for where in (self._function, self._tree)
            for node in ast.walk(where)
            if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == name for t in node.targets)
        ]
        assert values, f"this test cannot tell what {name} in {self._function.name} is"
        yield from self._texts(values[0])


@pytest.mark.parametrize("module", MODULES)
def test_what_a_probe_emits_is_what_it_declares(module: str) -> None:
    """Every problem and metric that its code names is declared by it, and every declared one is emitted by it."""
    emitted = Emitted(MODULES[module].read_text())
    probe = importlib.import_module(f"backupready.probes.{module}").PROBE
    declared = {problem.code for problem in probe.problems}
    assert emitted.findings == declared
    assert emitted.unknown <= declared
    assert emitted.readings == {metric.name for metric in probe.metrics}


def test_the_reading_of_emissions_sees_all_their_forms() -> None:
    """A literal, a choice, a local tuple, and a parameter that comes from a call: an undeclared code would be found."""
    emitted = Emitted("""\
ALL = ("E", "F")
def look(machine):
    some = ("C", "D")
    yield Finding("A" if machine else "B", "key")
    yield CannotTell("why", some)
    yield CannotTell("why", [*ALL, "G"])
    yield CannotTell("why")
    yield _one(machine, "H")
    yield Reading("m", 1)
def _one(machine, code):
    return Finding(code)
""")
    assert emitted.findings == {"A", "B", "H"}
    assert emitted.unknown == {"C", "D", "E", "F", "G"}
    assert emitted.readings == {"m"}


# ------------------------------------------------------------------------------------------------------- rendered


@pytest.mark.parametrize("path", rendered.FILES)
def test_what_is_rendered_is_what_is_shipped(path: str, golden: Callable[[Path, str], None]) -> None:
    """The file in the tree is the one that the declarations give."""
    if path.startswith("packaging/completions/"):
        need_shtab()
    if path.startswith("config/dashboards/"):
        need_the_generator_of_dashboards()
    golden(SOURCE / path, rendered.FILES[path]())


def need_shtab() -> None:
    """Only the pinned release of the generator gives the scripts that are shipped."""
    try:
        version = importlib.metadata.version("shtab")
    except importlib.metadata.PackageNotFoundError:
        version = "missing"
    if version != completions.SHTAB:
        unavailable(f"shtab {completions.SHTAB} is needed, it is {version}")


def need_the_generator_of_dashboards() -> None:
    """As with shtab; and it needs a later Python than we do."""
    pinned = re.findall(r'"grafana-foundation-sdk==([^;]+);', (SOURCE / "pyproject.toml").read_text())
    if sys.version_info < (3, 11):
        pytest.skip("the generator of the dashboards needs Python 3.11")
    try:
        version = importlib.metadata.version("grafana-foundation-sdk")
    except importlib.metadata.PackageNotFoundError:
        version = "missing"
    if [version] != pinned:
        unavailable(f"grafana-foundation-sdk {pinned} is needed, it is {version}")


def test_the_generator_of_completions_is_pinned_once() -> None:
    """The test extra installs the release that the scripts are made with."""
    extra = re.findall(r'"shtab==([^"]+)"', (SOURCE / "pyproject.toml").read_text())
    assert extra == [completions.SHTAB]


@pytest.mark.parametrize(
    ("missing", "left"), [("shtab", "packaging/completions/"), ("grafana_foundation_sdk", "config/dashboards/")]
)
def test_without_a_generator_the_rest_is_rendered(
    missing: str, left: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What needs it is named, and not written."""

    def plain() -> str:
        return "text"

    def lacks() -> str:
        raise ModuleNotFoundError(f"No module named '{missing}.builders'", name=f"{missing}.builders")

    files = {path: lacks if path.startswith(left) else plain for path in rendered.FILES}
    monkeypatch.setattr(rendered, "FILES", files)
    monkeypatch.setattr("sys.argv", ["catalogue", str(tmp_path)])
    assert catalogue_main.main() == 1
    written = {str(file.relative_to(tmp_path)) for file in tmp_path.rglob("*") if file.is_file()}
    assert written == {path for path in files if not path.startswith(left)}
    said = capsys.readouterr().err.splitlines()
    assert len(said) == len(files) - len(written) > 1
    assert all(line.startswith(f"cannot render {left}") and missing in line for line in said)


def test_a_defect_keeps_everything_from_being_rendered(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A module of ours that is not there is one."""

    def broken() -> str:
        raise ModuleNotFoundError("No module named 'backupready.nothing'", name="backupready.nothing")

    monkeypatch.setattr(rendered, "FILES", {**rendered.FILES, "config/alerts.yml": broken})
    monkeypatch.setattr("sys.argv", ["catalogue", str(tmp_path)])
    with pytest.raises(ModuleNotFoundError):
        catalogue_main.main()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("folder", ["packaging/runbook", "packaging/man", "packaging/completions", "config/dashboards"])
def test_nothing_rendered_is_left_over(folder: str) -> None:
    """In the folders that are rendered nothing lies that the declarations do not give any more."""
    shipped = {str(file.relative_to(SOURCE)) for file in (SOURCE / folder).iterdir()}
    assert shipped == {path for path in rendered.FILES if path.startswith(f"{folder}/")}


def test_the_runbook_and_the_metric_list_name_everything() -> None:
    """Every problem has its page and its line in the index, every metric its row."""
    for problem in probes.PROBLEMS:
        page = runbook.page(problem)
        for words in (problem.code, problem.title, problem.meaning, problem.diagnosis, problem.fix, problem.source):
            assert words in page
        assert f"]({problem.code.lower()}.md)" in runbook.index()
    listed = runbook.metric_list()
    for name in [row[0] for row in metrics.OWN] + [metric.name for metric in probes.METRICS]:
        assert f"| `{name}` |" in listed


@pytest.mark.parametrize("problem", probes.PROBLEMS, ids=lambda problem: problem.code)
def test_a_page_is_right_markdown(problem: Problem) -> None:
    """Code spans are closed, so that nothing after them is swallowed."""
    assert all(paragraph.count("`") % 2 == 0 for paragraph in runbook.page(problem).split("\n\n"))


# --------------------------------------------------------------------------------------------------------- manual


def test_the_runbook_tells_every_remedy() -> None:
    """In the index, and on the page of each problem that it is for: title, worst case and source."""
    for remedy in remedies.REMEDIES:
        assert f"| `{remedy.name}` | {remedy.title}; " in runbook.index()
        for code in remedy.problems:
            page = runbook.page(CODES[code])
            assert f"- `{remedy.name}`: {remedy.title}; " in page
            assert f"(<{remedy.source}>)" in page
    assert "backupready may do it" not in runbook.page(CODES["AGENT_MASKED"])
    assert " 21 min at most, with a restart of the agent (" in runbook.page(CODES["AGENT_OUTDATED"])
    assert " 5 s at most (" in runbook.page(CODES["CONFIG_BREAKS_EXTENSION"])


def test_the_manual_of_the_command_tells_every_verb_and_option() -> None:
    """What the parser takes is in the page, with its help, and so are the problems, the files and the exit codes."""
    page = manual.command()
    parser = cli.command_line()
    verbs = next(a for a in parser._actions if isinstance(a, argparse._SubParsersAction)).choices
    assert {"run", "check", "explain"} <= set(verbs)
    for verb, inner in verbs.items():
        assert f"\\fBbackupready {verb}\\fR" in page
        for option in (name for action in inner._actions[1:] for name in action.option_strings):
            assert f"\\fB{manual.escape(option)}\\fR" in page
    assert "[\\fB\\-\\-json\\fR|\\fB\\-\\-nagios\\fR]" in page
    for problem in probes.PROBLEMS:
        assert f".TP\n\\fB{problem.code}\\fR\n{manual.escape(problem.title)}" in page
    for verdict in Verdict:
        assert f".TP\n\\fB{verdict.exit_code}\\fR" in page
    for name in ("web.listen_address", "state.directory", "look.socket", "web.status_socket"):
        assert manual.escape(next(s.default for s in catalogue.SETTINGS if s.name == name)) in page


def test_the_manual_of_the_configuration_tells_every_setting() -> None:
    """Each stands in its section with its default, and every unit of a time span is named."""
    page = manual.configuration()
    for section in {setting.section for setting in catalogue.SETTINGS}:
        told = page.partition(f".SS [{section}]\n")[2].partition("\n.SS ")[0]
        for setting in (s for s in catalogue.SETTINGS if s.section == section):
            item = told.partition(f".TP\n\\fB{setting.key} =\\fR\n")[2].partition("\n.TP")[0].replace("\n", " ")
            default = f"The default is \\fB{manual.escape(setting.default)}\\fR."
            assert (default if setting.default else "There is no default.") in item, setting.name
            assert manual.escape(setting.form) in item, setting.name
    units = next(text for form, text in manual.FORMS if form == "a time span")
    assert all(re.search(rf"\b{unit}\b", units) for unit in TIME_UNITS)


def test_text_cannot_become_a_request_of_roff() -> None:
    """Backslashes, dots and quotes at the beginning of a line and hyphens are shown as they are."""
    assert manual.escape("\\fB a-b 'c' ·") == "\\efB a\\-b \\(aqc\\(aq \\[u00B7]"
    assert manual._prose(".conf `.d` x") == "\\&.conf \\fB.d\\fR x"
    long = manual._prose("`" + "word " * 40 + "` .end")
    assert all(line.count("\\fB") == line.count("\\fR") == 1 for line in long.splitlines())


# -------------------------------------------------------------------------------------------- journal's catalogue

IDS = {name: value for name, value in vars(journal).items() if name.startswith("MESSAGE_")}


def test_the_table_of_messages_has_every_id_once() -> None:
    """128 bits in hexadecimal, all different, each with a row, and no row without one."""
    ids = [message.id for message in journal.MESSAGES]
    assert sorted(ids) == sorted(set(ids)) == sorted(IDS.values())
    assert [id_ for id_ in ids if not re.fullmatch(r"[0-9a-f]{32}", id_)] == []


def test_every_message_is_logged_with_its_fields() -> None:
    """What the code logs is in the table and the reverse, and the texts use only fields that are set."""
    rows = {message.id: message for message in journal.MESSAGES}
    logged = set()
    for file in (SOURCE / "daemon/backupready").rglob("*.py"):
        for function in ast.walk(ast.parse(file.read_text())):
            if isinstance(function, ast.FunctionDef):
                inside = list(ast.walk(function))
                constants = {node.value for node in inside if isinstance(node, ast.Constant)}
                for node in inside:
                    if isinstance(node, ast.Attribute) and node.attr in IDS:
                        logged.add(node.attr)
                        assert set(rows[IDS[node.attr]].fields) <= constants, f"{file.name}: {function.name}"
    assert logged == set(IDS)
    for message in journal.MESSAGES:
        assert set(re.findall(r"@(\w+)@", message.subject + message.explanation)) == set(message.fields)
    verdict = rows[journal.MESSAGE_VERDICT].explanation
    assert all(f" {word.value}, " in verdict for word in Verdict)


def test_the_catalogue_has_an_entry_for_each_message() -> None:
    """The id after two hyphens, the headers, a blank line, and the explanation in short lines."""
    entries = re.split(r"^-- ", catalog(), flags=re.MULTILINE)[1:]
    for message, entry in zip(journal.MESSAGES, entries):
        head, _, text = entry.partition("\n\n")
        assert head.splitlines()[:3] == [message.id, f"Subject: {message.subject}", "Defined-By: backupready"]
        assert " ".join(text.split()) == " ".join(message.explanation.split())
        assert max(map(len, text.splitlines())) < 80
    assert len(entries) == len(journal.MESSAGES)
