"""What would Azure answer? An emulated wire server, host plugin and instance metadata, with faults to switch.

Run it as a process inside the network namespace that owns the fabric's addresses, and steer it from anywhere
through `Fabric`, which speaks to its control socket on the file system. It also runs in-process: `FabricServer`.
"""

from __future__ import annotations

import argparse
import base64
import binascii
import dataclasses
import enum
import http.server
import io
import json
import select
import signal
import socket
import socketserver
import ssl
import sys
import threading
import time
import uuid
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit
from xml.sax.saxutils import escape

HANDLER = "Microsoft.Azure.RecoveryServices.VMSnapshotLinux"
HANDLER_VERSION = "1.0.9220.0"
OTHER_HANDLER = "Microsoft.Azure.Monitor.AzureMonitorLinuxAgent"
OTHER_HANDLER_VERSION = "1.33.1"
HANDLER_SOURCE = Path(__file__).parent / "handler"

WIRE_SERVER = ("168.63.129.16", 80)
HOST_PLUGIN = ("168.63.129.16", 32526)
METADATA = ("169.254.169.254", 80)
STORAGE_HOST = "labstorage.blob.core.windows.net"
STORAGE = ("20.60.0.1", 443)

CONTAINER_ID = "c6d5526c-5ac2-4200-b6e2-56f2b70c5ab2"
CONFIG_NAME = "b61f93d0.0.b61f93d0.0._vm.1.xml"
VM_ID = "4f6c2d7e-0b3a-4c0e-9d55-6a1d9b1b2c3d"
TICKS_AT_EPOCH = 621_355_968_000_000_000  # .NET ticks (100 ns since year 1) at 1970-01-01

IMPOSTOR_PAGE = (
    "<!DOCTYPE html><html><head><title>Sign in to the network</title></head>"
    "<body><h1>Welcome</h1><p>Accept the terms to reach the internet.</p></body></html>"
)
OTHER_SCRIPT = """#!/bin/sh
# An extension that has nothing to do with backup: it succeeds and leaves one status file.
cd "$(dirname "$0")/.." || exit 2
[ "$1" = enable ] || exit 0
mkdir -p status
cat >"status/${ConfigSequenceNumber:-0}.status" <<EOF
[{"version":"1.0","timestampUTC":"$(date -u +%Y-%m-%dT%H:%M:%SZ)","status":{"operation":"Enable",
"status":"success","code":0,"formattedMessage":{"lang":"en-US","message":"Enable succeeded"}}}]
EOF
"""


class FabricError(Exception):
    """The fabric refused a request, or it cannot be reached."""


class Reach(enum.Enum):
    """How one endpoint meets its callers."""

    UP = "up"
    REFUSED = "refused"
    SILENT = "silent"
    ERROR = "error"
    IMPOSTOR = "impostor"


class Supply(enum.Enum):
    """Whether the package storage has the packages."""

    UP = "up"
    MISSING = "missing"  # the manifests name packages that are not there
    UNLISTED = "unlisted"  # nor are the manifests there
    GARBAGE = "garbage"  # what stands in the packages' places is none


class TargetState(enum.Enum):
    """What a goal state asks for the VMSnapshot handler."""

    ENABLED = "enabled"
    DISABLED = "disabled"
    UNINSTALL = "uninstall"


@dataclasses.dataclass(frozen=True)
class Switches:
    """Everything about the fabric that a test can change without a new goal state."""

    wire_server: Reach = Reach.UP
    host_plugin: Reach = Reach.UP
    metadata: Reach = Reach.UP
    storage: Reach = Reach.UP  # impostor: its certificate is signed by nobody that is trusted
    packages: Supply = Supply.UP
    extra_handler: bool = False  # in force from the next goal state
    clock_ahead: int = 0  # seconds by which the Date of an answer is ahead of this machine's clock
    handler_exit_code: int = 0  # packed into zips that are downloaded from now on


@dataclasses.dataclass(frozen=True)
class GoalState:
    """What the platform wants of the machine at present."""

    incarnation: int = 1
    sequence: int = 0
    target_state: TargetState = TargetState.ENABLED
    version: str = HANDLER_VERSION
    extra_handler: bool = False
    task_id: str = dataclasses.field(default_factory=lambda: str(uuid.uuid4()))
    created: float = dataclasses.field(default_factory=time.time)


