"""How does one try things by hand? A booted guest, a shell in it, the fabric's switches from a second terminal."""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

from .fabric import PARSERS, FabricError, State, TargetState
from .guest import Guest, LabError, entry, fabric_of, image, leader_of, missing, packages, running, sweep

INSTALLED = """  backupready status; backupready check; backupready explain AGENT_STOPPED; journalctl -u backupready
  systemctl status backupready; python3 -c 'import urllib.request as r; print(r.urlopen("http://127.0.0.1:10168/metrics").read().decode())'

"""
TO_TRY = """
This is a shell in the guest {name}; leaving it takes everything down.

  waagent --version; systemctl status walinuxagent; tail /var/log/waagent.log
  ls /var/lib/waagent; cat /var/lib/waagent/waagent_status*.json
  systemctl stop walinuxagent                        the agent is stopped
  echo exit=3 >/etc/azure/backupready-lab-handler    the extension fails from the next restart of the agent on

{installed}In a second terminal (root, same directory): {lab} followed by

  set wire_server refused    also silent, error, impostor, up; host_plugin and metadata take the same
  set packages missing       the extension cannot be downloaded
  goal-state                 a new backup request; `goal-state uninstall` removes the extension
  reset                      everything healthy again
  state, requests            what the fabric is set to, what the guest asked it
  shell                      one more shell
"""


def _the_guest(name: str | None) -> str:
    if name is not None:
        return name
    names = running()
    if not names:
        raise LabError("cannot find a running guest: start one first")
    return names[-1]


def _up(package: Path | None) -> int:
    path = os.environ.get("PYTHONPATH")
    lab = f"PYTHONPATH={shlex.quote(path)} " if path else ""
    lab += f"python3 -m {__package__}"
    print("Booting a guest; the first time its image is built, in about a minute …", flush=True)
    with Guest() as guest:
        print(f"It booted in {guest.boot_seconds:.1f} s; waiting for its agent …", flush=True)
        guest.wait_agent_ready()
        if package is not None:
            guest.install_deb(package)
        guest.path("/etc/azure").mkdir(exist_ok=True)
        print(TO_TRY.format(name=guest.name, lab=lab, installed=INSTALLED if package is not None else ""), flush=True)
        return _shell(guest.command())


def _shell(words: list[str]) -> int:
    """A shell in the guest; an interrupt is for it and its children, not for the lab."""
    before = signal.signal(signal.SIGINT, lambda *_: None)  # a handler, since "ignore" would be inherited
    try:
        return subprocess.run([*words, "/bin/bash", "-i"], check=False).returncode
    finally:
        signal.signal(signal.SIGINT, before)


def _print_state(state: State) -> int:
    goal, switches = state.goal_state, state.switches
    for endpoint in ("wire_server", "host_plugin", "metadata", "packages"):
        print(f"{endpoint:18} {getattr(switches, endpoint).value}")
    print(f"{'extra_handler':18} {'on' if switches.extra_handler else 'off'}")
    print(f"{'handler_exit_code':18} {switches.handler_exit_code}")
    print(
        f"goal state {goal.incarnation}: {goal.target_state.value}, version {goal.version}, "
        f"sequence number {goal.sequence}; {state.requests} requests so far"
    )
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(prog=f"python3 -m {__package__}", description="The laboratory, by hand.")
    parser.add_argument("--guest", metavar="NAME", help="which guest; the newest unless given")
    parser.add_argument("--deb", type=Path, metavar="PATH", help="install this package in the new guest")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    commands.add_parser("up", help="boot a guest and open a shell in it (the default)")
    turn = commands.add_parser("set", help="turn a switch of the fabric")
    turn.add_argument("switch", metavar="SWITCH", help=", ".join(PARSERS))
    turn.add_argument("value", metavar="VALUE")
    goal = commands.add_parser("goal-state", help="issue a new goal state")
    goal.add_argument("target", nargs="?", default="enabled", help=", ".join(kind.value for kind in TargetState))
    goal.add_argument("--sequence", type=int)
    goal.add_argument("--version")
    commands.add_parser("reset", help="every switch back to healthy")
    commands.add_parser("state", help="the switches and the goal state")
    commands.add_parser("requests", help="what the guest has asked of the fabric")
    run = commands.add_parser("run", help="run a command in the guest")
    run.add_argument("argv", nargs=argparse.REMAINDER)
    commands.add_parser("shell", help="open a shell in the guest")
    commands.add_parser("missing", help="what this machine lacks; exit status 1 if anything")
    commands.add_parser("image", help="build the guest's image, unless it is there, and print where it is")
    commands.add_parser("sweep", help="remove what killed runs left behind")
    chosen = parser.parse_args()
    try:
        return _do(chosen)
    except (LabError, FabricError) as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1


def _do(chosen: argparse.Namespace) -> int:
    command = chosen.command or "up"
    if command == "up":
        return _up(chosen.deb)
    if command == "missing":
        lacks = missing()
        print("\n".join(lacks) or "nothing")
        if lacks:
            print(f"The packages are: {' '.join(packages())}")
        return 1 if lacks else 0
    if command == "image":
        print(image())
        return 0
    if command == "sweep":
        sweep()
        return 0
    name = _the_guest(chosen.guest)
    if command == "shell":
        return _shell(entry(leader_of(name)))
    if command == "run":
        return subprocess.run([*entry(leader_of(name)), *chosen.argv], check=False).returncode
    fabric = fabric_of(name)
    if command == "set":
        return _print_state(fabric.set(chosen.switch, chosen.value))
    if command == "goal-state":
        return _print_state(fabric.new_goal_state(chosen.target, chosen.sequence, chosen.version))
    if command == "reset":
        return _print_state(fabric.reset())
    if command == "requests":
        for request in fabric.requests():
            answer = request.status or "—"
            print(f"{request.time:.3f} {request.endpoint:12} {answer:>3} {request.method} {request.path}")
        return 0
    return _print_state(fabric.state())


if __name__ == "__main__":
    sys.exit(main())
