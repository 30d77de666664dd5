"""What nodes, the database and the disk tell → families of Prometheus' series.

Pure. Sums of a node begin anew with it, as Prometheus expects of counters. Knows no HTTP, no
socket and no query.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import accumulate
from typing import Final

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

from inference.generation import NodeSeen
from inference.messages import FailureCode, LoadedModel, LoadedModels, NodeMetrics
from inference.metric_messages import (
    STEP_BOUNDS_S,
    STOP_REASONS,
    WAIT_BOUNDS_S,
    ModelMetrics,
    Spread,
)
from inference.model_labels import ModelLabels
from models_app.figures import StoredFigures

_MOST_DEVICES: Final = 16
_MOST_DEVICE_NAME: Final = 120
_PREFIX: Final = "ollamasite_"
_ENGINE: Final = "ollamasite_engine_"
# Name, what it is, field of ModelMetrics, bounds.
_SPREADS: Final = (
    (
        "time_to_first_token_seconds",
        "From a request's arrival at the node to the first token of its answer.",
        "first_token",
        WAIT_BOUNDS_S,
    ),
    (
        "inter_token_seconds",
        "Between two tokens of an answer, pauses included.",
        "between_tokens",
        STEP_BOUNDS_S,
    ),
    ("queue_seconds", "What requests have waited for their turn.", "queue", WAIT_BOUNDS_S),
    ("load_seconds", "From a runner's start until its model can be used.", "load", WAIT_BOUNDS_S),
    ("step_seconds", "One pass of a model over all that it is asked.", "step", STEP_BOUNDS_S),
)


def value(name: str, text: str, number: float) -> Metric:
    """Return a gauge of one series."""
    return GaugeMetricFamily(_PREFIX + name, text, value=number)


def of_nodes(nodes: Iterable[NodeMetrics]) -> Iterator[Metric]:
    """Return what nodes have counted, and how their queues stand."""
    nodes = tuple(nodes)
    yield from _states(nodes)
    yield from _counts(nodes)
    for name, text, field, bounds in _SPREADS:
        family = HistogramMetricFamily(_ENGINE + name, text, labels=("node", "model"))
        for node in nodes:
            for model in node.models:
                spread: Spread = getattr(model, field)
                family.add_metric((node.node, model.model), _buckets(spread, bounds), spread.sum_s)
        yield family


def _states(nodes: tuple[NodeMetrics, ...]) -> Iterator[Metric]:
    up = GaugeMetricFamily(_PREFIX + "node_up_seconds", "Since a node began.", labels=("node",))
    slots = GaugeMetricFamily(
        _PREFIX + "node_slots", "Requests that loaded models take at once.", labels=("node",)
    )
    labels = ("node", "class")
    requests = GaugeMetricFamily(
        _PREFIX + "queue_requests", "Requests that wait or run now.", labels=(*labels, "state")
    )
    oldest = GaugeMetricFamily(
        _PREFIX + "queue_oldest_seconds", "How long the oldest has waited.", labels=labels
    )
    for node in nodes:
        up.add_metric((node.node,), node.up_s)
        slots.add_metric((node.node,), node.slots)
        for each in node.classes:
            at = (node.node, each.priority.name.lower())
            requests.add_metric((*at, "waiting"), each.waiting)
            requests.add_metric((*at, "running"), each.running)
            oldest.add_metric(at, each.oldest_s)
    yield from (up, slots, requests, oldest)


def _counts(nodes: tuple[NodeMetrics, ...]) -> Iterator[Metric]:
    labels = ("node", "model")
    requests = _counter("requests", "Requests that have ended in a node.", (*labels, "outcome"))
    tokens = _counter("tokens", "Tokens of ended requests.", (*labels, "kind"))
    computed = _counter("computed_tokens", "Tokens as they are computed.", (*labels, "kind"))
    failures = _counter("load_failures", "Models that could not be loaded.", labels)
    crashes = _counter("crashes", "Runners that have died.", labels)
    unloads = _counter("unloads", "Models that had to leave memory.", (*labels, "reason"))
    for node in nodes:
        for model in node.models:
            at = (node.node, model.model)
            requests.add_metric((*at, "done"), model.done)
            for code in model.failures.keys() & set(FailureCode):
                requests.add_metric((*at, code), model.failures[code])
            for kind, count in _tokens_of(model).items():
                tokens.add_metric((*at, kind), count)
            computed.add_metric((*at, "prompt"), model.computed_prompt_tokens)
            computed.add_metric((*at, "completion"), model.computed_completion_tokens)
            failures.add_metric(at, model.load_failures)
            crashes.add_metric(at, model.crashes)
            for reason in model.stops.keys() & set(STOP_REASONS):
                unloads.add_metric((*at, reason), model.stops[reason])
    yield from (requests, tokens, computed, failures, crashes, unloads)


def of_memory(nodes: Iterable[LoadedModels]) -> Iterator[Metric]:
    """Return what models take of each node's memory, and may take, where that is known."""
    taken = GaugeMetricFamily(
        _PREFIX + "model_memory_bytes",
        "What loaded models take.",
        labels=("node", "model", "device"),
    )
    limit = GaugeMetricFamily(
        _PREFIX + "node_memory_bytes", "What models may take of memory.", labels=("node",)
    )
    for node in nodes:
        for (label, device), size in _sizes(node.models).items():
            taken.add_metric((node.node, label, device), size)
        if node.memory_bytes is not None:
            limit.add_metric((node.node,), node.memory_bytes)
    yield from (taken, limit)


