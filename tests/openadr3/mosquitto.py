"""mosquitto, the MQTT broker, as a process of its own."""

import asyncio
import json
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import aiomqtt

from tests.openadr.vtn import free_port
from tests.requirement import missing


class Mosquitto:
    """A broker on a port of its own; `configuration` are lines of its configuration file."""

    def __init__(self, directory: Path, *configuration: str) -> None:
        # Debian keeps it where only root looks.
        program = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")
        self._program = program or missing("mosquitto", "no mosquitto (apt-get install mosquitto)")
        self.port = free_port()
        self._file = directory / "mosquitto.conf"
        lines = configuration or ("allow_anonymous true",)
        self._file.write_text("\n".join([f"listener {self.port} 127.0.0.1", "user root", *lines]))
        self._process: subprocess.Popen[bytes] | None = None

    def binding(self, method: str = "ANONYMOUS", scheme: str = "mqtt", **more: str) -> Any:
        """What a VTN says of it."""
        return {
            "URIS": [f"{scheme}://localhost:{self.port}"],
            "serialization": "JSON",
            "authentication": {"method": method, **more},
        }

    async def start(self) -> None:
        process = self._process = self._spawn()
        async with asyncio.timeout(10):
            while not await self._answers():
                assert process.poll() is None, "mosquitto ended"
                await asyncio.sleep(0.02)

    def _spawn(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [self._program, "-c", self._file], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    async def _answers(self) -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            return False
        writer.close()
        return True

    def freeze(self) -> None:
        """Have it answer nothing any more, with all connections left open."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
            self._process = None

    async def publish(self, topic: str, said: Any, *, retain: bool = False) -> None:
        payload = said if isinstance(said, bytes) else json.dumps(said).encode()
        async with aiomqtt.Client("127.0.0.1", self.port) as client:
            await client.publish(topic, payload, qos=1, retain=retain)
