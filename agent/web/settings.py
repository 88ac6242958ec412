"""Settings of the page and the API, as they stand in the configuration."""

import ipaddress
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator


class WebSettings(BaseModel):
    """Where the page listens. Loopback needs nothing more; anything else needs TLS and a token."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    listen: str = Field("127.0.0.1:9430", description="Address and port; port 0 picks a free one.")
    cert: Path | None = Field(None, description="TLS certificate chain, PEM.")
    key: Path | None = Field(None, description="TLS private key, PEM.")
    token_file: Path | None = Field(
        None, description="File with the bearer token that every request must carry."
    )

    @field_validator("listen")
    @classmethod
    def _is_address(cls, listen: str) -> str:
        split_address(listen)
        return listen

    @model_validator(mode="after")
    def _is_guarded(self) -> "WebSettings":
        loopback = ipaddress.ip_address(split_address(self.listen)[0]).is_loopback
        if not loopback and not (self.cert and self.key and self.token_file):
            raise ValueError(
                f"listening on {self.listen} is open to the network: it needs cert, key and "
                "token_file; or listen on 127.0.0.1"
            )
        if (self.cert is None) != (self.key is None):
            raise ValueError("cert and key go together")
        return self


def split_address(listen: str) -> tuple[str, int]:
    """IP address and port of an address such as `127.0.0.1:9430`, `[::1]:9430` or `localhost:9430`.

    Raises `ValueError` saying what is allowed.
    """
    host, _, digits = listen.rpartition(":")
    try:
        address = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host.strip("[]"))
        port = int(digits)
        if not 0 <= port <= 65535:
            raise ValueError
    except ValueError:
        raise ValueError("must be an IP address and a port, like 127.0.0.1:9430") from None
    return str(address), port
