"""Certificates and keys from files, with a sentence that names the one that is wrong."""

import ssl
from pathlib import Path

from agent.errors import ConfigError


def load_chain(context: ssl.SSLContext, cert: Path, key: Path | None, whose: str) -> None:
    """Make a context show a certificate. Raises `ConfigError` with the file at fault: after `whose`, like
    `web.` or `ven utility: `, comes `cert` or `key`.
    """
    try:
        # An encrypted key must fail here, not ask whoever has a terminal.
        context.load_cert_chain(cert, key, password=lambda: b"")
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise ConfigError(
                f"{whose}key {key} is not that of the certificate in {cert}"
            ) from error
        if _holds_certificate(cert):
            said = "holds no private key that can be used (PEM, not encrypted)"
            raise ConfigError(f"{whose}key {key or cert} {said}") from error
        raise ConfigError(f"{whose}cert {cert} holds no certificate (PEM)") from error
    except OSError as error:
        said = f"cert {cert} with key {key} cannot be read: {error.strerror}"
        raise ConfigError(f"{whose}{said}") from error


def _holds_certificate(cert: Path) -> bool:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cert)
    except (OSError, ssl.SSLError):
        return False
    return True