@dataclasses.dataclass(frozen=True)
class State:
    """The switches, the goal state, and what the machine has told the fabric."""

    switches: Switches
    goal_state: GoalState
    requests: int
    health: str | None  # last provisioning health document
    status: dict[str, Any] | None  # last aggregate status that was uploaded
    status_time: float | None


@dataclasses.dataclass(frozen=True)
class Request:
    """One line of the request log; `status` 0 means that nothing was answered."""

    number: int
    time: float
    endpoint: str
    port: int
    method: str
    path: str
    agent: str
    status: int


def _one_of(kind: type[enum.Enum]) -> Callable[[object], Any]:
    def parse(value: object) -> object:
        for member in kind:
            if value in (member, member.value):
                return member
        raise ValueError(" | ".join(str(member.value) for member in kind))

    return parse


def _on_or_off(value: object) -> object:
    if value in (True, "on"):
        return True
    if value in (False, "off"):
        return False
    raise ValueError("on | off")


def _seconds(value: object) -> object:
    try:
        return int(str(value))
    except ValueError:
        raise ValueError("a number of seconds") from None


def _exit_code(value: object) -> object:
    text = str(value)
    if not (text.isdigit() and int(text) < 256):
        raise ValueError("0 … 255")
    return int(text)


PARSERS: Mapping[str, Callable[[object], Any]] = {
    "wire_server": _one_of(Reach),
    "host_plugin": _one_of(Reach),
    "metadata": _one_of(Reach),
    "storage": _one_of(Reach),
    "packages": _one_of(Supply),
    "extra_handler": _on_or_off,
    "clock_ahead": _seconds,
    "handler_exit_code": _exit_code,
}


def _plain(value: object) -> object:
    """A dataclass tree as JSON data, enums by value."""
    if isinstance(value, enum.Enum):
        return value.value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    return value


def _state_from(data: Mapping[str, Any]) -> State:
    """The inverse of `_plain` for a State."""
    switches = {name: PARSERS[name](value) for name, value in data["switches"].items()}
    goal_state = {**data["goal_state"], "target_state": TargetState(data["goal_state"]["target_state"])}
    return State(**{**data, "switches": Switches(**switches), "goal_state": GoalState(**goal_state)})


VERSIONS = (
    '<?xml version="1.0" encoding="utf-8"?><Versions>'
    "<Preferred><Version>2015-04-05</Version></Preferred><Supported>"
    "<Version>2015-04-05</Version><Version>2012-11-30</Version></Supported></Versions>"
)
HOSTING_ENVIRONMENT = (
    '<HostingEnvironmentConfig version="1.0.0.0" goalStateIncarnation="1">'
    '<Deployment name="b61f93d0" guid="{ce5a036f-5c93-40e7-8adf-2613631008ab}" incarnation="2">'
    '<Service name="s" guid="{00000000-0000-0000-0000-000000000000}" /></Deployment>'
    '<Incarnation number="1" instance="vm_IN_0" guid="{a0faca35-52e5-4ec7-8fd1-63d2bc107d9b}" />'
    '<Role guid="{73d95f1c-6472-e58e-7a1a-523554e11d46}" name="vm" /></HostingEnvironmentConfig>'
)
SHARED_CONFIG = '<SharedConfig version="1.0.0.0" goalStateIncarnation="1"></SharedConfig>'


def goal_state_document(goal: GoalState, base: str) -> str:
    """The goal state that points at the other documents; without <Certificates> the agent handles none."""

    def uri(kind: str) -> str:
        query = f"comp=config&type={kind}&incarnation={goal.incarnation}"
        return escape(f"{base}/machine/{CONTAINER_ID}/vm?{query}")

    return (
        '<?xml version="1.0" encoding="utf-8"?><GoalState><Version>2012-11-30</Version>'
        f"<Incarnation>{goal.incarnation}</Incarnation><Machine><ExpectedState>Started</ExpectedState></Machine>"
        f"<Container><ContainerId>{CONTAINER_ID}</ContainerId><RoleInstanceList><RoleInstance>"
        "<InstanceId>b61f93d0.role_IN_0</InstanceId><State>Started</State><Configuration>"
        f"<HostingEnvironmentConfig>{uri('hostingEnvironmentConfig')}</HostingEnvironmentConfig>"
        f"<SharedConfig>{uri('sharedConfig')}</SharedConfig>"
        f"<ExtensionsConfig>{uri('extensionsConfig')}</ExtensionsConfig>"
        f"<ConfigName>{CONFIG_NAME}</ConfigName>"
        "</Configuration></RoleInstance></RoleInstanceList></Container></GoalState>"
    )


