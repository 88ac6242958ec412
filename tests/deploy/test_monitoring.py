"""Alerts and dashboard: that Prometheus takes them, that they fire when they should, and that every
metric and label they name is one the agent has.
"""

import json
import re
import shutil
import subprocess
from collections import defaultdict
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from agent.core.ledger import Entry, Lever
from agent.core.lifecycle import Phase
from agent.core.link import Link
from agent.core.picture import Counters, Picture
from agent.core.problems import Severity
from agent.core.site import Health
from agent.telemetry.metrics import Metrics
from drivers.outcome import Result
from tests.core import build
from tests.requirement import missing

DEPLOY = Path(__file__).parents[2] / "deploy"
PROMETHEUS = DEPLOY / "prometheus"
ALERTS = (PROMETHEUS / "alerts.yml").read_text()
DASHBOARD = json.loads((DEPLOY / "grafana/flexload.json").read_text())
ADDED_BY_PROMETHEUS = {"instance", "job"}


def panels() -> list[dict]:
    return [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]


def expressions() -> list[str]:
    """Every expression of the dashboard and the alerts."""
    found = [target["expr"] for panel in panels() for target in panel["targets"]]
    found += [note["expr"] for note in DASHBOARD["annotations"]["list"]]
    found += [variable["query"]["query"] for variable in DASHBOARD["templating"]["list"][1:]]
    # An alert's expression is a block of deeper indented lines, or one line.
    alerts = re.findall(r"^ +expr: (?:>-\n((?: {10,}.*\n)+)|(.*))", ALERTS, re.MULTILINE)
    return found + [block or line for block, line in alerts]


@pytest.fixture(scope="module")
def exposed() -> dict[str, set[str]]:
    """Every sample name that the agent can expose, with its labels."""
    snapshot = build.snapshot([build.gpu(0), build.gpu(1, health=Health.LOST)])
    entry = Entry(
        Lever.CAP, "GPU-0", 400.0, 400.0, 700.0, 600.0, "", "", build.instant(), build.instant(60)
    )
    record = build.record()
    picture = Picture(
        at=build.NOON,
        snapshot=snapshot,
        programs=(build.PROGRAM,),
        max_import_w=build.POLICY.max_import_w,
        records={record.key: record},
        phases={record.key: Phase.HOLDING},
        ledger=(entry,),
        counters=Counters(commands={("cap", "applied"): 1}),
        links=(
            Link(
                "ven",
                "http://vtn",
                "2.0b",
                certificate_expires=build.NOON,
                vtn_certificate_expires=build.NOON,
            ),
        ),
    )
    registry = CollectorRegistry()
    registry.register(Metrics(lambda: picture))
    found = defaultdict(set)
    for family in text_string_to_metric_families(generate_latest(registry).decode()):
        for sample in family.samples:
            found[sample.name] |= sample.labels.keys()
    return found


def promtool(*arguments: object) -> str:
    """What promtool says, after it was content."""
    if shutil.which("promtool") is None:
        missing("promtool", "promtool is not installed (Debian: prometheus)")
    result = subprocess.run(
        ["promtool", *map(str, arguments)], capture_output=True, text=True, check=False
    )
    said = result.stdout + result.stderr
    assert result.returncode == 0, said
    return said


@pytest.mark.promtool
def test_the_alerts_are_well_formed():
    promtool("check", "rules", PROMETHEUS / "alerts.yml")


@pytest.mark.promtool
def test_the_alerts_fire_when_they_should():
    promtool("test", "rules", PROMETHEUS / "alerts_test.yml")


@pytest.mark.promtool
def test_the_scrape_configuration_is_well_formed():
    promtool("check", "config", PROMETHEUS / "prometheus.yml")


def test_every_alert_is_tested_and_says_what_to_do():
    tests = (PROMETHEUS / "alerts_test.yml").read_text()
    readme = (DEPLOY / "README.md").read_text()
    alerts = re.split(r"- alert: (\w+)\n", ALERTS)[1:]
    assert alerts
    for name, body in zip(alerts[::2], alerts[1::2], strict=True):
        assert f"alertname: {name}\n" in tests, name
        assert "exp_labels" in tests.split(f"alertname: {name}\n", 1)[1], name
        for part in ("summary: ", "description: "):
            assert part in body, f"{name} has no {part}"
        severity = re.search(r"severity: (critical|warning)", body)
        assert severity
        assert f"| {name} | {severity[1]} | " in readme


def test_every_metric_that_is_named_exists_with_the_labels_that_are_used(exposed):
    for expression in expressions():
        names = re.findall(r"\bflexload_\w+", expression)
        assert names or "up{" in expression, expression
        for name in names:
            assert name in exposed, f"{name} in {expression}"
        for name, matchers in re.findall(r"\b(flexload_\w+)\{([^}]*)\}", expression):
            used = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)\s*\"", matchers))
            assert used <= exposed[name] | ADDED_BY_PROMETHEUS, f"{used} of {name}"


@pytest.mark.parametrize(
    ("label", "known"),
    [
        ("phase", {phase.value for phase in Phase}),
        ("severity", {severity.value for severity in Severity}),
        ("result", {result.value for result in Result}),
        ("kind", {"requested", "enforced", "default", "min", "max"}),
    ],
)
def test_every_label_value_that_is_matched_exists(label, known):
    text = ALERTS + " ".join(expressions())
    values = re.findall(rf"\{{[^}}]*\b{label}=~?\\?\"([^\"\\]+)\\?\"", text)
    assert values
    assert {value for matched in values for value in matched.split("|")} <= known


def test_every_panel_has_a_title_a_unit_and_the_data_source_that_was_chosen():
    chosen = {"type": "prometheus", "uid": "${DS_PROMETHEUS}"}
    variable = DASHBOARD["templating"]["list"][0]
    assert (variable["name"], variable["type"]) == ("DS_PROMETHEUS", "datasource")
    for panel in panels():
        assert panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert panel["datasource"] == chosen, panel["title"]
        assert all(target["datasource"] == chosen for target in panel["targets"]), panel["title"]


def test_no_two_panels_share_a_place_or_an_id():
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    taken = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24, panel["title"]
        taken |= cells
