"""What every VEN's settings have in common, as they stand in the configuration."""

from pathlib import Path
from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False, strict=True)]
Identifier = Annotated[str, Field(min_length=1, max_length=255, pattern=r"^[ -~]+$")]


class VenSettings(BaseModel):
    """What every VEN needs to know: its VTN, who it is there, and whose events it takes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: str
    name: Identifier = Field(description="What this VEN is called here; its events carry it.")
    vtn_url: str = Field(description="Where the VTN's services are.")
    ven_id: Identifier | None = None
    resource: Identifier | None = None
    market_contexts: tuple[str, ...] = Field(
        (), description="Market contexts to take events of; empty: all that no other VEN lists."
    )
    groups: tuple[str, ...] = Field(
        (), description="Group ids the utility counts the site in; empty: it alone knows."
    )
    parties: tuple[str, ...] = Field(
        (), description="Party ids the utility counts the site in; empty: it alone knows."
    )
    poll_s: Seconds | None = None
    cert: Path | None = Field(None, description="TLS client certificate chain, PEM.")
    key: Path | None = Field(None, description="Its private key, PEM.")
    ca: Path | None = Field(None, description="CA of the VTN, PEM; none: the system's.")
    vtn_host: str = Field(
        "", description="Name that the VTN's certificate must have, where it is not the URL's host."
    )
    timeout_s: Seconds = Field(10.0, description="Longest a request may take as a whole.")
    max_bytes: int = Field(2_000_000, ge=10_000, strict=True, description="Longest answer to read.")

    @field_validator("vtn_url")
    @classmethod
    def _is_url(cls, url: str) -> str:
        try:
            parts = urlsplit(url)
            usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        except ValueError:  # a port that is none
            usable = False
        if not usable or "?" in url:
            raise ValueError(f"must be like {cls.example_url()}")
        return url.rstrip("/")

    @model_validator(mode="after")
    def _is_paired(self) -> Self:
        if (self.cert is None) != (self.key is None):
            raise ValueError("cert and key go together")
        return self

    @model_validator(mode="after")
    def _is_not_in_the_clear_by_mistake(self) -> Self:
        if urlsplit(self.vtn_url).scheme != "https":
            for key in (key for key in self._keys_of_tls() if getattr(self, key)):
                raise ValueError(f"{key} is for TLS, for which vtn_url must begin with https:")
        return self

    def _keys_of_tls(self) -> tuple[str, ...]:
        """Settings that mean nothing without TLS."""
        return "cert", "ca", "vtn_host"

    @classmethod
    def example_url(cls) -> str:
        """What `vtn_url` looks like in this profile."""
        return "https://vtn.example.com/OpenADR2/Simple"

    @property
    def label(self) -> str:
        """What the VTN's operator knows it as."""
        return self.name
