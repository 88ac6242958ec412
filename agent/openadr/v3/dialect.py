"""What the two versions of OpenADR 3 write differently, and what we write: strict on the way out.

Everything here is as the documents of 3.0.1 and 3.1.0 have it; the tests hold every request against
them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from agent.openadr.iso8601 import format_duration, format_time

Query = list[tuple[str, str]]
Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class ReportInterval:
    """One interval of a report, with its values."""

    interval_id: int
    start: datetime
    duration: timedelta
    payloads: tuple[tuple[str, float | str], ...]
    """Payload types with their value."""


@dataclass(frozen=True, slots=True)
class Report:
    """One report of one resource on one event."""

    name: str
    program_id: str
    event_id: str
    resource: str
    descriptors: tuple[tuple[str, str, str], ...]
    """Payload type, reading type and units of its values; empty where there are none."""
    intervals: tuple[ReportInterval, ...]


class Dialect:
    """3.1.0."""

    def vens(self, name: str) -> Query:
        """How to ask for a ven object of that name."""
        return [("venName", name)]

    def ven(self, name: str) -> Document:
        """A ven object, to be created."""
        return {"objectType": "VEN_VEN_REQUEST", "venName": name}

    def resources_path(self, ven_id: str) -> str:
        """Where the resources of a ven are."""
        return "resources"

    def resources(self, ven_id: str, name: str) -> Query:
        """How to ask there for one of that name."""
        return [("resourceName", name), ("venID", ven_id)]

    def resource(self, ven_id: str, name: str) -> Document:
        """A resource object, to be created."""
        return {"objectType": "VEN_RESOURCE_REQUEST", "resourceName": name, "venID": ven_id}

    def targets(self, names: Sequence[str]) -> Query:
        """How to ask for what is targeted."""
        return [("targets", name) for name in names]

    def subscription(
        self, client: str, program_id: str, url: str, token: str, targets: Sequence[str]
    ) -> Document:
        """A subscription to all that happens to programs and events."""
        operations = {
            "objects": ["PROGRAM", "EVENT"],
            "operations": ["CREATE", "UPDATE", "DELETE"],
            "callbackUrl": url,
            "bearerToken": token,
        }
        document: Document = {"clientName": client, "objectOperations": [operations]}
        return {**document, "targets": list(targets)} if targets else document

    def report(self, report: Report, client: str) -> Document:
        """A report, to be created."""
        return {
            "eventID": report.event_id,
            "clientName": client,
            "reportName": report.name,
            "payloadDescriptors": [_descriptor(*parts) for parts in report.descriptors],
            "resources": [
                {
                    "resourceName": report.resource,
                    "intervals": [_interval(interval) for interval in report.intervals],
                }
            ],
        }


class Dialect301(Dialect):
    """3.0.1."""

    def ven(self, name: str) -> Document:
        """A ven object, to be created."""
        return {"objectType": "VEN", "venName": name}

    def resources_path(self, ven_id: str) -> str:
        """Where the resources of a ven are."""
        return f"vens/{ven_id}/resources"

    def resources(self, ven_id: str, name: str) -> Query:
        """How to ask there for one of that name."""
        return [("resourceName", name)]

    def resource(self, ven_id: str, name: str) -> Document:
        """A resource object, to be created."""
        return {"objectType": "RESOURCE", "resourceName": name}

    def targets(self, names: Sequence[str]) -> Query:
        """How to ask for what is targeted."""
        return [("targetType", "GROUP"), *(("targetValues", n) for n in names)] if names else []

    def subscription(
        self, client: str, program_id: str, url: str, token: str, targets: Sequence[str]
    ) -> Document:
        """A subscription to all that happens to one program and its events."""
        document = super().subscription(client, program_id, url, token, ())
        document |= {"objectType": "SUBSCRIPTION", "programID": program_id}
        if targets:
            document["targets"] = [{"type": "GROUP", "values": list(targets)}]
        return document

    def report(self, report: Report, client: str) -> Document:
        """A report, to be created."""
        document = super().report(report, client)
        return {"objectType": "REPORT", "programID": report.program_id, **document}


def dialect_of(version: str) -> Dialect:
    """The dialect of a version."""
    return Dialect301() if version == "3.0.1" else Dialect()


def _descriptor(payload_type: str, reading_type: str, units: str) -> Document:
    document: Document = {
        "objectType": "REPORT_PAYLOAD_DESCRIPTOR",
        "payloadType": payload_type,
    }
    if reading_type:
        document["readingType"] = reading_type
    if units:
        document["units"] = units
    return document


def _interval(interval: ReportInterval) -> Document:
    return {
        "id": interval.interval_id,
        "intervalPeriod": {
            "start": format_time(interval.start),
            "duration": format_duration(interval.duration),
        },
        "payloads": [{"type": kind, "values": [value]} for kind, value in interval.payloads],
    }
