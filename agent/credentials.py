"""The files with secrets that a configuration names, looked at by the code that uses them at start."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from agent.errors import ConfigError
from agent.openadr.v20b.http import tls_context
from agent.openadr.v20b.settings import VenSettings
from agent.web.credentials import read_token, server_tls
from agent.web.settings import WebSettings


def credential_faults(vens: Sequence[VenSettings], web: WebSettings) -> Iterator[str]:
    """What keeps the agent from using them: a sentence each."""
    for i, ven in enumerate(vens):
        unreadable = list(_unreadable(f"ven[{i}]", ven, ("cert", "key", "ca")))
        yield from unreadable
        if not unreadable and ven.vtn_url.startswith("https:"):
            yield from _refused(tls_context, ven)
    unreadable = list(_unreadable("web", web, ("cert", "key")))
    yield from unreadable
    if not unreadable:
        yield from _refused(server_tls, web)
    yield from _refused(read_token, web)


def _unreadable(table: str, settings: object, keys: Sequence[str]) -> Iterator[str]:
    for key in keys:
        file: Path | None = getattr(settings, key)
        if file is None:
            continue
        try:
            with file.open("rb"):
                pass
        except OSError as error:
            yield f"{table}.{key}: {file} cannot be read: {error.strerror}"


def _refused(use: Callable[[Any], object], settings: object) -> Iterator[str]:
    try:
        use(settings)
    except ConfigError as error:
        yield from error.problems
