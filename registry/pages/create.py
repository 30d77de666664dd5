"""The page with the Modelfile editor; how the creation goes is told on the job's own page.

Knows no file.
"""

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache

from models_app.page_requests import allow, principal_of
from registry import library
from registry.pages.create_form import CreateForm, first_text


@never_cache
@allow("GET", "POST")
def create(request: HttpRequest) -> HttpResponse:
    """Show the editor; POST has the model created."""
    principal, is_posted = principal_of(request), request.method == "POST"
    names = [model.name for model in library.list_models(principal)]
    base = request.GET.get("from", "") or next(iter(names), "")
    form = CreateForm(request.POST if is_posted else None, initial={"modelfile": first_text(base)})
    if is_posted and (job := form.submit(principal)):
        return redirect("job", job.job_id)
    remarks = form.remarks(principal) if is_posted else []
    context = {"form": form, "bases": names, "remarks": remarks}
    return render(request, "registry/create.html", context, status=400 if is_posted else 200)


@never_cache
@allow("POST")
def check(request: HttpRequest) -> HttpResponse:
    """Tell, while a Modelfile is written, what is wrong with it and in which line."""
    form = CreateForm(request.POST)
    context = {"remarks": form.remarks(principal_of(request))}
    return render(request, "registry/create_check.html", context)
