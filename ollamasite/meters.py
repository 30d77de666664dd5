"""What this process counts of what it serves, for `/metrics`.

Label values come from fixed lists alone: routes as the URLconf spells them, codes of errors,
dialects, and models by `inference.model_labels`. What people send makes no series. Knows no route
and no engine; counting is thread-safe and takes about a microsecond.
"""

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.gc_collector import GCCollector
from prometheus_client.process_collector import ProcessCollector

REGISTRY: Final = CollectorRegistry()
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
LEFT: Final = "left"  # in the place of a status: the client has gone before there was one

ProcessCollector(registry=REGISTRY)
GCCollector(registry=REGISTRY)

_http: Final = Counter(
    "ollamasite_http_requests",
    "HTTP requests that have been answered, by the status' class.",
    ("route", "method", "status"),
    registry=REGISTRY,
)
_http_seconds: Final = Histogram(
    "ollamasite_http_request_seconds",
    "From an HTTP request's arrival to the last byte of its answer.",
    ("dialect",),
    buckets=_SECONDS,
    registry=REGISTRY,
)
OPEN: Final = Gauge(
    "ollamasite_open_connections",
    "HTTP requests that are being answered, and open WebSockets.",
    ("kind",),
    registry=REGISTRY,
)
STALLED_READERS: Final = Counter(
    "ollamasite_stalled_readers",
    "Connections that were cut because their clients took nothing of what they were sent.",
    registry=REGISTRY,
)
_errors: Final = Counter(
    "ollamasite_errors",
    "Errors and refusals that clients were told in the place of an answer, by their code.",
    ("code", "dialect"),
    registry=REGISTRY,
)
_limits: Final = Counter(
    "ollamasite_limit_refusals",
    "Requests that a limit has refused or ended: whose it is, of what, in which time.",
    ("of", "unit", "period"),
    registry=REGISTRY,
)
_requests: Final = Counter(
    "ollamasite_requests",
    "Rows of the ledger: requests to models that have ended.",
    ("model", "kind", "dialect", "outcome"),
    registry=REGISTRY,
)
_tokens: Final = Counter(
    "ollamasite_tokens",
    "Tokens of the ledger's rows; cached ones are among the prompts'.",
    ("model", "kind"),
    registry=REGISTRY,
)


def http_answered(
    *, route: str, method: str, status: int | None, dialect: str, seconds: float
) -> None:
    """Count an HTTP request; `status` None: its client left before there was one."""
    known = method if method in _METHODS else "other"
    kind = LEFT if status is None else f"{status // 100}xx"
    _http.labels(route, known, kind).inc()
    _http_seconds.labels(dialect).observe(seconds)


def error_told(code: str, dialect: str) -> None:
    """Count an error by one of the codes that ServiceErrors have."""
    _errors.labels(code, dialect).inc()


def limit_refused(*, of: str, unit: str, period: str) -> None:
    """Count a refusal by the limit that has caused it."""
    _limits.labels(of, unit, period).inc()


def call_ended(*, model: str, kind: str, dialect: str, outcome: str) -> None:
    """Count a request to a model."""
    _requests.labels(model, kind, dialect, outcome).inc()


def tokens_used(model: str, *, prompt: int, cached: int, completion: int) -> None:
    """Count what a request to a model has used."""
    for kind, count in (("prompt", prompt), ("cached", cached), ("completion", completion)):
        if count:
            _tokens.labels(model, kind).inc(count)
