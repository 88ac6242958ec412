"""Settings of an OpenADR 3 VEN, as they stand in the configuration."""

from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from agent.fields import Address, is_loopback
from agent.openadr.settings import Seconds, VenSettings

Name = Annotated[str, Field(min_length=1, max_length=128)]
"""What OpenADR 3 allows for names and targets."""


class WebhookSettings(BaseModel):
    """Where a VTN's notifications come in."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    listen: Address = Field(description="Address and port to listen on.")
    url: str = Field(max_length=8000, description="Where the VTN finds that: given to it as it is.")
    cert: Path | None = Field(None, description="TLS certificate chain, PEM.")
    key: Path | None = Field(None, description="Its private key, PEM.")

    @field_validator("url")
    @classmethod
    def _is_https(cls, url: str) -> str:
        try:
            parts = urlsplit(url)
            usable = parts.scheme == "https" and parts.hostname and parts.port != 0
        except ValueError:  # a port that is none
            usable = False
        if not usable or not url.isprintable() or any(sign in url for sign in " ?#"):
            raise ValueError("must be like https://site.example.com:9443/grid")
        return url

    @model_validator(mode="after")
    def _is_encrypted(self) -> Self:
        if (self.cert is None) != (self.key is None):
            raise ValueError("cert and key go together")
        if self.cert is None and not is_loopback(self.listen):
            raise ValueError(
                f"listening on {self.listen} needs cert and key; or listen on 127.0.0.1, behind a "
                "proxy that speaks TLS"
            )
        return self


class Ven3Settings(VenSettings):
    """One OpenADR 3 VEN: which VTN it belongs to, who it is there, and how it shows that."""

    kind: Literal["openadr-3"]
    version: Literal["3.0.1", "3.1.0"] = Field(
        "3.1.0", description="What the VTN speaks; the two are not alike on the wire."
    )
    vtn_url: str = Field(description="Its base URL, to which /programs and /events are added.")
    ven_name: Name = Field("", validate_default=False, description="Name of our ven object there.")
    resource: Name = Field("site", description="Name of the site's resource object there.")
    market_contexts: tuple[str, ...] = Field(
        (), description="Names of programs to take events of; empty: all that no other VEN lists."
    )
    targets: tuple[Name, ...] = Field(
        (),
        description="3.1.0: ask for what has these targets; empty: for all that is granted to us.",
    )
    poll_s: Seconds = Field(10.0, description="How often to poll.")
    max_bytes: int = Field(
        16_000_000, ge=10_000, strict=True, description="Longest answer to read."
    )
    client_id: str | None = Field(None, min_length=1, description="OAuth client; none: anonymous.")
    client_secret: Path | None = Field(None, description="File with the client's secret.")
    token_url: str | None = Field(
        None, description="Where tokens are to be had; none: where the VTN says."
    )
    scope: str | None = Field(None, description="Scopes to ask for; none: what the server gives.")
    proxy: str | None = Field(None, description="HTTP proxy to reach the VTN through.")

    mqtt: bool | Literal["auto"] = Field(
        "auto",
        description="3.1.0: hear of changes by MQTT: true, false, or auto: where the VTN has a broker.",
    )

    webhook: WebhookSettings | None = Field(
        None, description="Hear of changes by webhook; none: do not listen."
    )

    @field_validator("token_url", "proxy")
    @classmethod
    def _is_http(cls, url: str | None, about: ValidationInfo) -> str | None:
        try:
            parts = urlsplit(url or "http://none")
            usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        except ValueError:  # a port that is none
            usable = False
        if not usable:
            tokens = about.field_name == "token_url"
            example = "https://login.example.com/token" if tokens else "http://proxy.example:3128"
            raise ValueError(f"must be like {example}")
        return url

    @model_validator(mode="after")
    def _has_both(self) -> Self:
        if (self.client_id is None) != (self.client_secret is None):
            raise ValueError("client_id and client_secret go together")
        return self

    @model_validator(mode="after")
    def _keeps_its_secret(self) -> Self:
        plain = urlsplit(self.token_url or "").scheme == "http"
        if plain and urlsplit(self.vtn_url).scheme == "https":
            raise ValueError("token_url must be https where vtn_url is: the secret goes there")
        return self

    @model_validator(mode="after")
    def _can_hear(self) -> Self:
        if self.mqtt is True and self.version == "3.0.1":
            raise ValueError("mqtt is for version 3.1.0: 3.0.1 knows no broker")
        return self

    @classmethod
    def example_url(cls) -> str:
        """What `vtn_url` looks like."""
        return "https://vtn.example.com/openadr3/3.1.0"

    @property
    def label(self) -> str:
        """Its name at the VTN: the VEN name, or its name here."""
        return self.ven_name or self.name
