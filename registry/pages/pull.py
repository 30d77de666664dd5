"""The page that has a model pulled; how it goes is told on the job's own page.

Knows no registry.
"""

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache

from models_app.page_requests import allow, principal_of
from registry.pages.pull_form import PullForm, examples


@never_cache
@allow("GET", "POST")
def pull(request: HttpRequest) -> HttpResponse:
    """Show the form; POST begins the pull."""
    is_posted = request.method == "POST"
    asked = {"name": request.GET.get("name", "")}
    form = PullForm(request.POST if is_posted else None, initial=asked)
    if is_posted and (job := form.submit(principal_of(request))):
        return redirect("job", job.job_id)
    context = {
        "form": form,
        "examples": examples(settings.DEFAULT_REGISTRY),
        "registries": settings.ALLOWED_REGISTRIES,
    }
    return render(request, "registry/pull.html", context, status=400 if is_posted else 200)


@never_cache
@allow("POST")
def check(request: HttpRequest) -> HttpResponse:
    """Tell, while a name is typed, from where it would come or why it cannot."""
    form = PullForm(request.POST)
    context = {"places": form.places(principal_of(request)), "form": form}
    return render(request, "registry/pull_check.html", context)
