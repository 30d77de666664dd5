"""The page of the queue: what runs and waits, model by model; a way to end what is one's own.

Async, as the engine is asked. With `HX-Request` only the part that changes is answered.
"""

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache

from inference import queue, request_rows
from inference.pages.parts import is_part
from models_app.page_requests import allow, principal_of


@never_cache
@allow("GET")
async def show(request: HttpRequest) -> HttpResponse:
    """Show the queue."""
    seen = await queue.queue_or_none(principal_of(request))
    context = request_rows.page_of(seen)
    template = "inference/queue_live.html" if is_part(request) else "inference/queue.html"
    return render(request, template, context)


@never_cache
@allow("POST")
async def cancel(request: HttpRequest, request_id: str) -> HttpResponse:
    """End a request; what is not yet confirmed is asked first."""
    principal = principal_of(request)
    if request.POST.get("confirmed") != "yes":
        found = await queue.find(principal, request_id)
        return render(request, "inference/queue_cancel.html", {"row": request_rows.row_of(found)})
    await queue.cancel(principal, request_id)
    messages.success(request, "The request is cancelled.")
    return redirect("queue")
