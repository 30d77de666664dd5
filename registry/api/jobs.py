"""`/api/jobs`: long work as rows to look at, to stop and to begin again. Ours; Ollama has no such.

Somebody else's job is not found, like one that does not exist. Knows no row of the database.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

from asgiref.sync import sync_to_async
from django.http import HttpResponse
from django.http.response import HttpResponseBase

from models_app import jobs
from models_app.jobs import ACTIVE_STATES, JobKind, JobRecord, JobState
from models_app.permissions import Principal
from ollamasite.api_views import NATIVE_EMPTY_BODY, CallView, ReadView, read_body
from ollamasite.errors import BadRequest
from ollamasite.http import json_response
from registry.api import progress_stream
from registry.api.job_schemas import JobsReply, NewJobBody, job_reply
from registry.jobs import submit
from registry.jobs.asking import (
    Transfer,
    ask_collect,
    ask_pull,
    ask_push,
    ask_quantize,
    ask_verify,
)

T = TypeVar("T")

DEFAULT_LISTED: Final = 50
MAX_LISTED: Final = 500
_STATES: Final[dict[str, tuple[JobState, ...]]] = {
    "": (),
    "active": ACTIVE_STATES,
    "ended": tuple(state for state in JobState if state not in ACTIVE_STATES),
}
_YES: Final = {"": False, "0": False, "1": True}


class JobsView(CallView):
    """`GET` and `POST /api/jobs`."""

    http_method_names = ["get", "head", "post"]

    async def get(self, request: Any) -> HttpResponse:
        """List the caller's jobs, the newest first; with `all=1` those of everybody, for admins."""
        found = await sync_to_async(_list)(request.user, request.query_params)
        return json_response(JobsReply(jobs=[job_reply(record) for record in found]))

    async def post(self, request: Any) -> HttpResponse:
        """Begin a job that goes on whoever watches it."""
        body = await read_body(request, NewJobBody, "JobRequest", empty_message=NATIVE_EMPTY_BODY)
        job = await sync_to_async(_begin)(request.user, body)
        return json_response(job_reply(job), status=201)


class JobView(ReadView):
    """`GET /api/jobs/<id>`."""

    async def get(self, request: Any, job_id: str) -> HttpResponse:
        """Tell how far a job is."""
        return json_response(job_reply(await sync_to_async(submit.find)(request.user, job_id)))


class CancelJobView(CallView):
    """`POST /api/jobs/<id>/cancel`."""

    async def post(self, request: Any, job_id: str) -> HttpResponse:
        """Stop a job; one that has ended stays as it is."""
        return json_response(job_reply(await sync_to_async(submit.cancel)(request.user, job_id)))


class RetryJobView(CallView):
    """`POST /api/jobs/<id>/retry`."""

    async def post(self, request: Any, job_id: str) -> HttpResponse:
        """Begin a job again that has failed or was cancelled."""
        return json_response(job_reply(await sync_to_async(submit.retry)(request.user, job_id)))


class JobEventsView(ReadView):
    """`GET /api/jobs/<id>/events`."""

    http_method_names = ["get"]

    async def get(self, request: Any, job_id: str) -> HttpResponseBase:
        """Tell what a job has reported and reports, a line each, until it has ended."""
        job = await sync_to_async(submit.find)(request.user, job_id)
        return progress_stream.tell(request.user, job)


def _list(principal: Principal, query: Any) -> list[JobRecord]:
    kind = query.get("kind", "")
    if kind and kind not in JobKind.values:
        raise BadRequest(f'"kind" must be one of {", ".join(JobKind.values)}')
    return jobs.list_jobs(
        principal,
        states=_chosen("state", query.get("state", ""), _STATES),
        kind=JobKind(kind) if kind else None,
        is_everybodys=_chosen("all", query.get("all", ""), _YES),
        limit=_limit(query.get("limit", "")),
    )


def _chosen(name: str, text: str, choices: Mapping[str, T]) -> T:
    if text not in choices:
        raise BadRequest(f'"{name}" must be one of {", ".join(filter(None, choices))}')
    return choices[text]


def _limit(text: str) -> int:
    if not text:
        return DEFAULT_LISTED
    if not (text.isascii() and text.isdigit()) or not 0 < int(text[:9]) <= MAX_LISTED:
        raise BadRequest(f'"limit" must be a number from 1 to {MAX_LISTED}')
    return int(text[:9])


def _begin(principal: Principal, body: NewJobBody) -> JobRecord:
    begin = _BEGINNINGS.get(body.kind)
    if begin is None:
        raise BadRequest(f'"kind" must be one of {", ".join(_BEGINNINGS)}')
    return begin(principal, body)


def _transfer(body: NewJobBody) -> Transfer:
    return Transfer(
        name=body.model,
        is_insecure=body.insecure,
        username=body.username,
        password=body.password,
        is_detached=True,
    )


_BEGINNINGS: Final[dict[str, Callable[[Principal, NewJobBody], JobRecord]]] = {
    "pull": lambda principal, body: ask_pull(principal, _transfer(body)),
    "push": lambda principal, body: ask_push(principal, _transfer(body)),
    "quantize": lambda principal, body: ask_quantize(
        principal, source=body.source, target=body.model, quantize=body.quantize
    ),
    "verify": lambda principal, body: ask_verify(principal),
    "gc": lambda principal, body: ask_collect(principal),
}
