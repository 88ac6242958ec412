"""How the site stands with its grid's servers."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Departure:
    """That the operator took a VEN out of its program: it neither registers nor polls."""

    since: datetime
    by: str
    why: str


@dataclass(frozen=True, slots=True)
class Link:
    """How one VEN stands with its VTN."""

    ven: str
    url: str
    profile: str
    """`OpenADR 2.0b`."""
    registered: bool = False
    ven_id: str = ""
    poll_s: float | None = None
    last_contact: datetime | None = None
    """When the VTN last gave a usable answer."""
    lost_since: datetime | None = None
    """Since when it has not; None while it does."""
    trouble: str = ""
    """What is wrong, one sentence; empty when nothing is."""
    rejected: int = 0
    """Messages and events refused since the start."""
    notifications: int = 0
    """How often the VTN had us know since the start that something changed (OpenADR 3)."""
    reports_waiting: int = 0
    """Report intervals that are due and have not arrived."""
    certificate_expires: datetime | None = None
    """When the first of our own certificates does; None without one."""
    vtn_certificate_expires: datetime | None = None
    """When the one that the VTN last showed does; None before it showed one."""
    limits_void: bool = False
    """That the host started anew since the VTN last listed its events: for all we know the power was out,
    and no import limit counts until it has listed them again."""
    left: Departure | None = None
    """That it left, by the operator's will; None while it belongs to its program."""