def of_fleet(nodes: Iterable[NodeSeen]) -> Iterator[Metric]:
    """Return how nodes stand, also those that do not answer, and what their GPUs have."""
    answers = GaugeMetricFamily(
        _PREFIX + "node_answers", "Whether this process hears of a node.", labels=("node",)
    )
    closed = GaugeMetricFamily(
        _PREFIX + "node_closed", "Whether a node takes no new requests.", labels=("node",)
    )
    free = GaugeMetricFamily(
        _PREFIX + "node_free_bytes", "What a further model may take now.", labels=("node",)
    )
    labels = ("node", "device", "gpu")
    total = GaugeMetricFamily(_PREFIX + "device_bytes", "Memory of a GPU.", labels=labels)
    left = GaugeMetricFamily(_PREFIX + "device_free_bytes", "What is free of it.", labels=labels)
    for node in nodes:
        report = node.report
        answers.add_metric((node.name,), report is not None)
        is_draining = report is not None and report.is_draining
        closed.add_metric((node.name,), node.is_cordoned or is_draining)
        if report is None:
            continue
        if report.free_bytes is not None:
            free.add_metric((node.name,), report.free_bytes)
        for number, device in enumerate(report.devices[:_MOST_DEVICES]):
            at = (node.name, str(number), device.name[:_MOST_DEVICE_NAME])
            for family, size in ((total, device.total_bytes), (left, device.free_bytes)):
                if size is not None:
                    family.add_metric(at, size)
    yield from (answers, closed, free, total, left)


def _sizes(loaded: Iterable[LoadedModel]) -> dict[tuple[str, str], int]:
    sums: Counter[tuple[str, str]] = Counter()
    labels = ModelLabels()
    for model in loaded:
        label = labels.label(model.name)
        sums[label, "system"] += model.size_bytes - model.size_vram_bytes
        sums[label, "gpu"] += model.size_vram_bytes
    return sums


def of_rows(stored: StoredFigures) -> Iterator[Metric]:
    """Return how much there is of what the database knows."""
    jobs = GaugeMetricFamily(_PREFIX + "jobs", "Rows of jobs.", labels=("kind", "state"))
    for (kind, state), count in stored.jobs.items():
        jobs.add_metric((kind, state), count)
    yield jobs
    yield value("jobs_oldest_seconds", "How long the oldest job has waited.", stored.oldest_job_s)
    yield value("store_bytes", "Files of models.", stored.store_bytes)
    text = "Whether an engine elsewhere answers, where that is known."
    up = GaugeMetricFamily(_PREFIX + "upstream_up", text, labels=("upstream",))
    for name, is_up in stored.upstreams.items():
        up.add_metric((name,), is_up)
    yield up


def _counter(name: str, text: str, labels: tuple[str, ...]) -> CounterMetricFamily:
    return CounterMetricFamily(_ENGINE + name, text, labels=labels)


def _tokens_of(model: ModelMetrics) -> dict[str, int]:
    return {
        "prompt": model.prompt_tokens,
        "cached": model.cached_tokens,
        "completion": model.completion_tokens,
    }


def _buckets(spread: Spread, bounds: tuple[float, ...]) -> list[tuple[str, float]]:
    names = [*(str(bound) for bound in bounds), "+Inf"]
    return list(zip(names, accumulate(spread.counts), strict=True))
