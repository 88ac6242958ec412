"""Every metric there is, in one place: built anew from the picture at each scrape.

So a GPU that is gone leaves no stale series behind, and a scrape shows one cycle, not bits of two.
Names are in base units; the label `gpu` is the UUID, and `flexload_gpu_info` says where it sits.
"""

from collections.abc import Callable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from agent import __version__
from agent.core.ledger import Lever
from agent.core.lifecycle import Phase
from agent.core.link import Link
from agent.core.picture import Picture, current_event
from agent.core.problems import Severity
from agent.core.program import program_of
from agent.core.site import Health, WorkloadState
from agent.core.timeline import window_of

_NAN = float("nan")


class Metrics(Collector):
    """Renders the last picture for Prometheus."""

    def __init__(self, picture: Callable[[], Picture | None]) -> None:
        self._picture = picture

    def collect(self) -> Iterator[Metric]:
        """All metric families of one scrape; before the first picture only what is known without one."""
        build = GaugeMetricFamily("flexload_build_info", "The agent's version.", labels=["version"])
        build.add_metric([__version__], 1)
        yield build
        picture = self._picture()
        if picture is not None:
            yield from _links(picture.links)
            yield from _site(picture)
            yield from _event(picture)
            yield from _gpus(picture)
            yield from _workloads(picture)
            yield from _counters(picture)
            yield from _problems(picture)


def _site(picture: Picture) -> Iterator[Metric]:
    ceiling = picture.timeline.ceiling_at(picture.at)
    yield _gauge("flexload_site_power_watts", "The site's import.", picture.power_w)
    yield _gauge(
        "flexload_site_power_target_watts",
        "The limit in force on the site's import; +Inf when there is none.",
        float("inf") if ceiling is None else ceiling.limit_w,
    )
    yield _gauge(
        "flexload_site_power_expected_watts",
        "What the site would draw with nothing restrained.",
        picture.expected_w,
    )
    yield _gauge(
        "flexload_site_shortfall_watts",
        "How far the floors keep the site above its limit.",
        picture.plan.shortfall_w,
    )
    good = GaugeMetricFamily(
        "flexload_meter_quality", "1 for the quality of the metered figure.", labels=["quality"]
    )
    good.add_metric([picture.snapshot.meter.quality.value], 1)
    yield good
    yield _gauge(
        "flexload_stopped",
        "1 while the operator's local stop is in force.",
        picture.stop is not None,
    )
    yield _gauge("flexload_setpoints", "Setpoints in the ledger.", len(picture.ledger))
    yield _gauge(
        "flexload_last_cycle_timestamp_seconds",
        "When the last control cycle began.",
        picture.at.timestamp(),
    )
    yield _gauge(
        "flexload_control_cycle_seconds", "How long the last control cycle took.", picture.cycle_s
    )


def _event(picture: Picture) -> Iterator[Metric]:
    key = current_event(picture)
    phases = GaugeMetricFamily(
        "flexload_event_phase",
        "1 for the phase of the current event, 0 for the others.",
        labels=["phase"],
    )
    for phase in Phase:
        phases.add_metric([phase.value], float(key is not None and picture.phases[key] is phase))
    yield phases
    yield _gauge(
        "flexload_events",
        "Events that are not over.",
        sum(not p.over for p in picture.phases.values()),
    )
    start = end = baseline = _NAN
    if key is not None:
        record = picture.records[key]
        window = window_of(record, program_of(record.event, picture.programs))
        start = window.hold_from.timestamp()
        end = float("inf") if window.hold_until is None else window.hold_until.timestamp()
        baseline = _NAN if record.baseline is None else record.baseline.power_w
    yield _gauge(
        "flexload_event_start_timestamp_seconds", "When the current event holds from.", start
    )
    yield _gauge("flexload_event_end_timestamp_seconds", "When the current event lets go.", end)
    yield _gauge("flexload_event_baseline_watts", "Baseline of the current event.", baseline)


def _gpus(picture: Picture) -> Iterator[Metric]:
    info = GaugeMetricFamily(
        "flexload_gpu_info", "Where a GPU sits.", labels=["gpu", "host", "index", "name"]
    )
    power = GaugeMetricFamily("flexload_gpu_power_watts", "A GPU's draw.", labels=["gpu"])
    limit = GaugeMetricFamily(
        "flexload_gpu_power_limit_watts",
        "A GPU's limits: what software asked for, what binds, and its range.",
        labels=["gpu", "kind"],
    )
    capped = GaugeMetricFamily(
        "flexload_gpu_cap_active", "1 while a cap of ours is in force.", labels=["gpu"]
    )
    up = GaugeMetricFamily("flexload_gpu_up", "1 while a GPU answers.", labels=["gpu"])
    caps = {entry.key for entry in picture.ledger if entry.lever is Lever.CAP}
    for gpu in picture.snapshot.gpus:
        info.add_metric([gpu.uuid, gpu.host, str(gpu.index), gpu.name], 1)
        up.add_metric([gpu.uuid], float(gpu.health is Health.OK))
        capped.add_metric([gpu.uuid], float(gpu.uuid in caps))
        if gpu.power_w is not None:
            power.add_metric([gpu.uuid], gpu.power_w)
        for kind, value in (
            ("requested", gpu.limit_w),
            ("enforced", gpu.enforced_w),
            ("default", gpu.default_limit_w),
            ("min", gpu.min_limit_w),
            ("max", gpu.max_limit_w),
        ):
            if value is not None:
                limit.add_metric([gpu.uuid, kind], value)
    yield from (info, power, limit, capped, up)


