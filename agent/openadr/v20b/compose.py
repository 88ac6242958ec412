"""What a message of a report says: the points of a stretch, as data of the profile.

An interval without any usable sample is left out of a report on usage: the profile would demand a
number, and an invented one is worse than none. Status is reported all the same (offline). Only a
report that the VTN waits for (one-shot, or the last after a cancellation) always comes, with "No
Quality - No Value" if need be.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

from agent.core.sample import Point
from agent.core.site import MeterQuality
from agent.openadr.iso8601 import format_time
from agent.openadr.v20b import writer
from agent.openadr.v20b.offers import Channel, Offer, Quantity
from agent.store.registrations import ReportRequest

QUALITIES = {
    MeterQuality.GOOD: "Quality Good - Non Specific",
    MeterQuality.ESTIMATED: "Quality Uncertain - Non Specific",
    MeterQuality.BAD: "Quality Bad - Non Specific",
}
HELD = "No New Value - Previous Value Used"
NO_VALUE = "No Quality - No Value"
_OFFLINE = writer.Status(online=False, override=False)
_WHOLE = timedelta(seconds=1)


def report_of(
    request: ReportRequest, offer: Offer, points: Sequence[Point], start: datetime, now: datetime
) -> writer.Report | None:
    """The next report on a request, from the points since `start`; None when they say nothing.

    Its id depends on the request and on `start` only: what is sent again has the same.
    """
    channels = [offer.channel(r_id) for r_id in request.r_ids]
    data = [
        datum
        for point in points
        for channel in channels
        if (datum := _datum(channel, point)) is not None
    ]
    end = points[-1].start + points[-1].duration if points else start
    if not data and end == request.ends_at:
        status = _OFFLINE if channels[0].quantity is Quantity.STATUS else None
        data = [writer.Datum(start, None, channels[0].r_id, NO_VALUE, status=status)]
    if not data:
        return None
    return writer.Report(
        report_id=f"{request.request_id}-{format_time(start)}",
        report_request_id=request.request_id,
        report_specifier_id=request.specifier_id,
        report_name=offer.name,
        created_at=now,
        intervals=data,
    )


def _datum(channel: Channel, point: Point) -> writer.Datum | None:
    duration = None if point.duration % _WHOLE else point.duration
    mean = point.mean(channel.part)
    known = mean.power_w is not None
    quality = HELD if point.held and known else QUALITIES[mean.quality]
    if channel.quantity is Quantity.STATUS:
        status = writer.Status(online=known, override=point.override)
        return writer.Datum(point.start, duration, channel.r_id, quality, status=status)
    power = channel.quantity is Quantity.POWER
    value = mean.power_w if power else point.energy_wh(channel.part)
    if value is None:
        return None
    return writer.Datum(point.start, duration, channel.r_id, quality, f"{value:.9g}")
