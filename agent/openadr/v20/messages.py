"""What a VTN can say, as values. `reader` makes them from XML; nothing here knows XML or HTTP.

Ids are strings exactly as sent, also when they look like numbers. One faulty event or report
request is a value beside its sound neighbours.
"""

import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import IntEnum

from agent.core.event import Opt


class Code(IntEnum):
    """Response codes of the 2.0b profile."""

    OK = 200
    OUT_OF_SEQUENCE = 450
    NOT_ALLOWED = 451
    INVALID_ID = 452
    NOT_RECOGNIZED = 453
    INVALID_DATA = 454
    COMPLIANCE_ERROR = 459
    SIGNAL_NOT_SUPPORTED = 460
    REPORT_NOT_SUPPORTED = 461
    TARGET_MISMATCH = 462
    NOT_REGISTERED = 463
    OTHER = 469


class FaultError(Exception):
    """Why one event or report request is refused. Never leaves the function that quarantines it."""

    def __init__(self, code: Code, why: str) -> None:
        super().__init__(why)
        self.code = code
        self.why = why


@dataclass(frozen=True, slots=True)
class Response:
    """How the other side took a message (eiResponse)."""

    code: int
    description: str = ""
    request_id: str = ""

    @property
    def ok(self) -> bool:
        """Whether it was taken."""
        return 200 <= self.code < 300

    def __str__(self) -> str:
        """`463 (not registered)`."""
        return f"{self.code} ({self.description[:200]!r})" if self.description else f"{self.code}"


@dataclass(frozen=True, slots=True)
class WireInterval:
    """One interval of a signal as sent."""

    start: datetime | None
    duration: timedelta | None
    value: float


@dataclass(frozen=True, slots=True)
class WireSignal:
    """One signal of an event as sent."""

    name: str
    type: str
    item: str
    """Name of the element that holds the unit: `powerReal`; empty when there is none."""
    unit: str
    scale: str
    """SI scale code; `none` when there is none."""
    intervals: tuple[WireInterval, ...]


@dataclass(frozen=True, slots=True)
class Targets:
    """Whom an event is for (eiTarget); its entries are alternatives (2.0b rule 22)."""

    ven_ids: tuple[str, ...] = ()
    resource_ids: tuple[str, ...] = ()
    group_ids: tuple[str, ...] = ()
    party_ids: tuple[str, ...] = ()
    others: bool = False
    """Whether it names places or devices too, whose members only the VTN knows."""


@dataclass(frozen=True, slots=True)
class WireEvent:
    """One event as sent, its texts parsed and its meaning not yet judged."""

    event_id: str
    revision: int
    priority: int
    market_context: str
    created_at: datetime | None
    cancelled: bool
    test: bool
    comment: str
    starts_at: datetime
    duration: timedelta
    start_after: timedelta
    notification: timedelta | None
    ramp_up: timedelta | None
    recovery: timedelta | None
    signals: tuple[WireSignal, ...]
    targets: Targets
    response_required: bool


@dataclass(frozen=True, slots=True)
class RejectedEvent:
    """One event that cannot be used, with whatever of it could be read."""

    event_id: str
    """Empty when even that could not be read."""
    revision: int | None
    cancelled: bool
    response_required: bool
    code: Code
    why: str


@dataclass(frozen=True, slots=True)
class EventAnswer:
    """What a VTN is told of one event (eventResponse)."""

    event_id: str
    revision: int
    opt: Opt
    code: Code = Code.OK
    description: str = "OK"


@dataclass(frozen=True, slots=True)
class WireReportRequest:
    """One report a VTN asks for."""

    request_id: str
    specifier_id: str
    r_ids: tuple[str, ...]
    granularity: timedelta
    back_duration: timedelta
    starts_at: datetime | None
    """Start of the stretch to report on; None: now."""
    duration: timedelta | None
    """Length of that stretch; None or zero: without end."""


@dataclass(frozen=True, slots=True)
class RejectedRequest:
    """One report request that cannot be served."""

    request_id: str
    code: Code
    why: str


@dataclass(frozen=True, slots=True)
class OadrResponse:
    """A bare acknowledgement; in answer to a poll: nothing more is queued."""

    response: Response


@dataclass(frozen=True, slots=True)
class DistributeEvent:
    """All events the VTN has for us."""

    response: Response | None
    request_id: str
    vtn_id: str
    events: tuple[WireEvent | RejectedEvent, ...]


@dataclass(frozen=True, slots=True)
class CreatedPartyRegistration:
    """The answer to a registration."""

    response: Response
    registration_id: str
    ven_id: str
    vtn_id: str
    poll: timedelta | None
    profiles: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """What the VTN speaks: profile names, each with the names of its transports."""


@dataclass(frozen=True, slots=True)
class RequestReregistration:
    """The VTN wants us to register again."""

    ven_id: str


@dataclass(frozen=True, slots=True)
class CancelPartyRegistration:
    """The VTN ends our registration."""

    request_id: str
    registration_id: str
    ven_id: str


@dataclass(frozen=True, slots=True)
class CanceledPartyRegistration:
    """The answer to our ending the registration."""

    response: Response


@dataclass(frozen=True, slots=True)
class CreatedOpt:
    """The answer to an opt."""

    response: Response


@dataclass(frozen=True, slots=True)
class CanceledOpt:
    """The answer to taking an opt back."""

    response: Response


@dataclass(frozen=True, slots=True)
class CreateReport:
    """The VTN asks for reports."""

    request_id: str
    requests: tuple[WireReportRequest | RejectedRequest, ...]


@dataclass(frozen=True, slots=True)
class RegisteredReport:
    """The answer to our offer of reports, often with requests."""

    response: Response
    requests: tuple[WireReportRequest | RejectedRequest, ...]


@dataclass(frozen=True, slots=True)
class RegisterReport:
    """The VTN offers reports of its own, or asks for ours."""

    request_id: str


@dataclass(frozen=True, slots=True)
class CancelReport:
    """The VTN ends reports."""

    request_id: str
    report_request_ids: tuple[str, ...]
    to_follow: bool
    """Whether it wants one last report."""


@dataclass(frozen=True, slots=True)
class UpdatedReport:
    """The answer to a report."""

    response: Response
    cancel: CancelReport | None


@dataclass(frozen=True, slots=True)
class Unexpected:
    """A message that a VTN has no business sending a VEN, or one we do not know."""

    kind: str


Message = (
    OadrResponse
    | DistributeEvent
    | CreatedPartyRegistration
    | RequestReregistration
    | CancelPartyRegistration
    | CanceledPartyRegistration
    | CreatedOpt
    | CanceledOpt
    | CreateReport
    | RegisteredReport
    | RegisterReport
    | CancelReport
    | UpdatedReport
    | Unexpected
)


def new_id() -> str:
    """A fresh id for a message of ours."""
    return uuid.uuid4().hex
