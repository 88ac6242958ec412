"""The base of every driver's settings: unknown keys are errors, values are frozen."""

from pydantic import BaseModel, ConfigDict


class DriverSettings(BaseModel):
    """Settings of one driver, as they stand in the configuration under its `kind`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: str
