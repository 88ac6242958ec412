"""What the web server takes from the files that its settings name: at start, and for `check-config`."""

import ssl

from agent.errors import ConfigError
from agent.tls import server_context
from agent.web.settings import WebSettings

SHORTEST_TOKEN = 16


def read_token(settings: WebSettings) -> str | None:
    """The token that every request must carry; None when none is asked for. Raises `ConfigError`."""
    path = settings.token_file
    if path is None:
        return None
    try:
        token = path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ConfigError(f"web.token_file: {path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"web.token_file: {path} is not UTF-8") from error
    if len(token) < SHORTEST_TOKEN:
        raise ConfigError(f"web.token_file: {path} holds fewer than {SHORTEST_TOKEN} characters")
    return token


def server_tls(settings: WebSettings) -> ssl.SSLContext | None:
    """How the server speaks TLS; None: it does not. Raises `ConfigError` for files of no use."""
    if settings.cert is None or settings.key is None:
        return None
    return server_context(settings.cert, settings.key, "web.")
