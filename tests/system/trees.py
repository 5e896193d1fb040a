"""What of the machine may a fix touch, and what of that is otherwise than before?"""

from __future__ import annotations

import stat
from collections.abc import Collection

from lab.guest import HANDLER_DIRECTORY, LIBRARY, Guest

_AGENT_CONFIG = "/etc/waagent.conf"
SHELF = f"{LIBRARY}/.backupready"  # where what was set aside stands
# What the agent writes into its library by itself, at each start or all the time: its goal states and what belongs to
# them, its reports, its logs' remains, and what it notes of itself.
_AGENTS_OWN = (
    *("events/", "history/", "logcollector/", "GoalState", "HostingEnvironmentConfig.xml", "SharedConfig.xml"),
    *("Certificates", "Trans", "Prod.", "ExtensionsConfig", "Incarnation", "waagent_status", "VmSettings", "partition"),
    *("error.json", "published_hostname", "waagent.pid", "fast_track", "initial_goal_state", "WALinuxAgent-"),
    *("Microsoft.Azure.RecoveryServices.VMSnapshotLinux.", "xpath", "ovf-env.xml", "dhcp", "goal_state", "agent_"),
    *("Protocol", "WireServerEndpoint", "image_origin", "provisioned", "rsm_update.json", "initial_update", "Cache"),
    *("persist_firewall", "cgroup"),
)
# And into the extension's directory, as the extension does. Everything else in it counts: HandlerManifest.json, mrseq,
# the task's identity, config/HandlerState, the requests in config, and the extension's program.
_EXTENSIONS_OWN = ("status/", "config/HandlerStatus", "config/HandlerEnvironment", "heartbeat")

Tree = dict[str, tuple[str, int, int, bytes]]  # by path: mode, owner, group, and content or target


def tree(guest: Guest, also: Collection[str] = ()) -> Tree:
    """The agent's configuration, the administrator's units and the agent's library with the extension's directory, but
    for what the agent writes by itself; of that only the paths `also` given."""
    seen: Tree = {}
    extension = HANDLER_DIRECTORY.rpartition("/")[2]
    for top in (_AGENT_CONFIG, "/etc/systemd/system", LIBRARY):
        place = guest.path(top)
        for path in [place, *sorted(place.rglob("*"))]:
            inside = f"{top}/{path.relative_to(place)}" if path != place else top
            name = inside[len(LIBRARY) + 1 :] if inside.startswith(f"{LIBRARY}/") else ""
            of_extension = f"{name}/".startswith(f"{extension}/")
            if of_extension:
                own = name[len(extension) + 1 :].startswith(_EXTENSIONS_OWN)
            else:
                own = bool(name) and f"{name}/".startswith(_AGENTS_OWN)
            if own and inside not in also:
                continue
            try:
                status = path.lstat()
                if stat.S_ISLNK(status.st_mode):
                    content = bytes(path.readlink())
                else:
                    content = path.read_bytes() if stat.S_ISREG(status.st_mode) else b""
            except FileNotFoundError:  # the agent has just removed it
                continue
            # The agent makes every file of an extension that it installs executable for its owner.
            mode = status.st_mode | (stat.S_IXUSR if of_extension else 0)
            seen[inside] = (stat.filemode(mode), status.st_uid, status.st_gid, content)
    return seen


def changed(before: Tree, after: Tree) -> dict[str, str]:
    """What is new, gone or otherwise, but for what stands on our shelf."""
    before, after = (
        {path: what for path, what in tree.items() if not path.startswith(SHELF)} for tree in (before, after)
    )
    told = dict.fromkeys(after.keys() - before.keys(), "new")
    told.update(dict.fromkeys(before.keys() - after.keys(), "gone"))
    for path in before.keys() & after.keys():
        old, new = before[path], after[path]
        if old[:3] != new[:3]:
            told[path] = f"{old[:3]} is {new[:3]}"
        elif old != new:
            told[path] = "content"
    return told