def _workloads(picture: Picture) -> Iterator[Metric]:
    states = GaugeMetricFamily("flexload_workloads", "Workloads by state.", labels=["state"])
    for state in WorkloadState:
        count = sum(w.state is state for w in picture.snapshot.workloads)
        states.add_metric([state.value], count)
    yield states
    paused = sum(entry.lever is Lever.PAUSE for entry in picture.ledger)
    yield _gauge("flexload_pauses_active", "Workloads that flexload holds paused.", paused)


def _counters(picture: Picture) -> Iterator[Metric]:
    counters = picture.counters
    yield _counter("flexload_control_cycles", "Control cycles.", counters.cycles)
    yield _counter(
        "flexload_control_cycles_late", "Cycles longer than their period.", counters.late_cycles
    )
    yield _counter(
        "flexload_curtailed_seconds", "Time with an event limiting the site.", counters.curtailed_s
    )
    yield _counter(
        "flexload_curtailed_energy_joules",
        "Energy not drawn against the baseline.",
        counters.shed_j,
    )
    yield _counter(
        "flexload_drifts", "Setpoints set again because somebody else moved them.", counters.drifts
    )
    commands = CounterMetricFamily(
        "flexload_commands", "Commands to devices and jobs.", labels=["lever", "result"]
    )
    for (lever, result), count in sorted(counters.commands.items()):
        commands.add_metric([lever, result], count)
    yield commands


def _problems(picture: Picture) -> Iterator[Metric]:
    family = GaugeMetricFamily("flexload_problems", "Problems that last.", labels=["severity"])
    for severity in Severity:
        count = sum(r.problem.severity is severity for r in picture.problems.values())
        family.add_metric([severity.value], count)
    yield family


def _links(links: tuple[Link, ...]) -> Iterator[Metric]:
    up = GaugeMetricFamily("flexload_vtn_up", "1 while a VEN's VTN answers.", labels=["ven"])
    registered = GaugeMetricFamily("flexload_vtn_registered", "1 while registered.", labels=["ven"])
    contact = GaugeMetricFamily(
        "flexload_vtn_last_contact_timestamp_seconds", "When the VTN last answered.", labels=["ven"]
    )
    waiting = GaugeMetricFamily(
        "flexload_report_intervals_waiting",
        "Report intervals due and not yet delivered.",
        labels=["ven"],
    )
    rejected = CounterMetricFamily(
        "flexload_messages_rejected", "Messages and events refused.", labels=["ven"]
    )
    notifications = CounterMetricFamily(
        "flexload_notifications", "Notifications by MQTT and webhook (OpenADR 3).", labels=["ven"]
    )
    ours = GaugeMetricFamily(
        "flexload_ven_certificate_expiry_timestamp_seconds",
        "When the first of a VEN's own certificates expires.",
        labels=["ven"],
    )
    theirs = GaugeMetricFamily(
        "flexload_vtn_certificate_expiry_timestamp_seconds",
        "When the certificate that a VEN's VTN last showed expires.",
        labels=["ven"],
    )
    for link in links:
        for family, expires in (
            (ours, link.certificate_expires),
            (theirs, link.vtn_certificate_expires),
        ):
            if expires is not None:
                family.add_metric([link.ven], expires.timestamp())
        contact_s = 0.0 if link.last_contact is None else link.last_contact.timestamp()
        if link.left is None:  # else there is nothing that should be
            answers = link.lost_since is None and link.last_contact is not None
            up.add_metric([link.ven], float(answers))
            registered.add_metric([link.ven], float(link.registered))
        contact.add_metric([link.ven], contact_s)
        waiting.add_metric([link.ven], link.reports_waiting)
        rejected.add_metric([link.ven], link.rejected)
        notifications.add_metric([link.ven], link.notifications)
    yield from (up, registered, contact, waiting, rejected, notifications, ours, theirs)


def _gauge(name: str, text: str, value: float | None) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, value=_NAN if value is None else float(value))


def _counter(name: str, text: str, value: float) -> CounterMetricFamily:
    return CounterMetricFamily(name, text, value=value)
