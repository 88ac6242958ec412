"""What the service manager is told: ready, alive, what is going on. Without one, nothing.

Protocol: sd_notify(3). Written out because the Python packages for it are unmaintained or need
headers to build.
"""

import os
import socket


class ServiceManager:
    """The service manager's notification socket, if we run under one."""

    def __init__(self, address: str | None = None) -> None:
        address = os.environ.get("NOTIFY_SOCKET") if address is None else address
        self._address = "\0" + address[1:] if address and address.startswith("@") else address
        self._ready = False

    def cycle_done(self, sentence: str) -> None:
        """A control cycle went well: alive, and with the first one ready."""
        lines = [f"STATUS={' '.join(sentence.split())}", "WATCHDOG=1"]
        if not self._ready:
            lines.insert(0, "READY=1")
            self._ready = True
        self._send(lines)

    def stopping(self) -> None:
        """The service is on its way down."""
        self._send(["STOPPING=1", "STATUS=stopping"])

    def _send(self, lines: list[str]) -> None:
        if not self._address:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as connection:
            try:
                connection.connect(self._address)
                connection.send("\n".join(lines).encode())
            except OSError:
                return
