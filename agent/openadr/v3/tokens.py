"""OAuth2 client credentials: a token when one is needed, and another before it runs out."""

import asyncio
from urllib.parse import urljoin, urlsplit

from pydantic import ValidationError

from agent.clock import Clock
from agent.errors import ConfigError, WireError
from agent.openadr.v3.http import Http
from agent.openadr.v3.settings import Ven3Settings
from agent.openadr.v3.wire import WireAuthServer, WireToken

LASTS_S = 3600.0
"""How long a token lasts that does not say so."""
LONGEST_S = 86_400.0
SPARE_S = 30.0
"""So long before its end, or after nine tenths of it, a token is renewed."""


class Tokens:
    """Keeps one client's token."""

    def __init__(self, settings: Ven3Settings, http: Http, clock: Clock) -> None:
        """Read the secret; raises `ConfigError` when it cannot be used."""
        self._settings = settings
        self._secret = read_secret(settings)
        self._http = http
        self._clock = clock
        self._token: str | None = None
        self._good_until_s = 0.0
        self._lock = asyncio.Lock()

    async def current(self) -> str:
        """A token that is still good. Raises `WireError` or `UnreachableError`."""
        async with self._lock:
            if self._token is None or self._clock.instant().boot_s >= self._good_until_s:
                self._token = None
                self._token = await self._fetch()
            return self._token

    def refused(self, token: str) -> None:
        """A server would not have this one: the next is a new one."""
        if self._token == token:
            self._token = None

    async def _fetch(self) -> str:
        url = await self._find_server()
        began_s = self._clock.instant().boot_s
        form = {
            "grant_type": "client_credentials",
            "client_id": self._settings.client_id or "",
            "client_secret": self._secret,
        }
        if self._settings.scope is not None:
            form["scope"] = self._settings.scope
        answer = await self._http.ask("POST", url, form=form)
        try:
            token = WireToken.model_validate(answer)
        except ValidationError:
            raise WireError(f"{url} answered without a token") from None
        lasts_s = min(max(0.0, token.expires_in or LASTS_S), LONGEST_S)
        self._good_until_s = began_s + max(lasts_s * 0.9, lasts_s - SPARE_S)
        return token.access_token

    async def _find_server(self) -> str:
        """Where tokens are to be had: as configured, or as a VTN of 3.1.0 says, or at the VTN itself."""
        settings = self._settings
        if settings.token_url is not None:
            return settings.token_url
        if settings.version == "3.0.1":
            return f"{settings.vtn_url}/auth/token"
        asked = f"{settings.vtn_url}/auth/server"
        answer = await self._http.ask("GET", asked)
        try:
            url = urljoin(f"{settings.vtn_url}/", WireAuthServer.model_validate(answer).token_url)
        except (ValidationError, ValueError):
            raise WireError(f"{asked} does not say where tokens are to be had") from None
        if urlsplit(settings.vtn_url).scheme == "https" != urlsplit(url).scheme:
            raise WireError(
                f"{asked} wants our secret sent unencrypted, to {url[:100]!r}: it is not"
            )
        return url


def read_secret(settings: Ven3Settings) -> str:
    """The client's secret: its file, without white space at its ends. Raises `ConfigError`."""
    file = settings.client_secret
    if file is None:
        return ""
    try:
        secret = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        said = f"client_secret {file} cannot be read: {why}"
        raise ConfigError(f"ven {settings.name}: {said}") from error
    if not secret:
        raise ConfigError(f"ven {settings.name}: client_secret {file} is empty")
    return secret
