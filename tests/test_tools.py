"""The tools agree with the tree: linter, formatter, type checker, shells, roff, the journal, sos."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from backupready import journal
from requirement import need, unavailable

SOURCE = Path(__file__).parents[1]
SCRIPTS = (
    "packaging/dev/setup.sh",
    "packaging/rpm/backupready.sh",
    "packaging/rpm/interpreter.sh",
    "tests/lab/handler/main/handle.sh",
)

pytestmark = pytest.mark.integration


@pytest.mark.parametrize(
    "command",
    [("ruff", "check", "--quiet"), ("ruff", "format", "--check", "--quiet"), ("mypy", "--no-error-summary")],
    ids=["ruff check", "ruff format", "mypy"],
)
def test_tool(command: tuple[str, ...]) -> None:
    """The tool finds nothing."""
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=SOURCE, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("script", SCRIPTS)
def test_shell(script: str) -> None:
    """The shell can parse it."""
    done = subprocess.run(["sh", "-n", str(SOURCE / script)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def output(*command: str | Path, folder: Path = SOURCE) -> str:
    """All that a command that must succeed says, on both channels."""
    done = subprocess.run(
        [str(word) for word in command],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "LC_ALL": "C.UTF-8", "MANWIDTH": "80"},
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


# -------------------------------------------------------------------------------------------------------- manual


@pytest.mark.parametrize("page", sorted((SOURCE / "packaging/man").iterdir()), ids=lambda page: page.name)
def test_a_manual_page_is_right_roff(page: Path) -> None:
    """groff with all its warnings, and man as lintian calls it, have nothing to say to it."""
    need("groff")
    need("man")
    assert output("groff", "-man", "-ww", "-z", page) == ""
    command = 'man --warnings -E UTF-8 -l -Tutf8 -Z "$0" >/dev/null'
    assert output("sh", "-c", command, page) == ""


def test_what_the_manual_shows_can_be_copied(tmp_path: Path) -> None:
    """Options and paths have plain hyphens, are not broken at the end of a line, and man's index finds the page."""
    need("man")
    shown = output("man", "-l", SOURCE / "packaging/man/backupready.8")
    assert "backupready check [--json|--nagios] [--root DIR]" in shown
    assert "backupready-look@.service" in shown
    assert "\u2010" not in shown
    assert "backupready - say whether" in output("lexgrog", SOURCE / "packaging/man/backupready.8")


# --------------------------------------------------------------------------------------------------- completions

COMPLETIONS = SOURCE / "packaging/completions"


@pytest.mark.parametrize(
    "command",
    [
        ("bash", "-n", COMPLETIONS / "backupready.bash"),
        ("zsh", "-n", COMPLETIONS / "_backupready"),
        ("fish", "--no-execute", COMPLETIONS / "backupready.fish"),
    ],
    ids=lambda command: command[0],
)
def test_a_shell_can_parse_its_completions(command: tuple[str, ...]) -> None:
    """Without a word."""
    need(command[0])
    assert output(*command) == ""


COMPLETED = {
    "backupready che": ["check"],
    "backupready check --": ["--help", "--json", "--nagios", "--root", "--at", "--demo"],
    "backupready explain AGENT_START": ["AGENT_START_LIMIT", "AGENT_START_SKIPPED"],
    "backupready config ": ["check", "show"],
    "backupready --config FOLDER/ba": ["FOLDER/backupready.conf"],
    "backupready check --root FOLDER/co": ["FOLDER/conf.d"],
}


@pytest.mark.parametrize("line", COMPLETED)
@pytest.mark.parametrize("shell", ["bash", "fish"])
def test_a_shell_completes(shell: str, line: str, tmp_path: Path) -> None:
    """Verbs, options, problems, choices, files and directories."""
    need(shell)
    (tmp_path / "backupready.conf").touch()
    (tmp_path / "conf.d").mkdir()
    expected = sorted(word.replace("FOLDER", str(tmp_path)) for word in COMPLETED[line])
    line = line.replace("FOLDER", str(tmp_path))
    if shell == "bash":
        script = """
source "$0"; read -ra COMP_WORDS <<<"$1"; [[ $1 == *' ' ]] && COMP_WORDS+=("")
COMP_CWORD=$((${#COMP_WORDS[@]} - 1)) COMP_LINE=$1 COMP_POINT=${#1}
function=$(complete -p backupready); function=${function##*-F }; ${function%% *} backupready
printf '%s\\n' "${COMPREPLY[@]}"
"""
        shown = output("bash", "--norc", "-c", script, COMPLETIONS / "backupready.bash", line)
    else:
        script = "source $argv[1]; complete -C $argv[2]"
        shown = output("fish", "--no-config", "-c", script, COMPLETIONS / "backupready.fish", line)
    found = [word.partition("\t")[0].rstrip("/") for word in shown.splitlines()]
    assert sorted(word for word in found if word != "-h") == expected


