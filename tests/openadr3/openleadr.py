"""openleadr-rs, the independent VTN of OpenADR 3.1, with a PostgreSQL of its own.

Neither is part of the project. Where they are not on the PATH, FLEXLOAD_OPENLEADR names the program
openleadr-vtn and FLEXLOAD_POSTGRES the folder of PostgreSQL's programs, 16 or later (the VTN's own
migrations need that); `.ci/run` sets both up.
"""

import asyncio
import base64
import hashlib
import hmac
import json
import os
import re
import secrets
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import aiohttp

from tests.openadr.vtn import free_port
from tests.requirement import missing

OLDEST_POSTGRES = 16
BL_SCOPES = "read_all write_programs write_events write_vens_bl write_users"
VEN_SCOPES = "read_targets read_ven_objects write_reports_ven write_vens_ven"
_ACCOUNT = "nobody"
"""PostgreSQL refuses to be root."""


def needed() -> tuple[Path, Path]:
    """The VTN's program and the folder of PostgreSQL's; skips or fails the test where one is missing."""
    vtn = os.environ.get("FLEXLOAD_OPENLEADR") or shutil.which("openleadr-vtn")
    if vtn is None or not Path(vtn).exists():
        how = "cargo install openleadr-vtn --features internal-oauth"
        missing("interop", f"no openleadr-vtn ({how})")
    folders = [Path(f) for f in (os.environ.get("FLEXLOAD_POSTGRES"),) if f]
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    folders += [Path(f).resolve().parent for f in (shutil.which("postgres"),) if f]
    for folder in folders:
        said = subprocess.run([folder / "postgres", "--version"], capture_output=True, text=True)
        version = re.search(r"(\d+)", said.stdout)
        if version is not None and int(version[1]) >= OLDEST_POSTGRES:
            return Path(vtn), folder
    return missing("interop", f"no PostgreSQL {OLDEST_POSTGRES} or later")


class Postgres:
    """A cluster in a temporary folder, reached over a socket there."""

    def __init__(self, programs: Path) -> None:
        self._programs = programs
        self.folder = Path(tempfile.mkdtemp(prefix="flexload-pg-", dir="/tmp"))
        if os.geteuid() == 0:
            shutil.chown(self.folder, _ACCOUNT)
        self._data = self.folder / "data"
        self._run(
            "initdb", "-D", self._data, "-A", "trust", "-U", "openadr", "-E", "UTF8", "--no-sync"
        )
        self.start()

    @property
    def url(self) -> str:
        return f"postgres://openadr@localhost/postgres?host={self.folder}"

    def start(self) -> None:
        options = f"-c listen_addresses='' -c unix_socket_directories={self.folder} -c fsync=off"
        log = self.folder / "log"
        self._run("pg_ctl", "-D", self._data, "-o", options, "-l", log, "-w", "-t", "50", "start")

    def stop(self) -> None:
        self._run("pg_ctl", "-D", self._data, "-m", "immediate", "-w", "stop")

    def remove(self) -> None:
        self.stop()
        shutil.rmtree(self.folder)

    def _run(self, program: str, *arguments: object) -> None:
        command = [self._programs / program, *arguments]
        if os.geteuid() == 0:
            command = ["setpriv", f"--reuid={_ACCOUNT}", "--clear-groups", *command]
        done = subprocess.run(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            cwd=self.folder,
            text=True,
            timeout=55,
        )
        assert done.returncode == 0, done.stderr


class OpenleadrRs:
    """The VTN in its own process. What business logic does, it does with tokens we make ourselves."""

    client_id = "site-a"
    secret = "the secret of site a"

    def __init__(
        self,
        program: Path,
        postgres: Postgres,
        mqtt_url: str | None = None,
        host: str = "127.0.0.1",
    ) -> None:
        """`host` is the address by which it is reached; it listens on all."""
        self._host = host
        self._program = program
        self._mqtt_url = mqtt_url
        self._postgres = postgres
        self._port = free_port()
        self._key = b""
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://{self._host}:{self._port}"

    async def start(self) -> None:
        """Start with a new key: no token from before is good any more."""
        self._key = secrets.token_bytes(32)
        environment = {
            "PORT": str(self._port),
            "DATABASE_URL": self._postgres.url,
            "OAUTH_BASE64_SECRET": base64.b64encode(self._key).decode(),
            "OAUTH_TOKEN_URL": f"{self.url}/auth/token",
            "RUST_LOG": "warn",
        }
        if self._mqtt_url is not None:
            environment |= {
                "MQTT_URL": self._mqtt_url,
                "MQTT_USERNAME": "vtn",
                "MQTT_PASSWORD": "x",
            }
        self._process = self._spawn(environment)
        async with asyncio.timeout(30):
            while not await self._answers():
                assert self._process.poll() is None, "the VTN ended"
                await asyncio.sleep(0.05)

    def _spawn(self, environment: dict[str, str]) -> subprocess.Popen[bytes]:
        with (self._postgres.folder / "vtn.log").open("ab") as log:
            return subprocess.Popen(
                [self._program], env=environment, stdout=log, stderr=log, cwd="/"
            )

    def stop(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait(10)

    async def admit(self, client_id: str | None = None, scopes: str = VEN_SCOPES) -> None:
        """Make an OAuth client: the VEN's unless said otherwise."""
        user = {"reference": "site", "description": None, "scope": scopes.split()}
        made = await self.ask("POST", "users", user)
        credential = {"client_id": client_id or self.client_id, "client_secret": self.secret}
        await self.ask("POST", f"users/{made['id']}", credential)

    async def ask(self, method: str, path: str, body: Any = None, query: Any = None) -> Any:
        """Do as business logic."""
        headers = {"Authorization": f"Bearer {self._token()}"}
        async with (
            aiohttp.ClientSession() as session,
            session.request(
                method, f"{self.url}/{path}", json=body, params=query, headers=headers
            ) as response,
        ):
            text = await response.text()
            assert response.status < 300, f"{method} {path}: {response.status} {text}"
            return json.loads(text) if text else None

    async def _answers(self) -> bool:
        try:
            async with (
                aiohttp.ClientSession() as session,
                session.get(f"{self.url}/auth/server") as response,
            ):
                return response.status == 200
        except aiohttp.ClientError:
            return False

    def _token(self) -> str:
        """A JSON Web Token of the VTN's own kind (HS256)."""
        now = int(time.time())
        claims = {
            "sub": "business",
            "exp": now + 600,
            "iat": now,
            "nbf": now - 5,
            "scope": BL_SCOPES,
        }
        parts = [
            _url64(json.dumps(part).encode()) for part in ({"alg": "HS256", "typ": "JWT"}, claims)
        ]
        signed = ".".join(parts)
        mac = hmac.new(self._key, signed.encode(), hashlib.sha256).digest()
        return f"{signed}.{_url64(mac)}"


def _url64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
