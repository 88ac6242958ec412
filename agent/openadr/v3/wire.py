"""What a VTN of OpenADR 3 can say, as values; nothing here knows HTTP or what events mean.

Lenient, because the specification's own examples are: unknown fields are ignored, null is the same as
absent, ids may be numbers, and times and durations stay as they were sent until somebody needs them.
What is unusable all the same is one object, named with its reason, and never its neighbours.

Both versions are read alike. Where they differ (3.0.1 writes targets as values maps, 3.1.0 as names)
either form passes.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from pydantic import (
    AliasChoices,
    AliasPath,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

# For what comes by the hundred thousand; nulls are declared there, not looked for.
from pydantic.dataclasses import dataclass as light

from agent.errors import quote

MOST_WORDS = 200
"""Characters of a reason: what is quoted in it is a stranger's."""
Name = Annotated[str, Field(max_length=1000)]
"""An id, a name or a type; the documents allow 128 characters. What is kept and shown has to end somewhere."""
Url = Annotated[str, Field(max_length=2000)]


_LENIENT = ConfigDict(extra="ignore", coerce_numbers_to_str=True)


class _Received(BaseModel):
    model_config = ConfigDict(**_LENIENT, frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _null_is_absent(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        return {key: value for key, value in data.items() if value is not None}


@light(config=_LENIENT, frozen=True, slots=True)
class WirePeriod:
    """An intervalPeriod: where an interval lies, each part as sent or absent."""

    start: str | None = None
    duration: str | None = None
    randomize_start: str | None = Field(default=None, validation_alias="randomizeStart")


@light(config=_LENIENT, frozen=True, slots=True)
class WirePayload:
    """A valuesMap: some values of one type. A single value outside of a list is one, too."""

    type: Name
    values: Any = None

    @property
    def listed(self) -> list[Any]:
        """Its values, always as a list."""
        if isinstance(self.values, list):
            return self.values
        return [] if self.values is None else [self.values]


@light(config=_LENIENT, frozen=True, slots=True)
class WireInterval:
    """One interval of an event."""

    id: Any = None
    period: WirePeriod | None = Field(default=None, validation_alias="intervalPeriod")
    payloads: tuple[WirePayload, ...] | None = None


def _whole(value: Any) -> int | None:
    """A whole number, or nothing where there is none to be read."""
    try:
        return None if isinstance(value, bool) else int(value)
    except (TypeError, ValueError, OverflowError):
        return None


def _whole_or(default: int) -> BeforeValidator:
    """What is no whole number counts as absent."""

    def read(value: Any) -> int:
        number = _whole(value)
        return default if number is None else number

    return BeforeValidator(read)


def _letters(value: Any) -> Any:
    return value.replace("_", "").upper() if isinstance(value, str) else value


_Count = Annotated[int, _whole_or(-1)]
_PAYLOAD_TYPE = AliasChoices("payloadType", "payLoadType")
"""Spelt both ways in the User Guide."""


class WirePayloadDescriptor(_Received):
    """What the values of one payload type are measured in."""

    payload_type: Name = Field("", validation_alias=_PAYLOAD_TYPE)
    units: Name = ""


class WireReportDescriptor(_Received):
    """A request for reports. Whole numbers that are none count as absent."""

    payload_type: Name = Field(min_length=1, validation_alias=_PAYLOAD_TYPE)
    reading_type: str = Field("", validation_alias="readingType")
    units: Name = ""
    aggregate: bool = False
    start_interval: _Count = Field(-1, validation_alias="startInterval")
    num_intervals: _Count = Field(-1, validation_alias="numIntervals")
    historical: bool = True
    frequency: _Count = -1
    repeat: Annotated[int, _whole_or(1)] = 1
    targets: Any = None
    """As sent: names, or values maps in 3.0.1."""

    def targets_of(self, kind: str) -> frozenset[str]:
        """The values of its targets of one type; `""` is names without a type."""
        listed = self.targets if isinstance(self.targets, list) else []
        if not kind:
            return frozenset(target for target in listed if isinstance(target, str))
        maps = (target for target in listed if isinstance(target, dict))
        found = [target.get("values") for target in maps if target.get("type") == kind]
        return frozenset(
            str(value) for values in found if isinstance(values, list) for value in values
        )


class WireEvent(_Received):
    """An event as sent."""

    id: Name = Field(min_length=1)
    program_id: Name = Field("", validation_alias="programID")
    name: str = Field("", validation_alias="eventName")
    created: str | None = Field(None, validation_alias="createdDateTime")
    modified: str | None = Field(None, validation_alias="modificationDateTime")
    priority: Annotated[int | None, BeforeValidator(_whole)] = None
    duration: str | None = None
    period: WirePeriod | None = Field(None, validation_alias="intervalPeriod")
    intervals: tuple[WireInterval, ...] = ()
    payload_descriptors: tuple[WirePayloadDescriptor, ...] = Field(
        (), validation_alias="payloadDescriptors"
    )
    report_descriptors: Any = Field(None, validation_alias="reportDescriptors")
    """As sent: an event counts, however wrong what it asks to be reported."""


class WireProgram(_Received):
    """A program as sent: its name, and what the payloads of its events are measured in."""

    id: Name = Field(min_length=1)
    name: Name = Field(min_length=1, validation_alias="programName")
    payload_descriptors: tuple[WirePayloadDescriptor, ...] = Field(
        (), validation_alias="payloadDescriptors"
    )


class WireVen(_Received):
    """A ven object as sent."""

    id: Name = Field(min_length=1)
    name: Name = Field("", validation_alias="venName")


class WireResource(_Received):
    """A resource object as sent."""

    id: Name = Field(min_length=1)
    name: str = Field("", validation_alias="resourceName")


class WireProblem(_Received):
    """Why a request was refused (RFC 7807, RFC 6749 section 5.2); every part of it may be missing."""

    title: str = ""
    detail: str = ""
    error: str = ""
    description: str = Field("", validation_alias="error_description")


class WireOperations(_Received):
    """Which operations on objects a subscription is to, and where notifications of them go."""

    url: str = Field("", validation_alias="callbackUrl")


class WireSubscription(_Received):
    """A subscription as sent."""

    id: Name = Field(min_length=1)
    client_name: str = Field("", validation_alias="clientName")
    program_id: Name = Field("", validation_alias="programID")
    operations: tuple[WireOperations, ...] = Field((), validation_alias="objectOperations")

    @property
    def urls(self) -> tuple[str, ...]:
        """Where notifications go."""
        return tuple(o.url for o in self.operations)


class WireToken(_Received):
    """The answer to a request for a token (RFC 6749 section 5.1)."""

    access_token: str = Field(min_length=1, max_length=65_535)
    """No longer than MQTT can carry."""
    expires_in: float | None = None


class WireAuthServer(_Received):
    """Where tokens are to be had (3.1.0)."""

    token_url: Url = Field(min_length=1, validation_alias="tokenURL")


class WireMqtt(_Received):
    """How to reach a VTN's MQTT broker (3.1.0)."""

    urls: tuple[Url, ...] = Field(min_length=1, validation_alias="URIS")
    method: Annotated[str, BeforeValidator(_letters)] = Field(
        "", validation_alias=AliasPath("authentication", "method")
    )
    """As sent, without underscores, which openleadr-rs leaves out."""
    username: Name = Field("", validation_alias=AliasPath("authentication", "username"))
    ca: str = Field("", validation_alias=AliasPath("authentication", "caCert"))
    cert: str = Field("", validation_alias=AliasPath("authentication", "clientCert"))
    key: str = Field("", validation_alias=AliasPath("authentication", "clientKey"))


class WireNotifiers(_Received):
    """How a VTN notifies (3.1.0)."""

    mqtt: WireMqtt | None = Field(None, validation_alias="MQTT")


class WireTopics(_Received):
    """Where notifications of one kind are to be heard (3.1.0)."""

    by_operation: dict[str, Any] = Field(validation_alias="topics")

    @property
    def names(self) -> tuple[str, ...]:
        """The topics to subscribe to: one for all where there is one."""
        known = {o: t for o, t in self.by_operation.items() if isinstance(t, str) and t}
        return (known["ALL"],) if "ALL" in known else tuple(known.values())


@dataclass(frozen=True, slots=True)
class RejectedObject:
    """One object that cannot be used: which, where in it, and why."""

    kind: str
    """`event`, `program`."""
    object_id: str
    """As sent; `#3` for the third of a list where it has none."""
    field: str
    """Path within it: `intervals.2.payloads.0.type`; empty where it is the object as a whole."""
    why: str

    def __str__(self) -> str:
        """`event 'ev-1': intervals.2.payloads.0.type: Field required`."""
        where = f"{self.field}: " if self.field else ""
        return f"{self.kind} {quote(self.object_id)}: {where}{self.why[:MOST_WORDS]}"


Received = TypeVar("Received", bound=BaseModel)


def read_object(
    model: type[Received], document: Any, kind: str, place: int = 1
) -> Received | RejectedObject:
    """One object, or why it is none; `place` is its place in the list that held it, from 1."""
    object_id = f"#{place}"
    if isinstance(document, dict) and isinstance(document.get("id"), str | int):
        object_id = str(document["id"]) or object_id
    try:
        return model.model_validate(document)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        return RejectedObject(kind, object_id, field, first["msg"])


def read_objects(
    model: type[Received], documents: Iterable[Any], kind: str
) -> tuple[tuple[Received, ...], tuple[RejectedObject, ...]]:
    """The usable objects of a list in order, and the others."""
    good: list[Received] = []
    bad: list[RejectedObject] = []
    for place, document in enumerate(documents, start=1):
        read = read_object(model, document, kind, place)
        if isinstance(read, RejectedObject):
            bad.append(read)
        else:
            good.append(read)
    return tuple(good), tuple(bad)
