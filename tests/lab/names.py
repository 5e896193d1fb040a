"""What does the guest's network offer? Names and addresses, by a real dnsmasq in the fabric's namespace."""

from __future__ import annotations

import contextlib
import subprocess
from pathlib import Path

from .fabric import STORAGE, STORAGE_HOST

_COMMAND = (
    "dnsmasq --keep-in-foreground --conf-file=/dev/null --no-resolv --no-hosts --no-ping --bind-interfaces"
    " --interface=host0 --except-interface=lo --user=root"
)


class Names:
    """A name server at 168.63.129.16, as Azure's, and on demand a DHCP server. Stop it, or use it in a `with`."""

    def __init__(self, namespace: str, directory: Path) -> None:
        """`directory` takes the leases and the log, and tells whose process it is."""
        self._namespace = namespace
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None

    def serve(self, *, names: bool = True, leases: bool = False, endpoint: bool = True, seconds: int = 3600) -> None:
        """(Re)start with these: whether names are resolved, whether addresses are leased, whether a lease has option
        245 with the wire server's address, and for how many seconds it is (at least 120)."""
        self.stop()
        words = _COMMAND.split()
        words += ["--pid-file=" + str(self._directory / "dnsmasq.pid")]
        words += [f"--address=/{STORAGE_HOST}/{STORAGE[0]}"] if names else ["--port=0"]
        if leases:
            words += [f"--dhcp-range=10.0.0.4,10.0.0.4,255.255.255.0,{seconds}"]
            words += ["--dhcp-leasefile=" + str(self._directory / "dnsmasq.leases"), "--dhcp-authoritative"]
            words += ["--dhcp-option=3,10.0.0.1", "--dhcp-option=6,168.63.129.16"]
            words += ["--dhcp-option-force=245,a8:3f:81:10"] if endpoint else []
        with (self._directory / "dnsmasq.log").open("ab") as log:
            self._process = subprocess.Popen(
                ["ip", "netns", "exec", self._namespace, *words], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(5)
            if process.poll() is None:
                process.kill()
                process.wait()