# ------------------------------------------------------------------------------------------- journal's catalogue


def test_the_journal_takes_the_catalogue(tmp_path: Path) -> None:
    """It is compiled without a complaint, and lists every message with its subject."""
    need("journalctl")
    place = tmp_path / "usr/lib/systemd/catalog"
    place.mkdir(parents=True)
    (tmp_path / "var/lib/systemd/catalog").mkdir(parents=True)
    shutil.copy(SOURCE / "systemd/backupready.catalog", place)
    assert output("journalctl", "--update-catalog", f"--root={tmp_path}") == ""
    database = tmp_path / "var/lib/systemd/catalog/database"
    compiled = database.read_bytes()
    for message in journal.MESSAGES:
        assert bytes.fromhex(message.id) in compiled
        assert f"Subject: {message.subject}\n".encode() in compiled


# ----------------------------------------------------------------------------------------------------------- sos

SOS = """
import importlib.util, pathlib, sys
spec = importlib.util.spec_from_file_location("backupready_sos", sys.argv[1])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
asked = []
class Recording(module.Backupready):
    def __init__(self): pass
    def add_forbidden_path(self, what): asked.append(("forbidden", what))
    def add_copy_spec(self, what): asked.append(("copy", what))
    def add_journal(self, units): asked.append(("journal", units))
    def add_service_status(self, units): asked.append(("status", units))
    def add_cmd_output(self, commands): asked.append(("run", commands))
Recording().setup()
print(Recording.plugin_name, Recording.packages, *asked, sep="\\n")
"""


def has_sos() -> bool:
    done = subprocess.run(["/usr/bin/python3", "-c", "import sos.report.plugins"], capture_output=True, check=False)
    return done.returncode == 0


@pytest.mark.parametrize("kind", ["a stub of sos", "the real sos"])
def test_sos_collects_the_configuration_but_no_key(kind: str, tmp_path: Path) -> None:
    """The plugin loads, forbids keys before it copies, and asks the program only for what it knows."""
    if kind == "a stub of sos":
        (tmp_path / "sos/report").mkdir(parents=True)
        names = ("DebianPlugin", "IndependentPlugin", "RedHatPlugin", "UbuntuPlugin")
        stub = "".join(f"class {name}: pass\n" for name in ("Plugin", *names))
        (tmp_path / "sos/report/plugins.py").write_text(stub)
    elif not has_sos():
        unavailable("sos is not installed; apt-get install sosreport")
    script = tmp_path / "load.py"
    script.write_text(SOS)
    told = output("/usr/bin/python3", "-B", script, SOURCE / "packaging/sos/backupready.py").splitlines()
    assert told[:2] == ["backupready", "('backupready',)"]
    places = [f"/etc/backupready/{place}{name}" for place in ("", "*/") for name in ("*.key", "*.pem", "web.yml")]
    assert told[2] == f"('forbidden', {places})"
    assert told[3] == "('copy', ['/etc/backupready', '/var/lib/backupready-fixes'])"
    assert "'backupready status --json'" in told[-1]


# ---------------------------------------------------------------------------------------------------- Prometheus


def test_prometheus_takes_its_example(tmp_path: Path) -> None:
    """promtool reads it, and every series then says its VM, resource group and policy. Two VMs of one name in two
    groups are two machines; one with Windows is none."""
    need("promtool", "prometheus")
    example = SOURCE / "config/prometheus.yml"
    assert "SUCCESS" in output("promtool", "check", "config", example)
    # The same with what a discovery would have found.
    found = [("web", "shop", "Linux", "v/daily"), ("web", "blog", "Linux", ""), ("office", "blog", "Windows", "")]
    meta = "__meta_azure_machine_"
    machines = [
        {
            "targets": ["10.0.0.4:80"],
            "labels": {
                f"{meta}name": name,
                f"{meta}resource_group": group,
                f"{meta}os_type": system,
                **({f"{meta}tag_backup_policy": policy} if policy else {}),
            },
        }
        for name, group, system, policy in found
    ]
    config = yaml.safe_load(example.read_text(encoding="utf-8"))
    (job,) = config["scrape_configs"]
    del job["azure_sd_configs"], job["tls_config"], job["basic_auth"]
    job["static_configs"] = machines
    (tmp_path / "prometheus.yml").write_text(json.dumps(config), encoding="utf-8")
    told = output(
        "promtool", "check", "service-discovery", "--timeout=3s", tmp_path / "prometheus.yml", job["job_name"]
    )
    targets = [each["labels"] for each in json.loads(told) if each.get("labels")]
    shown = ("job", "instance", "vm", "resource_group", "backup_policy", "__address__")
    address = "web.internal.example.org:10168"
    assert sorted(tuple(target.get(label) for label in shown) for target in targets) == [
        ("backupready", "blog/web", "web", "blog", None, address),
        ("backupready", "shop/web", "web", "shop", "v/daily", address),
    ]