def _snapshot_settings(goal: GoalState) -> dict[str, object]:
    """The public settings of a backup request."""
    wanted = {
        "backupMetadata": [],
        "includedDisks": {"isAnyDiskExcluded": False, "dataDiskLunList": [], "isOSDiskIncluded": True},
        "dynamicConfigsFromCRP": [],
    }
    return {
        "taskId": goal.task_id,
        "commandToExecute": "snapshot",
        "locale": "en-US",
        "commandStartTimeUTCTicks": str(TICKS_AT_EPOCH + int(goal.created * 10_000_000)),
        "vmType": "microsoft.compute/virtualmachines",
        "customSettings": json.dumps({"isManagedVm": True, "canTakeCrashConsistentSnapshot": False}),
        "objectStr": base64.b64encode(json.dumps(wanted).encode()).decode(),
    }


def extensions_document(goal: GoalState, base: str, storage: str) -> str:
    """The extensions config: the VMSnapshot handler, and the unrelated one when asked for."""
    wanted: list[tuple[str, str, str, int, dict[str, object]]] = [
        (HANDLER, goal.version, goal.target_state.value, goal.sequence, _snapshot_settings(goal))
    ]
    if goal.extra_handler:
        wanted.append((OTHER_HANDLER, OTHER_HANDLER_VERSION, "enabled", 0, {}))
    plugins, settings = "", ""
    for name, version, state, sequence, public in wanted:
        manifest = escape(f"{base}/blob/{name}.manifest.xml")
        document = {"runtimeSettings": [{"handlerSettings": {"publicSettings": public}}]}
        plugins += (
            f'<Plugin name="{name}" version="{version}" location="{manifest}" failoverlocation="{manifest}" '
            f'config="" state="{state}" autoUpgrade="true" runAsStartupTask="false" isJson="true" '
            'useExactVersion="true"/>'
        )
        settings += (
            f'<Plugin name="{name}" version="{version}"><RuntimeSettings seqNo="{sequence}">'
            f"{escape(json.dumps(document))}</RuntimeSettings></Plugin>"
        )
    ticks = TICKS_AT_EPOCH + int(goal.created * 10_000_000)
    return (
        f'<Extensions version="1.0.0.0" goalStateIncarnation="{goal.incarnation}">'
        "<GuestAgentExtension><GAFamilies>"
        f"<GAFamily><Name>Prod</Name><Uris><Uri>{base}/blob/agent.manifest.xml</Uri></Uris></GAFamily></GAFamilies>"
        f"</GuestAgentExtension><Plugins>{plugins}</Plugins><PluginSettings>{settings}</PluginSettings>"
        f'<StatusUploadBlob statusBlobType="BlockBlob">{storage}/blob/vm.status?sig=none</StatusUploadBlob>'
        f'<InVMGoalStateMetaData inSvdSeqNo="{goal.incarnation}" createdOnTicks="{ticks}" '
        f'activityId="{uuid.uuid5(uuid.UUID(CONTAINER_ID), str(goal.incarnation))}" '
        f'correlationId="{goal.task_id}"/></Extensions>'
    )


def manifest_document(base: str, name: str, versions: list[str]) -> str:
    """The manifest of one extension, or of the agent itself when there are no versions to offer."""
    plugins = "".join(
        f"<Plugin><Version>{version}</Version><Uris><Uri>{escape(f'{base}/blob/{name}__{version}.zip')}</Uri></Uris>"
        "</Plugin>"
        for version in versions
    )
    return (
        '<?xml version="1.0" encoding="utf-8"?>'
        f"<PluginVersionManifest><Plugins>{plugins}</Plugins><InternalPlugins /></PluginVersionManifest>"
    )


