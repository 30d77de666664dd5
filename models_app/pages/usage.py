"""`/usage`: what was used, the requests one by one, and both as a file. Knows no row.

Whose use it is stands behind the `?`: one's own, `team=lab` or `all=1`; so does all else that is
asked for, so that an address can be kept and sent to others. Async, as limits are.
"""

from functools import partial
from http import HTTPStatus
from typing import Any, Final

from asgiref.sync import sync_to_async
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.cache import never_cache

from models_app import usage as ledger
from models_app import usage_export, usage_limits, usage_overview, usage_requests
from models_app.ledger_export import Form
from models_app.page_requests import allow, principal_of
from models_app.permissions import Principal
from models_app.usage import Place, RequestRecord, Usage
from models_app.usage_forms import Asked, RequestsForm, UsageForm
from ollamasite.errors import BadRequest

LISTED: Final = 50


@allow("GET")
@never_cache
async def usage(request: HttpRequest) -> HttpResponse:
    """Show what was used, and what of one's limits is left."""
    form, principal = UsageForm(request.GET), principal_of(request)
    context = _context(form, principal)
    if form.is_valid():
        asked = form.asked(timezone.now())
        overview = await sync_to_async(usage_overview.read)(principal, asked)
        context |= {"asked": asked, "overview": overview}
        if asked.scope == "own":
            context |= {"limits": await usage_limits.left(principal)}
    return await _rendered(request, "usage.html", context, status=_status(form))


@allow("GET")
@never_cache
async def requests(request: HttpRequest) -> HttpResponse:
    """Show requests one by one, the newest first; for htmx only the rows that follow."""
    form, principal = RequestsForm(request.GET), principal_of(request)
    context = _context(form, principal)
    if form.is_valid():
        asked = form.asked(timezone.now())
        after = Place.parse(request.GET.get("after", ""))
        rows, more = await sync_to_async(_listed)(principal, asked, after)
        context |= {"asked": asked, "rows": rows, "more": more, "is_later": after is not None}
    is_part = "HX-Request" in request.headers and form.is_valid()
    template = "usage_rows.html" if is_part else "usage_requests.html"
    return await _rendered(request, template, context, status=_status(form))


@allow("GET")
@never_cache
async def one_request(request: HttpRequest, request_id: str) -> HttpResponse:
    """Show a request: as a page, or for htmx what goes into the drawer."""
    record = await sync_to_async(ledger.one)(principal_of(request), request_id)
    base_url = request.build_absolute_uri("/").rstrip("/")
    context = {
        "record": record,
        "parts": usage_requests.parts_of(record),
        "took_us": usage_requests.took_us(record),
        "tokens_per_s": usage_requests.tokens_per_s(record),
        "repeat": usage_requests.repeat_of(record, base_url),
    }
    part = "usage_request_part" if "HX-Request" in request.headers else "usage_request"
    return await _rendered(request, f"{part}.html", context, status=HTTPStatus.OK)


@allow("GET")
async def export(request: HttpRequest) -> StreamingHttpResponse:
    """Hand out requests as CSV; with `of=sums` the sums of the page in place of them."""
    principal = principal_of(request)
    if request.GET.get("of") == "sums":
        asked = _asked(UsageForm(request.GET))
        read = partial(_sums, principal, asked)
        return await usage_export.file_of(principal, read, Form.CSV, Usage)
    asked = _asked(RequestsForm(request.GET))
    rows = partial(ledger.all_pages, principal, asked.question, outcome=asked.outcome)
    return await usage_export.file_of(principal, rows, Form.CSV, RequestRecord)


async def _rendered(
    request: HttpRequest, template: str, context: dict[str, Any], *, status: int
) -> HttpResponse:
    """Write a page on a thread: hundreds of bars take as long as many tokens of others' answers."""
    write = partial(render, request, f"models_app/{template}", context, status=status)
    return await sync_to_async(write)()


def _context(form: UsageForm | RequestsForm, principal: Principal) -> dict[str, Any]:
    return {
        "form": form,
        "teams": usage_overview.teams_of(principal),
        "sees_all": principal.is_auditor,
    }


def _status(form: UsageForm | RequestsForm) -> int:
    return 400 if form.errors else 200


def _listed(
    principal: Principal, asked: Asked, after: Place | None
) -> tuple[list[RequestRecord], Place | None]:
    return ledger.page(principal, asked.question, limit=LISTED, after=after, outcome=asked.outcome)


def _asked(form: UsageForm | RequestsForm) -> Asked:
    if not form.is_valid():
        raise BadRequest(str(next(iter(form.errors.values()))[0]))
    return form.asked(timezone.now())


def _sums(principal: Principal, asked: Asked) -> Any:
    group_by = asked.group_by or asked.granularity or "day"
    yield ledger.sums(principal, asked.question, group_by=group_by)
