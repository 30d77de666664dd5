"""The pages of jobs: the list, one job as it goes, and the line on every page.

All of them ask for themselves anew while something runs, so that a lost connection costs nothing
but time. Knows no kind of job.
"""

from typing import Final

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache

from models_app import job_lists
from models_app.page_requests import allow, principal_of
from registry.jobs import submit
from registry.pages import job_strip
from registry.pages.answers import page_or_part
from registry.pages.job_rows import file_rows, job_row, job_rows, log_lines
from registry.pages.job_sections import sections

_STRIP_COOKIE: Final = "job_strip"


@never_cache
@allow("GET")
def jobs(request: HttpRequest) -> HttpResponse:
    """List one's jobs; `?all=1` those of everybody, for operators."""
    principal = principal_of(request)
    is_everybodys = principal.may_operate and request.GET.get("all") == "1"
    lists = job_lists.list_for_people(principal, is_everybodys=is_everybodys)
    context = {
        "sections": sections(lists, principal),
        "is_active": bool(lists.active),
        "is_everybodys": is_everybodys,
    }
    return page_or_part(request, "jobs", context)


@never_cache
@allow("GET")
def job(request: HttpRequest, job_id: str) -> HttpResponse:
    """Show one job."""
    principal = principal_of(request)
    record = submit.find(principal, job_id)
    context = {
        "job": job_row(record, principal),
        "files": file_rows(record),
        "lines": log_lines(record),
    }
    return page_or_part(request, "job", context)


@allow("POST")
def cancel(request: HttpRequest, job_id: str) -> HttpResponse:
    """Cancel a job; one that has ended stays as it is."""
    record = submit.cancel(principal_of(request), job_id)
    return _back(request, record.job_id)


@allow("POST")
def retry(request: HttpRequest, job_id: str) -> HttpResponse:
    """Have a job done again that has failed or was cancelled."""
    record = submit.retry(principal_of(request), job_id)
    messages.success(request, "It is in line again.")
    return _back(request, record.job_id)


@allow("POST")
def dismiss(request: HttpRequest, job_id: str) -> HttpResponse:
    """Let a job that has failed need no attention any longer."""
    record = submit.dismiss(principal_of(request), job_id)
    return _back(request, record.job_id)


@never_cache
@allow("GET")
def strip(request: HttpRequest) -> HttpResponse:
    """Tell in one line what runs, and of what has ended since this was asked last."""
    principal = principal_of(request)
    remembered = job_strip.parse_ids(request.COOKIES.get(_STRIP_COOKIE, ""))
    known = [*remembered, *job_strip.parse_ids(request.GET.get("active", ""))]
    shown = job_strip.parse_ids(request.GET.get("ended", ""))
    rows = job_rows(job_lists.list_to_tell(principal, [*known, *shown]), principal)
    told = job_strip.tell(rows, known=known, shown=shown)
    answer = render(request, "registry/job_strip_part.html", {"strip": told})
    answer.set_cookie(
        _STRIP_COOKIE,
        told.active,
        path=request.path,
        secure=request.is_secure(),
        httponly=True,
        samesite="Lax",
    )
    return answer


def _back(request: HttpRequest, job_id: str) -> HttpResponse:
    """Return to the page that the button is on."""
    return redirect("jobs") if request.POST.get("back") == "jobs" else redirect("job", job_id)
