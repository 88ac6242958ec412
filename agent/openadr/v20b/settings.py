"""Settings of an OpenADR 2.0b VEN, as they stand in the configuration."""

import re
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from agent.openadr.settings import Identifier, Seconds, VenSettings


def _as_fingerprint(said: object) -> object:
    """With or without colons, or as `openssl x509 -fingerprint` prints it, name and all."""
    if not isinstance(said, str):
        return said
    digits = said.rpartition("=")[2].strip().replace(":", "").upper()
    if re.fullmatch(r"([0-9A-F]{2}){10}(([0-9A-F]{2}){22})?", digits) is None:
        raise ValueError(
            "is no fingerprint: the last 10 bytes of the certificate's SHA-256, or all 32, "
            "in hexadecimal digits"
        )
    return ":".join(digits[at : at + 2] for at in range(0, len(digits), 2))


Fingerprint = Annotated[
    str,
    BeforeValidator(_as_fingerprint),
    Field(
        pattern=r"^([0-9A-F]{2}:){9}(([0-9A-F]{2}:){22})?[0-9A-F]{2}$",
        description="The last ten bytes of a certificate's SHA-256, or all 32: 00:11:AA and so on.",
    ),
]


def _several(said: object) -> object:
    return (said,) if isinstance(said, str) else said


class Ven20bSettings(VenSettings):
    """One 2.0b VEN: which VTN it belongs to, who it is there, and what it offers to report."""

    kind: Literal["openadr-2.0b"]
    vtn_url: str = Field(description="Up to and including /OpenADR2/Simple/2.0b.")
    ven_name: Identifier = Field("", validate_default=False, description="Name shown to the VTN.")
    ven_id: Identifier | None = Field(None, description="Only where the utility assigned one.")
    resource: Identifier = Field("site", description="Resource id of the site at the VTN.")
    gpus_resource: str = Field(
        "gpus",
        max_length=255,
        pattern=r"^[ -~]*$",
        description="Resource id of its GPUs together at the VTN; empty: not reported on.",
    )
    poll_s: Seconds | None = Field(
        None, description="Poll no more often than this; the VTN's own period is a minimum, too."
    )
    sign: bool = Field(False, strict=True, description="Sign what is sent (XML signatures).")
    sign_cert: Path | None = Field(None, description="Certificate chain to sign with; none: cert.")
    sign_key: Path | None = Field(None, description="Its private key, PEM; none: key.")
    vtn_fingerprint: Annotated[tuple[Fingerprint, ...], BeforeValidator(_several)] = Field(
        (),
        description="Take only what is signed with the certificate of this fingerprint, or with one "
        "of several.",
    )
    replay_window_s: Seconds = Field(
        60.0, description="How far the time of a signature may be off, either way."
    )
    report_min_s: float = Field(
        1.0,
        ge=0.1,
        allow_inf_nan=False,
        strict=True,
        description="Shortest report interval offered.",
    )
    report_max_s: float = Field(
        86_400.0, ge=1.0, le=86_400.0, strict=True, description="Longest report interval offered."
    )
    mains_hz: int = Field(
        50, gt=0, strict=True, description="Frequency of the supply, named in reports."
    )
    mains_v: int = Field(
        230, gt=0, strict=True, description="Voltage of the supply, named in reports."
    )

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if (self.sign_cert is None) != (self.sign_key is None):
            raise ValueError("sign_cert and sign_key go together")
        if self.sign and self.sign_cert is None and self.cert is None:
            raise ValueError("sign needs cert and key, or sign_cert and sign_key")
        if self.report_min_s > self.report_max_s:
            raise ValueError("report_min_s must not exceed report_max_s")
        if self.gpus_resource == self.resource:
            raise ValueError("gpus_resource must not be what resource is")
        return self

    def _keys_of_tls(self) -> tuple[str, ...]:
        return ("ca", "vtn_host") if self.sign else super()._keys_of_tls()

    @classmethod
    def example_url(cls) -> str:
        """What `vtn_url` looks like in this profile."""
        return "https://vtn.example.com/OpenADR2/Simple/2.0b"

    @property
    def label(self) -> str:
        """What the VTN shows: the VEN name, or its name here."""
        return self.ven_name or self.name
