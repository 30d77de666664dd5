"""Pages about accounts: sign in, sign out, the keys of one's clients. Knows no model and no API."""

from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.contrib import messages
from django.contrib.auth import logout
from django.contrib.auth.views import LoginView
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render, resolve_url
from django.views.decorators.cache import never_cache

from models_app import sign_ins
from models_app.client_keys import client_keys_of, remove_client_key
from models_app.forms import ClientKeyForm, SignInForm
from models_app.permissions import Principal
from models_app.sign_up import OFF
from ollamasite import errors
from ollamasite.challenges import asked_of_request
from ollamasite.error_responses import to_response


class SignInView(LoginView):
    """Checks a user name and password, starts a session and leads back to where one came from."""

    template_name = "models_app/signin.html"
    authentication_form = SignInForm
    redirect_authenticated_user = True
    http_method_names = ["get", "head", "post"]

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """Add whether people may ask for an account: empty, `approval` or `open`."""
        may_sign_up = "" if settings.SIGN_UP == OFF else settings.SIGN_UP
        return super().get_context_data(**kwargs) | {"sign_up": may_sign_up}

    def get_redirect_url(self, request: HttpRequest | None = None) -> str:
        """Return `next` where it is a page of this site to come back to, else an empty text.

        `request` is part of the signature that later versions of Django have.
        """
        target = super().get_redirect_url()
        # Neither is a place to be afterwards: the first would lead round in a circle, the second
        # only answers POST.
        is_dead_end = urlsplit(target).path in {resolve_url("signin"), resolve_url("signout")}
        return "" if is_dead_end else target

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Check what was typed, unless this address has tried too often."""
        sign_ins.require_try(request)
        return super().post(request, *args, **kwargs)

    def http_method_not_allowed(
        self, request: HttpRequest, *args: Any, **kwargs: Any
    ) -> HttpResponse:
        """Refuse any other method in the site's own words."""
        raise errors.MethodNotAllowed(headers={"Allow": "GET, HEAD, POST"})


def sign_out(request: HttpRequest) -> HttpResponse:
    """End the session. Only by POST, so that no link or picture can do it."""
    if request.method != "POST":
        raise errors.MethodNotAllowed(headers={"Allow": "POST"})
    logout(request)
    messages.success(request, "You are signed out.")
    return redirect("signin")


@never_cache
def client_keys(request: HttpRequest) -> HttpResponse:
    """Show one's ed25519 keys; POST registers another."""
    if request.method not in {"GET", "HEAD", "POST"}:
        raise errors.MethodNotAllowed(headers={"Allow": "GET, HEAD, POST"})
    user = request.user
    if not user.is_authenticated:  # the gate lets only sessions come here
        raise errors.Unauthenticated
    is_posted = request.method == "POST"
    form = ClientKeyForm(request.POST if is_posted else None)
    if is_posted and (key := form.register(user, by=_principal(request))):
        messages.success(request, f"The key {key.name} is registered.")
        return redirect("client-keys")
    origin = asked_of_request(request).origin
    context = {"form": form, "keys": client_keys_of(user.pk), "origin": origin}
    return render(request, "models_app/client_keys.html", context, status=400 if is_posted else 200)


def remove_key(request: HttpRequest, key_id: int) -> HttpResponse:
    """Remove one of one's ed25519 keys. Only by POST, so that no link or picture can do it."""
    if request.method != "POST":
        raise errors.MethodNotAllowed(headers={"Allow": "POST"})
    principal = _principal(request)
    if not remove_client_key(principal.user_id, key_id, by=principal):
        raise errors.NotFound("There is no such key.")
    messages.success(request, "The key is removed: what it signs is nobody's from now on.")
    return redirect("client-keys")


def csrf_failed(request: HttpRequest, reason: str = "") -> HttpResponse:
    """Answer for a form without its token (settings.CSRF_FAILURE_VIEW)."""
    sentence = "This form is too old or came from elsewhere. Go back, reload the page, try again."
    return to_response(errors.Forbidden(sentence), request)


def _principal(request: HttpRequest) -> Principal:
    principal: Principal = request.principal  # type: ignore[attr-defined] # set by the gate
    return principal