def handler_package(exit_code: int) -> bytes:
    """The zip of the stand-in VMSnapshot handler."""
    files: list[tuple[str, int, bytes]] = [
        (str(path.relative_to(HANDLER_SOURCE)), 0o755 if path.suffix == ".sh" else 0o644, path.read_bytes())
        for path in sorted(HANDLER_SOURCE.rglob("*"))
        if path.is_file()
    ]
    # What would freeze is a program of this machine that does nothing.
    files.append(("main/safefreeze/bin/safefreeze", 0o755, Path("/bin/true").read_bytes()))
    if exit_code:
        files.append(("lab-handler", 0o644, f"exit={exit_code}\n".encode()))
    return _package(files)


def other_package() -> bytes:
    """The zip of the unrelated extension."""
    verbs = ("install", "uninstall", "update", "enable", "disable")
    commands = {f"{verb}Command": f"main/run.sh {verb}" for verb in verbs}
    handler = {**commands, "rebootAfterInstall": False, "reportHeartbeat": False}
    manifest = [{"name": "AzureMonitorLinuxAgent", "version": 1.0, "handlerManifest": handler}]
    return _package(
        [
            ("HandlerManifest.json", 0o644, json.dumps(manifest).encode()),
            ("main/run.sh", 0o755, OTHER_SCRIPT.encode()),
        ]
    )


def _package(files: list[tuple[str, int, bytes]]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, mode, content in files:
            entry = zipfile.ZipInfo(name, (2024, 6, 1, 0, 0, 0))
            entry.external_attr = (0o100000 | mode) << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, content)
    return buffer.getvalue()


def instance_metadata() -> dict[str, Any]:
    """The instance document of the metadata service."""
    return {
        "compute": {
            "azEnvironment": "AzurePublicCloud",
            "location": "westeurope",
            "name": "labvm",
            "offer": "debian-12",
            "osType": "Linux",
            "placementGroupId": "",
            "platformFaultDomain": "0",
            "platformUpdateDomain": "0",
            "provider": "Microsoft.Compute",
            "publisher": "debian",
            "resourceGroupName": "lab",
            "resourceId": "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/lab"
            "/providers/Microsoft.Compute/virtualMachines/labvm",
            "sku": "12-gen2",
            "subscriptionId": "00000000-0000-0000-0000-000000000000",
            "tags": "",
            "version": "latest",
            "vmId": VM_ID,
            "vmScaleSetName": "",
            "vmSize": "Standard_D2s_v5",
            "zone": "",
        },
        "network": {
            "interface": [
                {
                    "ipv4": {
                        "ipAddress": [{"privateIpAddress": "10.0.0.4", "publicIpAddress": ""}],
                        "subnet": [{"address": "10.0.0.0", "prefix": "24"}],
                    },
                    "ipv6": {"ipAddress": []},
                    "macAddress": "000D3A000004",
                }
            ]
        },
    }


@dataclasses.dataclass(frozen=True)
class Answer:
    """What goes back to a caller."""

    status: int = 200
    body: bytes = b""
    kind: str = "text/xml; charset=utf-8"


NOT_FOUND = Answer(404, b"not found", "text/plain")


def _xml(text: str) -> Answer:
    return Answer(200, text.encode())


def _json(value: object) -> Answer:
    return Answer(200, json.dumps(value).encode(), "application/json; charset=utf-8")


