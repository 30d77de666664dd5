"""The page that brings a GGUF file; its bytes go to the registry's own uploads.

Knows no file.
"""

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.cache import never_cache

from models_app.page_requests import allow, principal_of
from ollamasite.http import json_response
from registry.pages.upload_form import BeginForm, FinishForm
from registry.pages.wording import size_in_words


@never_cache
@allow("GET")
def upload(request: HttpRequest) -> HttpResponse:
    """Show the page."""
    most_bytes = settings.MAX_BLOB_BYTES
    context = {"most_bytes": most_bytes, "most": size_in_words(most_bytes)}
    return render(request, "registry/upload.html", context)


@allow("POST")
def begin(request: HttpRequest) -> HttpResponse:
    """Begin an upload, and tell where its bytes go."""
    begun = BeginForm(request.POST).begin(principal_of(request))
    told = {
        "session": begun.session_id,
        "repository": begun.repository,
        "model": begun.model_name,
        "url": f"/v2/{begun.repository}/blobs/uploads/{begun.session_id}",
    }
    return json_response(told, status=201)


@allow("POST")
def finish(request: HttpRequest) -> HttpResponse:
    """Have a model made of an upload of which all has come, and tell where its job is."""
    return json_response({"job": FinishForm(request.POST).finish(principal_of(request))})
