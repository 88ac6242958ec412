"""Which reports the site offers, and how they are described (METADATA).

Pure: `now` is an argument.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from agent.core.sample import Part
from agent.openadr.v20b.settings import Ven20bSettings
from agent.store.history import KEEP

METADATA = "METADATA"
"""The specifier under which a VTN asks for our offer itself."""
HISTORY = "HISTORY_USAGE"

_WHOLE = timedelta(seconds=1)


class Quantity(StrEnum):
    """What a data point says."""

    POWER = "power"
    ENERGY = "energy"
    STATUS = "status"


_KINDS = {
    Quantity.POWER: ("usage", "Mean"),
    Quantity.ENERGY: ("usage", "Net"),
    Quantity.STATUS: ("x-resourceStatus", "x-notApplicable"),
}
"""Report type and reading type."""


@dataclass(frozen=True, slots=True)
class Channel:
    """One data point that is offered: one quantity of one resource."""

    r_id: str
    resource: str
    part: Part
    quantity: Quantity


@dataclass(frozen=True, slots=True)
class Offer:
    """One report the site can make."""

    specifier_id: str
    name: str
    channels: tuple[Channel, ...]

    @property
    def r_ids(self) -> tuple[str, ...]:
        """All its data points, by name."""
        return tuple(channel.r_id for channel in self.channels)

    def channel(self, r_id: str) -> Channel:
        """One of its data points."""
        return next(channel for channel in self.channels if channel.r_id == r_id)


def offers_of(settings: Ven20bSettings) -> tuple[Offer, ...]:
    """The profile's minimum (2.0b rule 510), and the history, of everything that is measured."""
    resources = {Part.SITE: settings.resource, Part.GPUS: settings.gpus_resource}
    measured = [(part, resource) for part, resource in resources.items() if resource]

    def channels(suffix: str, *quantities: Quantity) -> tuple[Channel, ...]:
        return tuple(
            Channel(f"{resource}-{quantity}{suffix}", resource, part, quantity)
            for part, resource in measured
            for quantity in quantities
        )

    return (
        Offer("usage", "TELEMETRY_USAGE", channels("", Quantity.POWER, Quantity.ENERGY)),
        Offer("status", "TELEMETRY_STATUS", channels("", Quantity.STATUS)),
        Offer("history", HISTORY, channels("-history", Quantity.POWER, Quantity.ENERGY)),
    )


def offer_for(specifier_id: str, settings: Ven20bSettings) -> Offer | None:
    """The offer a specifier stands for, if any."""
    return next((o for o in offers_of(settings) if o.specifier_id == specifier_id), None)


def metadata_of(settings: Ven20bSettings, now: datetime) -> tuple[Mapping[str, Any], ...]:
    """The offers as METADATA reports, in the templates' terms."""
    return tuple(
        {
            "duration": KEEP,
            "report_descriptions": [_description(settings, c) for c in offer.channels],
            "report_specifier_id": offer.specifier_id,
            "report_name": f"METADATA_{offer.name}",
            "created_date_time": now,
        }
        for offer in offers_of(settings)
    )


def digest_of(settings: Ven20bSettings) -> str:
    """What the offer depends on: when it changes, the VTN must hear of it."""
    r_ids = " ".join(r_id for offer in offers_of(settings) for r_id in offer.r_ids)
    return (
        f"{r_ids} {settings.report_min_s:g}-{settings.report_max_s:g} s "
        f"{settings.mains_hz} Hz {settings.mains_v} V {_market_context(settings)}"
    )


def _description(settings: Ven20bSettings, channel: Channel) -> Mapping[str, Any]:
    kind, reading = _KINDS[channel.quantity]
    return {
        "r_id": channel.r_id,
        "report_subject": None,
        "report_data_source": {
            "emix_interfaces": None,
            "group_id": None,
            "group_name": None,
            "resource_id": channel.resource,
            "ven_id": None,
            "party_id": None,
        },
        "report_type": kind,
        "reading_type": reading,
        "market_context": _market_context(settings),
        "measurement": _measurement(settings, channel.quantity),
        "sampling_rate": {
            # The schema knows whole seconds only.
            "min_period": -(-timedelta(seconds=settings.report_min_s) // _WHOLE) * _WHOLE,
            "max_period": timedelta(seconds=settings.report_max_s) // _WHOLE * _WHOLE,
            "on_change": False,
        },
    }


def _measurement(settings: Ven20bSettings, quantity: Quantity) -> Mapping[str, Any] | None:
    if quantity is Quantity.STATUS:
        return None
    power = quantity is Quantity.POWER
    mains = {"hertz": settings.mains_hz, "voltage": settings.mains_v, "ac": True}
    return {
        "ns": "power",
        "name": "powerReal" if power else "energyReal",
        "description": "RealPower" if power else "RealEnergy",
        "unit": "W" if power else "Wh",
        "scale": "none",
        "pulse_factor": None,
        "power_attributes": mains if power else None,
    }


def _market_context(settings: Ven20bSettings) -> str | None:
    """The program that reports are for, where there is only one: a description has room for one."""
    return settings.market_contexts[0] if len(settings.market_contexts) == 1 else None
