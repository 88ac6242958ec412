"""Settings of the page and the API, as they stand in the configuration."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, model_validator

from agent.fields import Address, is_loopback


class WebSettings(BaseModel):
    """Where the page listens. Loopback needs nothing more; anything else needs TLS and a token."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    listen: Address = Field(
        "127.0.0.1:9430", description="Address and port; port 0 picks a free one."
    )
    cert: Path | None = Field(None, description="TLS certificate chain, PEM.")
    key: Path | None = Field(None, description="TLS private key, PEM.")
    token_file: Path | None = Field(
        None, description="File with the bearer token that every request must carry."
    )

    @model_validator(mode="after")
    def _is_guarded(self) -> "WebSettings":
        if not is_loopback(self.listen) and not (self.cert and self.key and self.token_file):
            raise ValueError(
                f"listening on {self.listen} is open to the network: it needs cert, key and "
                "token_file; or listen on 127.0.0.1"
            )
        if (self.cert is None) != (self.key is None):
            raise ValueError("cert and key go together")
        return self
