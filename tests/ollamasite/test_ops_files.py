"""The dashboard and the alert rules of docs/ops ask for what `/metrics` tells, by its names."""

import json
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from django.conf import settings
from django.utils import timezone

from inference.messages import Device, NodeReport
from models_app import ledger_writer
from models_app.models import Job, Upstream
from ollamasite import meters, metrics
from tests.fakes.engine import FakeNode
from tests.fakes.http import AsgiClient
from tests.fakes.scrape import Scrape, scrape
from tests.inference.conftest import api, model, node

__all__ = ["api", "model", "node"]

OPS: Final = Path(settings.BASE_DIR) / "docs" / "ops"
DASHBOARD: Final = json.loads((OPS / "grafana-dashboard.json").read_text())
RULES: Final = yaml.safe_load((OPS / "alerts.yml").read_text())
METRIC: Final = re.compile(r"\b(?:ollamasite|process)_[a-z_]+")
SELECTOR: Final = re.compile(r"\b((?:ollamasite|process)_[a-z_]+)\{([^}]*)\}")
GROUPING: Final = re.compile(r"\bby \(([^)]*)\)")
MATCHER: Final = re.compile(r'(\w+)(?:=~|!~|!=|=)"')
# What Prometheus itself adds to every series.
ADDED: Final = {"instance", "job"}


def panels() -> Iterator[dict[str, Any]]:
    return (panel for panel in DASHBOARD["panels"] if panel["type"] != "row")


def rules() -> list[dict[str, Any]]:
    return [rule for group in RULES["groups"] for rule in group["rules"]]


def expressions() -> list[str]:
    asked = [target["expr"] for panel in panels() for target in panel["targets"]]
    variables = [
        each["query"]["query"]
        for each in DASHBOARD["templating"]["list"]
        if each["type"] == "query"
    ]
    return [*asked, *variables, *(rule["expr"] for rule in rules())]


def sample_names(told: Scrape) -> set[str]:
    """Return the names that samples have or would have, were there any."""
    names = set()
    for family in told.families:
        if family.type == "histogram":
            names |= {f"{family.name}_{ending}" for ending in ("bucket", "count", "sum")}
        else:
            names.add(f"{family.name}_total" if family.type == "counter" else family.name)
    return names


async def whole_scrape(
    node: FakeNode, model: str, api: AsgiClient, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> Scrape:
    """Return a scrape in which as much as may be has samples."""
    settings.METRICS_NETWORKS = ["127.0.0.1"]
    gpu = Device(name="a GPU", total_bytes=2, free_bytes=1)
    node.report = NodeReport(node="fake", free_bytes=1, devices=(gpu,))
    meter = node.meters.of(model)
    meter.stopped("it was idle")
    monkeypatch.setattr(ledger_writer, "lag_s", lambda: 0.1)  # no thread writes in tests
    await Job.objects.acreate(job_id="1", kind="pull", share_key="1", arguments="{}")
    await Upstream.objects.acreate(name="gpu", is_up=True, checked_at=timezone.now())
    metrics._stored.forget()
    meters.limit_refused(of="user", unit="tokens", period="day")
    asked = {"model": model, "prompt": "Hello", "stream": False}
    await api.post("/api/generate", asked)
    await AsgiClient().get("/api/tags")
    return await scrape(api)


@pytest.mark.django_db(transaction=True)
async def test_every_name_and_label_that_is_asked_for_is_told(
    node: FakeNode, model: str, api: AsgiClient, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = await whole_scrape(node, model, api, settings, monkeypatch)
    names = sample_names(told)
    labels: dict[str, set[str]] = defaultdict(set)
    for name, pairs in told.series:
        labels[name] |= {label for label, _ in pairs}
    unknown = {}
    for expression in expressions():
        asked = set(METRIC.findall(expression))
        wrong = asked - names
        for name, matchers in SELECTOR.findall(expression):
            if name in labels:
                wrong |= {f"{name}: {one}" for one in MATCHER.findall(matchers)} - {
                    f"{name}: {one}" for one in labels[name] | ADDED
                }
        known = set().union(*(labels[name] for name in asked), ADDED)
        if asked <= labels.keys():
            for grouping in GROUPING.findall(expression):
                wrong |= {word.strip() for word in grouping.split(",")} - known
        if wrong:
            unknown[expression] = wrong

    assert unknown == {}


def test_dashboard_has_what_grafana_wants() -> None:
    ids = [panel["id"] for panel in DASHBOARD["panels"]]

    assert DASHBOARD["uid"] == "ollamasite"
    assert len(ids) == len(set(ids))
    for panel in panels():
        assert panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert panel["targets"]
        assert {target["datasource"]["uid"] for target in panel["targets"]} == {"${datasource}"}
        references = [target["refId"] for target in panel["targets"]]
        assert len(references) == len(set(references))


def unit_by_name(expression: str) -> str:
    """Return Grafana's word for the unit that the names of series tell; empty: they tell none."""
    if re.search(r"_bytes / ollamasite_\w+_bytes|\) / sum\(.*_requests_total", expression):
        return "percentunit"
    if re.search(r"_seconds(_bucket|_sum)?\b(?!_count)", expression):
        return "s"
    return "bytes" if "_bytes" in expression else ""


def test_panels_show_the_units_that_series_are_in() -> None:
    seen = set()
    for panel in panels():
        # The first stands for the axis on the left.
        if unit := unit_by_name(panel["targets"][0]["expr"]):
            assert panel["fieldConfig"]["defaults"]["unit"] == unit, panel["title"]
            seen.add(unit)

    assert seen == {"s", "bytes", "percentunit"}


@pytest.mark.django_db(transaction=True)
async def test_every_histogram_has_the_bounds_that_its_rules_ask_about(
    node: FakeNode, model: str, api: AsgiClient, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A quantile that lies behind the last bound is told as the bound, whatever it is."""
    told = await whole_scrape(node, model, api, settings, monkeypatch)
    for rule in rules():
        quantile = re.search(r"(\w+)_bucket.*> ([0-9.]+)", rule["expr"])
        if quantile is None:
            continue
        name, limit = quantile[1], float(quantile[2])
        bounds = {
            float(dict(labels)["le"])
            for series, labels in told.series
            if series == f"{name}_bucket"
        }
        assert max(bounds) == float("inf"), name
        assert max(bounds - {float("inf")}) > limit, rule["alert"]


def test_panels_do_not_lie_on_each_other_and_not_beside_the_page() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {
            (place["x"] + right, place["y"] + down)
            for right in range(place["w"])
            for down in range(place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells


def test_rules_have_what_prometheus_wants_and_say_what_to_do() -> None:
    for rule in rules():
        assert rule["alert"].startswith("Ollamasite")
        assert rule["labels"]["severity"] in {"warning", "critical"}
        assert re.fullmatch(r"\d+[smh]", rule.get("for", "1m"))
        assert {"summary", "description"} == set(rule["annotations"])
        assert rule["expr"].count("(") == rule["expr"].count(")")
    names = [rule["alert"] for rule in rules()]
    assert len(names) == len(set(names))