@dataclasses.dataclass(frozen=True)
class Call:
    """A request as the routes see it."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes


Route = Callable[[Call], Answer]


class _Listener:
    """One endpoint: its port, whether it is open, and how it behaves."""

    def __init__(
        self,
        name: str,
        address: tuple[str, int],
        route: Route,
        record: Callable[..., None],
        certificates: Path | None = None,
    ) -> None:
        """With `certificates`, a directory with good.pem and foreign.pem, it speaks TLS."""
        self.name = name
        self.address = address
        self.certificates = certificates
        self.reach = Reach.REFUSED
        self.clock_ahead = 0
        self._route = route
        self._record = record
        self._server: _HTTPServer | None = None

    def set(self, reach: Reach) -> None:
        """Change the behaviour; `refused` closes the port and every connection on it."""
        self.reach = reach
        if reach is Reach.REFUSED:
            self.close()
        elif self._server is None:
            self._server = _HTTPServer(self.address, self)
            self.address = (self.address[0], self._server.server_address[1])
            threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            server.server_close()
            server.drop_connections()

    def answer(self, call: Call) -> Answer:
        """What the endpoint says to one request, as it is switched at present."""
        if self.reach is Reach.ERROR:
            return Answer(500, b"<Error>InternalServerError</Error>")
        if self.reach is Reach.IMPOSTOR:
            return Answer(200, IMPOSTOR_PAGE.encode(), "text/html; charset=utf-8")
        return self._route(call)

    def record(self, method: str, path: str, agent: str, status: int) -> None:
        self._record(self.name, self.address[1], method, path, agent, status)


class _HTTPServer(socketserver.ThreadingMixIn, socketserver.TCPServer):
    """A threaded server that knows its open connections and looks up no host name."""

    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], listener: _Listener) -> None:
        self.listener = listener
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        super().__init__(address, _Connection)

    def get_request(self) -> tuple[Any, Any]:
        connection, address = super().get_request()
        if self.listener.certificates is None:
            return connection, address
        name = "foreign.pem" if self.listener.reach is Reach.IMPOSTOR else "good.pem"
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.listener.certificates / name)
        # The handshake is the connection's own thread's.
        return context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False), address

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._open.discard(request)
        super().shutdown_request(request)

    def drop_connections(self) -> None:
        with self._lock:
            connections = list(self._open)
        for connection in connections:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:  # it ended by itself meanwhile
                continue

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A caller that went away is no event; anything else is a defect of the lab."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


class _Connection(http.server.BaseHTTPRequestHandler):
    server: _HTTPServer
    timeout = 120
    server_version = "Microsoft-IIS/10.0"
    sys_version = ""

    def _handle(self) -> None:
        listener = self.server.listener
        agent = self.headers.get("User-Agent", "")
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        if listener.reach is Reach.SILENT:
            listener.record(self.command, self.path, agent, 0)
            while listener.reach is Reach.SILENT and not select.select([self.connection], [], [], 0.2)[0]:
                pass
            self.close_connection = True
            return
        url = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        headers = {name.lower(): value for name, value in self.headers.items()}
        answer = listener.answer(Call(self.command, url.path, query, headers, body))
        listener.record(self.command, self.path, agent, answer.status)
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.kind)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)

    do_GET = do_HEAD = do_POST = do_PUT = _handle

    def date_time_string(self, timestamp: float | None = None) -> str:
        return super().date_time_string(time.time() + self.server.listener.clock_ahead)

    def log_message(self, format: str, *args: object) -> None:
        """Requests are recorded by the listener instead."""


class FabricServer:
    """The fabric itself: its endpoints, a control socket and a request log."""

    ENDPOINTS: ClassVar[tuple[str, ...]] = ("wire_server", "host_plugin", "metadata", "storage")

    def __init__(
        self,
        control: Path,
        log: Path,
        wire_server: tuple[str, int] = WIRE_SERVER,
        host_plugin: tuple[str, int] = HOST_PLUGIN,
        metadata: tuple[str, int] = METADATA,
        storage: tuple[str, int] = STORAGE,
        certificates: Path | None = None,
    ) -> None:
        """Without certificates there is no storage endpoint, and reports go where everything else does."""
        self._control_path = control
        self._lock = threading.RLock()
        self._switches = Switches()
        self._goal = GoalState()
        self._versions = [HANDLER_VERSION]
        self._requests: list[Request] = []
        self._health: str | None = None
        self._status: dict[str, Any] | None = None
        self._status_time: float | None = None
        self._log = log.open("a", encoding="utf-8", buffering=1)
        self._listeners = {
            "wire_server": _Listener("wire_server", wire_server, self._wire_server, self._record),
            "host_plugin": _Listener("host_plugin", host_plugin, self._host_plugin, self._record),
            "metadata": _Listener("metadata", metadata, self._metadata, self._record),
        }
        if certificates is not None:
            self._listeners["storage"] = _Listener("storage", storage, self._storage, self._record, certificates)
        self._control: _ControlServer | None = None

    def start(self) -> None:
        """Open every endpoint, then the control socket."""
        for listener in self._listeners.values():
            listener.set(Reach.UP)
        self._control_path.unlink(missing_ok=True)
        self._control = _ControlServer(str(self._control_path), self)
        threading.Thread(target=self._control.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        if self._control is not None:
            self._control.shutdown()
            self._control.server_close()
            self._control_path.unlink(missing_ok=True)
        for listener in self._listeners.values():
            listener.close()
        self._log.close()

    def __enter__(self) -> FabricServer:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def addresses(self) -> dict[str, str]:
        """Endpoint name → bound host:port."""
        return {name: "{}:{}".format(*listener.address) for name, listener in self._listeners.items()}

    # What the control socket offers.

    def command(self, words: Mapping[str, Any]) -> object:
        """Do one control command; ValueError says what is wrong with it."""
        do = words.get("do")
        if do == "set":
            return self.set(str(words.get("switch")), words.get("value"))
        if do == "state":
            return _plain(self.state())
        if do == "new_goal_state":
            return self.new_goal_state(words.get("target_state"), words.get("sequence"), words.get("version"))
        if do == "requests":
            with self._lock:
                return [_plain(request) for request in self._requests[int(words.get("since", 0)) :]]
        if do == "reset":
            return self.reset()
        raise ValueError(f"cannot do {do!r}: the commands are set, state, new_goal_state, requests, reset")

    def set(self, switch: str, value: object) -> object:
        if switch not in PARSERS:
            raise ValueError(f"cannot set {switch!r}: the switches are {', '.join(PARSERS)}")
        try:
            parsed = PARSERS[switch](value)
        except ValueError as error:
            raise ValueError(f"cannot set {switch} to {value!r}: it takes {error}") from None
        with self._lock:
            self._switches = dataclasses.replace(self._switches, **{switch: parsed})
            if switch in self._listeners and isinstance(parsed, Reach):
                self._listeners[switch].set(parsed)
            for listener in self._listeners.values():
                listener.clock_ahead = self._switches.clock_ahead
        return _plain(self.state())

    def new_goal_state(self, target_state: object, sequence: object, version: object) -> object:
        with self._lock:
            try:
                target = TargetState(target_state or "enabled")
            except ValueError:
                names = " | ".join(state.value for state in TargetState)
                raise ValueError(f"cannot ask for the state {target_state!r}: it is one of {names}") from None
            if sequence is None:
                sequence = self._goal.sequence + (1 if target is TargetState.ENABLED else 0)
            self._goal = GoalState(
                incarnation=self._goal.incarnation + 1,
                sequence=int(str(sequence)),
                target_state=target,
                version=str(version or self._goal.version),
                extra_handler=self._switches.extra_handler,
            )
            if self._goal.version not in self._versions:
                self._versions.append(self._goal.version)
        return _plain(self.state())

    def reset(self) -> object:
        """Every switch back; a new goal state only if the present one is not the plain one."""
        for switch, value in dataclasses.asdict(Switches()).items():
            self.set(switch, value)
        plain = dataclasses.replace(
            self._goal, target_state=TargetState.ENABLED, version=HANDLER_VERSION, extra_handler=False
        )
        if self._goal != plain:
            self.new_goal_state("enabled", None, HANDLER_VERSION)
        return _plain(self.state())

    def state(self) -> State:
        with self._lock:
            return State(self._switches, self._goal, len(self._requests), self._health, self._status, self._status_time)

    def _record(self, endpoint: str, port: int, method: str, path: str, agent: str, status: int) -> None:
        with self._lock:
            request = Request(len(self._requests), time.time(), endpoint, port, method, path, agent, status)
            self._requests.append(request)
            if not self._log.closed:
                self._log.write(json.dumps(_plain(request)) + "\n")

    # The endpoints.

    def _base(self) -> str:
        return "http://{}:{}".format(*self._listeners["wire_server"].address)

    def _storage_base(self) -> str:
        return f"https://{STORAGE_HOST}" if "storage" in self._listeners else self._base()

    def _wire_server(self, call: Call) -> Answer:
        goal = self._goal
        if call.path.startswith("/blob/"):
            return self._storage(call)
        if call.method == "POST":
            return self._report(call)
        comp = call.query.get("comp")
        if comp == "versions":
            return _xml(VERSIONS)
        if not call.path.startswith("/machine"):
            return NOT_FOUND
        if comp == "goalstate":
            return _xml(goal_state_document(goal, self._base()))
        if comp == "config":
            documents = {
                "hostingEnvironmentConfig": HOSTING_ENVIRONMENT,
                "sharedConfig": SHARED_CONFIG,
                "extensionsConfig": extensions_document(goal, self._base(), self._storage_base()),
            }
            document = documents.get(call.query.get("type", ""))
            return NOT_FOUND if document is None else _xml(document)
        return NOT_FOUND

    def _report(self, call: Call) -> Answer:
        comp = call.query.get("comp")
        if call.path == "/HealthService":
            return Answer()
        if comp == "health":
            with self._lock:
                self._health = call.body.decode("utf-8", "replace")
            return Answer()
        if comp == "telemetrydata":
            return Answer()
        if comp == "roleProperties":
            return Answer(202)
        return NOT_FOUND

    def _storage(self, call: Call) -> Answer:
        name = call.path[len("/blob/") :]
        if call.method == "HEAD" and call.path == "/":
            return Answer(400, b"<Error><Code>InvalidQueryParameterValue</Code></Error>")
        if call.method == "PUT":
            if name != "vm.status":
                return NOT_FOUND
            self._keep_status(call.body)
            return Answer(201)
        return self._artifact(name)

    def _artifact(self, name: str) -> Answer:
        with self._lock:
            switches, versions = self._switches, list(self._versions)
        manifests = {
            "agent.manifest.xml": ("agent", []),
            f"{HANDLER}.manifest.xml": (HANDLER, versions),
            f"{OTHER_HANDLER}.manifest.xml": (OTHER_HANDLER, [OTHER_HANDLER_VERSION]),
        }
        if name in manifests and switches.packages is not Supply.UNLISTED:
            return _xml(manifest_document(self._base(), *manifests[name]))
        if switches.packages is Supply.UP:
            if name in {f"{HANDLER}__{version}.zip" for version in versions}:
                return Answer(200, handler_package(switches.handler_exit_code), "application/octet-stream")
            if name == f"{OTHER_HANDLER}__{OTHER_HANDLER_VERSION}.zip":
                return Answer(200, other_package(), "application/octet-stream")
        if switches.packages is Supply.GARBAGE and name.endswith(".zip"):
            return Answer(200, b"no package", "application/octet-stream")
        return Answer(404, b"<Error><Code>BlobNotFound</Code></Error>")

    def _host_plugin(self, call: Call) -> Answer:
        if call.path in ("/versions", "/health"):
            return _json(["2015-09-01"] if call.path == "/versions" else "")
        if call.path == "/status" and call.method == "PUT":
            try:
                content = base64.b64decode(json.loads(call.body)["content"])
            except (ValueError, KeyError, TypeError, binascii.Error):
                return Answer(400, b"malformed status", "text/plain")
            self._keep_status(content)
            return Answer()
        if call.path == "/extensionArtifact":
            location = urlsplit(call.headers.get("x-ms-artifact-location", ""))
            if not location.path.startswith("/blob/"):
                return NOT_FOUND
            return self._artifact(location.path[len("/blob/") :])
        if call.path == "/vmAgentLog" and call.method == "PUT":
            return Answer()
        return NOT_FOUND  # includes /vmSettings: this host does not support it

    def _metadata(self, call: Call) -> Answer:
        if call.headers.get("metadata", "").lower() != "true" or "api-version" not in call.query:
            return Answer(400, b'{"error": "Bad request"}', "application/json; charset=utf-8")
        parts = [part for part in call.path.split("/") if part]
        if parts[:2] != ["metadata", "instance"]:
            return NOT_FOUND
        document: Any = instance_metadata()
        for part in parts[2:]:
            if not isinstance(document, dict) or part not in document:
                return NOT_FOUND
            document = document[part]
        if isinstance(document, str):
            return Answer(200, document.encode(), "text/plain; charset=utf-8")
        return _json(document)

    def _keep_status(self, content: bytes) -> None:
        try:
            status = json.loads(content)
        except ValueError:
            return
        with self._lock:
            self._status, self._status_time = status, time.time()


class _ControlServer(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, path: str, fabric: FabricServer) -> None:
        self.fabric = fabric
        super().__init__(path, _ControlConnection)


class _ControlConnection(socketserver.StreamRequestHandler):
    server: _ControlServer

    def handle(self) -> None:
        """One JSON object a line in, one out: {"answer": …} or {"error": "cannot …"}."""
        for line in self.rfile:
            try:
                words = json.loads(line)
                if not isinstance(words, dict):
                    raise ValueError("cannot read the command: it is not a JSON object")
                reply: dict[str, object] = {"answer": self.server.fabric.command(words)}
            except (ValueError, OSError) as error:
                reply = {"error": str(error)}
            self.wfile.write(json.dumps(reply).encode() + b"\n")


class Fabric:
    """The tests' hand on a running fabric, from any network namespace."""

    def __init__(self, control: Path, timeout: float = 10.0) -> None:
        self.control = control
        self._timeout = timeout

    def set(self, switch: str, value: str | int | bool | enum.Enum) -> State:
        """Turn one switch of `Switches`; FabricError names an unknown switch or value."""
        plain = value.value if isinstance(value, enum.Enum) else value
        return _state_from(self._ask({"do": "set", "switch": switch, "value": plain}))

    def state(self) -> State:
        return _state_from(self._ask({"do": "state"}))

    def new_goal_state(
        self, target_state: str = "enabled", sequence: int | None = None, version: str | None = None
    ) -> State:
        """Bump the incarnation; without a sequence number `enabled` takes the next one (a new backup)."""
        words = {"target_state": target_state, "sequence": sequence, "version": version}
        return _state_from(self._ask({"do": "new_goal_state", **words}))

    def requests(self, since: int = 0) -> list[Request]:
        """The requests from number `since` on; `state().requests` is the next number."""
        return [Request(**request) for request in self._ask({"do": "requests", "since": since})]

    def reset(self) -> State:
        """Every switch to its default; a new goal state only if the present one is not the plain one."""
        return _state_from(self._ask({"do": "reset"}))

    def _ask(self, words: Mapping[str, object]) -> Any:
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(self._timeout)
                connection.connect(str(self.control))
                connection.sendall(json.dumps(words).encode() + b"\n")
                connection.shutdown(socket.SHUT_WR)
                with connection.makefile("rb") as stream:
                    reply = json.loads(stream.read())
        except (OSError, ValueError) as error:
            raise FabricError(f"cannot reach the fabric at {self.control}: {error}") from error
        if "error" in reply:
            raise FabricError(reply["error"])
        return reply["answer"]


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not (host and port.isdigit()):
        raise argparse.ArgumentTypeError(f"cannot read the address {text!r}: it is HOST:PORT")
    return host, int(port)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Serve an emulated Azure fabric.")
    parser.add_argument("--control", type=Path, required=True, help="path of the control socket")
    parser.add_argument("--log", type=Path, required=True, help="file that every request is appended to")
    for name, default in (("wire-server", WIRE_SERVER), ("host-plugin", HOST_PLUGIN), ("metadata", METADATA)):
        text = "{}:{}".format(*default)
        note = f"{text} unless given; port 0 is a free one"
        parser.add_argument(f"--{name}", type=_address, default=default, metavar="HOST:PORT", help=note)
    parser.add_argument("--certificates", type=Path, metavar="DIR", help="good.pem and foreign.pem of the storage")
    chosen = parser.parse_args(arguments)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        with FabricServer(
            chosen.control,
            chosen.log,
            chosen.wire_server,
            chosen.host_plugin,
            chosen.metadata,
            certificates=chosen.certificates,
        ) as server:
            print(json.dumps(server.addresses), flush=True)
            stop.wait()
    except OSError as error:
        print(f"cannot start the fabric: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
