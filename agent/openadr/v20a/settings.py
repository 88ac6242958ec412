"""Settings of an OpenADR 2.0a VEN, as they stand in the configuration."""

from typing import Literal

from pydantic import Field, field_validator

from agent.openadr.settings import Identifier, Seconds, VenSettings

SERVICE = "EiEvent"


class Ven20aSettings(VenSettings):
    """One 2.0a VEN. There is no registration: who it is was agreed on by other means."""

    kind: Literal["openadr-2.0a"]
    vtn_url: str = Field(description="Up to and including /OpenADR2/Simple.")
    ven_id: Identifier = Field(description="The venID that the VTN's operator assigned.")
    vtn_id: Identifier | None = Field(
        None, description="The VTN's own id, where it is known: events of any other are refused."
    )
    resource: Identifier | None = Field(
        None,
        description="The site's resourceID at the VTN; an event that names resources must name it.",
    )
    poll_s: Seconds = Field(60.0, description="Period between polls; the profile leaves it to us.")

    @field_validator("vtn_url")
    @classmethod
    def _is_the_service_s_folder(cls, url: str) -> str:
        """Aggregators write down the whole address of the one service: both forms will do."""
        return url.removesuffix(f"/{SERVICE}")

    @property
    def label(self) -> str:
        """What the VTN's operator knows it as: the venID, as the profile has no names."""
        return self.ven_id

    @classmethod
    def example_url(cls) -> str:
        """What `vtn_url` looks like in this profile."""
        return "https://vtn.example.com/OpenADR2/Simple"
