"""One's own data: to take along, and to have forgotten. Async; knows no row of the database."""

from asgiref.sync import sync_to_async
from django.contrib import messages
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters

from models_app.own_data_answer import export_answer
from models_app.page_requests import allow, principal_of
from models_app.profile_forms import DeleteAccountForm


@allow("GET")
async def export(request: HttpRequest) -> StreamingHttpResponse:
    """Send everything that this site knows of the caller."""
    return await export_answer(principal_of(request))


@never_cache
@sensitive_post_parameters("password")
@allow("GET", "POST")
async def delete(request: HttpRequest) -> HttpResponse:
    """Show what goes with an account; POST deletes it."""
    data = request.POST if request.method == "POST" else None
    form = DeleteAccountForm(data, request=request, by=principal_of(request))
    if form.is_bound and await sync_to_async(form.delete)():
        messages.success(request, "Your account is deleted, with all that was yours alone.")
        return redirect("signin")
    status = 400 if form.is_bound else 200
    return render(request, "models_app/delete_account.html", {"form": form}, status=status)
