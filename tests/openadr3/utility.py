"""What a utility does by ElaadNL's openadr3-client: a program of its own, run by a Python of its own.

utility.py VTN CLIENT SECRET announce PROGRAM START    makes a program with its events from START on; says their ids
utility.py VTN CLIENT SECRET reports EVENT             says the reports on an event
"""

import json
import sys
from datetime import datetime, timedelta

from openadr3_client._models.common.interval import Interval
from openadr3_client._models.common.interval_period import IntervalPeriod
from openadr3_client.bl.http_factory import BusinessLogicHttpClientFactory
from openadr3_client.oadr310.models.event.event import NewEvent
from openadr3_client.oadr310.models.event.event_payload import EventPayload, EventPayloadType
from openadr3_client.oadr310.models.program.program import NewProgram
from openadr3_client.oadr310.models.report.report_payload import (
    ReportDescriptor,
    ReportPayloadType,
    ReportReadingType,
)
from openadr3_client.version import OADRVersion

BEHIND = (
    "USAGE",
    "DEMAND",
    "READING",
    "BASELINE",
    "SETPOINT",
    "SIMPLE_LEVEL",
    "OPERATING_STATE",
    "DATA_QUALITY",
)
AHEAD = ("USAGE_FORECAST", "LOAD_SHED_DELTA_AVAILABLE")
MINUTE = timedelta(minutes=1)


def announce(client, name, start):
    program = client.programs.create_program(NewProgram(program_name=name))
    levels = tuple(
        Interval(id=n, payloads=(EventPayload(type=EventPayloadType.SIMPLE, values=(level,)),))
        for n, level in enumerate((2, 1))
    )
    behind = tuple(
        ReportDescriptor(payload_type=ReportPayloadType(kind), start_interval=0, num_intervals=1)
        for kind in BEHIND
    )
    peak = ReportDescriptor(
        payload_type=ReportPayloadType.DEMAND, reading_type=ReportReadingType.PEAK, aggregate=True
    )
    ahead = tuple(
        ReportDescriptor(
            payload_type=ReportPayloadType(kind),
            historical=False,
            start_interval=0,
            num_intervals=3,
        )
        for kind in AHEAD
    )
    wanted = {"peak": (levels, (*behind, peak)), "outlook": (None, ahead)}
    return {
        event_name: client.events.create_event(
            NewEvent(
                programID=program.id,
                event_name=event_name,
                interval_period=IntervalPeriod(start=start, duration=MINUTE),
                intervals=intervals,
                report_descriptors=descriptors,
            )
        ).id
        for event_name, (intervals, descriptors) in wanted.items()
    }


def reports(client, event_id):
    found = client.reports.get_reports(
        event_id=event_id, program_id=None, client_name=None, pagination=None
    )
    return [_report(report) for report in found]


def _report(report):
    [described] = report.payload_descriptors
    [resource] = report.resources
    return {
        "resource": resource.resource_name,
        "type": described.payload_type,
        "units": described.units,
        "intervals": [
            [interval.id, interval.interval_period.start.isoformat(), _payloads(interval)]
            for interval in resource.intervals
        ],
    }


def _payloads(interval):
    return {payload.type: payload.values[0] for payload in interval.payloads}


if __name__ == "__main__":
    url, client_id, secret, what, *rest = sys.argv[1:]
    utility = BusinessLogicHttpClientFactory.create_http_bl_client(
        url, client_id, secret, allow_insecure_http=True, version=OADRVersion.OADR_310
    )
    if what == "announce":
        said = announce(utility, rest[0], datetime.fromisoformat(rest[1]))
    else:
        said = reports(utility, *rest)
    json.dump(said, sys.stdout)
