"""The files with secrets that a configuration names, looked at by the code that uses them at start."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from agent.errors import ConfigError
from agent.openadr.settings import VenSettings
from agent.openadr.tls import tls_context
from agent.openadr.v3.settings import Ven3Settings
from agent.openadr.v3.tokens import read_secret
from agent.openadr.v3.webhook import webhook_tls
from agent.openadr.v20b.settings import Ven20bSettings
from agent.web.credentials import read_token, server_tls
from agent.web.settings import WebSettings

_VEN_FILES = ("cert", "key", "ca", "sign_cert", "sign_key")
_COME_BY = {
    "cert": "; `flexload enroll` says how to come by it",
    "key": "; `flexload enroll` makes it",
}
"""What helps where a VEN's file is still missing."""


def credential_faults(vens: Sequence[VenSettings], web: WebSettings) -> Iterator[str]:
    """What keeps the agent from using them: a sentence each."""
    for i, ven in enumerate(vens):
        if isinstance(ven, Ven3Settings):
            yield from _refused(read_secret, ven)
            unreadable = list(_unreadable(f"ven[{i}].webhook", ven.webhook, ("cert", "key")))
            yield from unreadable or _refused(webhook_tls, ven)
        unreadable = list(_unreadable(f"ven[{i}]", ven, _VEN_FILES, _COME_BY))
        yield from unreadable
        if not unreadable and ven.vtn_url.startswith("https:"):
            yield from _refused(tls_context, ven)
        if not unreadable and isinstance(ven, Ven20bSettings) and ven.sign:
            from agent.openadr.v20b.signing import read_seal  # noqa: PLC0415 - costs 9 MB

            yield from _refused(read_seal, ven)
    unreadable = list(_unreadable("web", web, ("cert", "key")))
    yield from unreadable
    if not unreadable:
        yield from _refused(server_tls, web)
    yield from _refused(read_token, web)


def _unreadable(
    table: str, settings: object, keys: Sequence[str], come_by: Mapping[str, str] | None = None
) -> Iterator[str]:
    for key in keys:
        file: Path | None = getattr(settings, key, None)
        if file is None:
            continue
        try:
            with file.open("rb"):
                pass
        except OSError as error:
            missing = isinstance(error, FileNotFoundError) and file.parent.exists()
            advice = come_by.get(key, "") if missing and come_by else ""
            yield f"{table}.{key}: {file} cannot be read: {error.strerror}{advice}"


def _refused(use: Callable[[Any], object], settings: object) -> Iterator[str]:
    try:
        use(settings)
    except ConfigError as error:
        yield from error.problems
