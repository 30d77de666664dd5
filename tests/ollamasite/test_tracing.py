"""Traces: what is told of a request, whose trace it belongs to, and that none is made unasked."""

import asyncio
import http.server
import itertools
import logging
import sys
import threading
from collections.abc import Iterator
from typing import Any, Final

import pytest
from django.core.exceptions import ImproperlyConfigured
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from inference.messages import Usage
from ollamasite import tracing
from tests.fakes.engine import FakeNode, Script
from tests.fakes.http import AsgiClient
from tests.inference.conftest import api, model, node

__all__ = ["api", "model", "node"]

pytestmark = pytest.mark.django_db(transaction=True)

SECRET: Final = "do not write this down"
TRACE: Final = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT: Final = "00f067aa0ba902b7"
USAGE: Final = Usage(
    prompt_tokens=10,
    completion_tokens=3,
    cached_tokens=4,
    load_ns=3_000_000,
    queue_ns=1_000_000,
    prompt_eval_ns=2_000_000,
    eval_ns=1_500_000,
)


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    """What has been traced."""
    exporter = InMemorySpanExporter()
    tracing.begin_with(SimpleSpanProcessor(exporter))
    yield exporter
    tracing.finish()


async def chat(api: AsgiClient, model: str, **headers: str) -> str:
    """Have a chat that takes a little; return its id."""
    messages = [{"role": "user", "content": SECRET}]
    asked = {"model": model, "messages": messages, "stream": False}
    answer = await api.post(f"/api/chat?q={SECRET}", asked, headers=headers)
    assert answer.status == 200
    return answer.headers["x-request-id"]


def by_name(exporter: InMemorySpanExporter) -> dict[str, ReadableSpan]:
    return {span.name: span for span in exporter.get_finished_spans()}


def parent_of(span: ReadableSpan) -> int | None:
    return span.parent.span_id if span.parent else None


def id_of(span: ReadableSpan) -> int:
    assert span.context is not None
    return int(span.context.span_id)


async def test_spans_tell_what_a_call_took_in_the_order_in_which_it_went(
    spans: InMemorySpanExporter, node: FakeNode, model: str, api: AsgiClient
) -> None:
    node.scripts.append(Script(usage=USAGE, pause_s=0.05))
    request_id = await chat(api, model)
    found = by_name(spans)

    request, call = found["POST api/chat"], found[f"chat {model}"]
    assert set(found) - {request.name, call.name} == {"load", "queue", "prefill", "decode"}
    assert parent_of(request) is None
    assert parent_of(call) == id_of(request)
    phases = [found[name] for name in ("load", "queue", "prefill", "decode")]
    assert {parent_of(phase) for phase in phases} == {id_of(call)}
    lengths = [(phase.end_time or 0) - (phase.start_time or 0) for phase in phases]
    assert lengths == [2_000_000, 1_000_000, 2_000_000, 1_500_000]
    assert phases[0].start_time == call.start_time
    for before, after in itertools.pairwise(phases):
        assert after.start_time == before.end_time
    assert request.attributes is not None
    assert dict(request.attributes) == {
        "http.route": "api/chat",
        "http.request.method": "POST",
        "http.response.status_code": 200,
        "ollamasite.request_id": request_id,
    }
    assert call.attributes is not None
    assert call.attributes["gen_ai.usage.input_tokens"] == 10
    assert call.attributes["ollamasite.outcome"] == "done"
    assert SECRET not in str([span.to_json() for span in spans.get_finished_spans()])


async def test_clients_trace_is_gone_on_with_and_stands_in_the_log(
    spans: InMemorySpanExporter,
    node: FakeNode,
    model: str,
    api: AsgiClient,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    await chat(api, model, traceparent=f"00-{TRACE}-{PARENT}-01")
    request = by_name(spans)["POST api/chat"]

    assert parent_of(request) == int(PARENT, 16)
    assert {f"{span.context.trace_id:032x}" for span in spans.get_finished_spans()} == {TRACE}
    [line] = [vars(record) for record in caplog.records if record.name == "ollamasite.access"]
    assert line["trace_id"] == TRACE


async def test_client_may_wish_for_no_trace(
    spans: InMemorySpanExporter, node: FakeNode, model: str, api: AsgiClient
) -> None:
    await chat(api, model, traceparent=f"00-{TRACE}-{PARENT}-00")

    assert spans.get_finished_spans() == ()


@pytest.mark.parametrize(
    "parent",
    [
        "",
        "nonsense",
        f"00-{'0' * 32}-{PARENT}-01",
        f"00-{TRACE}-{PARENT}",
        f"ff-{TRACE}-{PARENT}-01",
    ],
)
async def test_trace_that_makes_no_sense_is_a_new_one(
    spans: InMemorySpanExporter, node: FakeNode, model: str, api: AsgiClient, parent: str
) -> None:
    await chat(api, model, traceparent=parent, tracestate="x" * 5000)

    assert parent_of(by_name(spans)["POST api/chat"]) is None


async def test_answer_that_was_left_has_its_call_too(
    spans: InMemorySpanExporter, node: FakeNode, model: str, api: AsgiClient
) -> None:
    node.scripts.append(Script(is_held=True))
    call = api.open("POST", "/api/generate", data={"model": model, "prompt": "Hello"})
    await call.wait_for_text("Hello")
    await call.leave()
    async with asyncio.timeout(20):
        while f"generate {model}" not in by_name(spans):
            await asyncio.sleep(0.01)

    found = by_name(spans)
    attributes = found[f"generate {model}"].attributes
    assert attributes is not None
    assert attributes["ollamasite.outcome"] == "left"
    assert parent_of(found[f"generate {model}"]) == id_of(found["POST api/generate"])


async def test_without_the_setting_no_trace_is_begun(
    node: FakeNode, model: str, api: AsgiClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    await chat(api, model, traceparent=f"00-{TRACE}-{PARENT}-01")

    assert tracing.start({"type": "http", "headers": []}) is None
    assert TRACE not in str([vars(record) for record in caplog.records])


def test_extra_that_is_missing_is_told_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace.export", None)

    with pytest.raises(ImproperlyConfigured, match="pip install"):
        tracing.begin("http://127.0.0.1:1/v1/traces")


class _Collector(http.server.BaseHTTPRequestHandler):
    """Takes what is sent."""

    taken: list[bytes] = []

    def do_POST(self) -> None:
        length = int(self.headers["Content-Length"])
        self.taken.append(self.rfile.read(length))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


async def test_collector_is_sent_the_spans(node: FakeNode, model: str, api: AsgiClient) -> None:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Collector) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        tracing.begin(f"http://127.0.0.1:{server.server_port}/v1/traces")
        await chat(api, model)
        await asyncio.to_thread(tracing.finish)
        server.shutdown()

    sent = ExportTraceServiceRequest()
    for body in _Collector.taken:
        sent.MergeFromString(body)
    names = {
        span.name
        for resource in sent.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    }
    assert {"POST api/chat", f"chat {model}", "prefill"} <= names
