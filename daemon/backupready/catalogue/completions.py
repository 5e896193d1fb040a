"""What does the shell complete? Scripts for bash, zsh and fish, from the parser of the command line."""

from __future__ import annotations

import argparse

from backupready import cli, probes

# Of another release the scripts may look different; the test extra pins it.
SHTAB = "1.13.0"


def script(shell: str) -> str:
    """The completions for `bash`, `zsh` or `fish`. Needs shtab."""
    import shtab  # only whoever renders has it

    parser = cli.command_line()
    _annotate(parser)
    return _head(shtab.complete(parser, shell))


def _annotate(parser: argparse.ArgumentParser) -> None:
    """Tell what the parser's own declarations leave open, by the names that the manual gives to values."""
    import shtab

    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for verb in action.choices.values():
                _annotate(verb)
        elif action.metavar == "FILE":
            action.complete = shtab.FILE  # type: ignore[attr-defined]
        elif action.metavar == "DIR":
            action.complete = shtab.DIRECTORY  # type: ignore[attr-defined]
        elif action.metavar == "CODE":
            action.choices = sorted(problem.code for problem in probes.PROBLEMS)
            action.help = "problem"


def _head(text: str) -> str:
    """Another head: the generator's tells how to install what packages install. zsh wants its first line kept."""
    lines = text.splitlines()
    kept = [lines.pop(0)] if lines[0].startswith("#compdef") else []
    while lines and (lines[0].startswith("#") or not lines[0].strip()):
        lines.pop(0)
    made = "# Rendered by shtab from the command line of backupready; `make render` does it again."
    return "\n".join([*kept, made, "", *(line.rstrip() for line in lines)]).rstrip() + "\n"
