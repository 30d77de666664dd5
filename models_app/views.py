"""Pages about accounts: sign in, sign out. Knows no model and no API."""

from typing import Any
from urllib.parse import urlsplit

from django.contrib import messages
from django.contrib.auth import logout
from django.contrib.auth.views import LoginView
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, resolve_url

from models_app.forms import SignInForm
from ollamasite import errors
from ollamasite.error_responses import to_response


class SignInView(LoginView):
    """Checks a user name and password, starts a session and leads back to where one came from."""

    template_name = "models_app/signin.html"
    authentication_form = SignInForm
    redirect_authenticated_user = True
    http_method_names = ["get", "head", "post"]

    def get_redirect_url(self, request: HttpRequest | None = None) -> str:
        """Return `next` where it is a page of this site to come back to, else an empty text.

        `request` is part of the signature that later versions of Django have.
        """
        target = super().get_redirect_url()
        # Neither is a place to be afterwards: the first would lead round in a circle, the second
        # only answers POST.
        is_dead_end = urlsplit(target).path in {resolve_url("signin"), resolve_url("signout")}
        return "" if is_dead_end else target

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


def csrf_failed(request: HttpRequest, reason: str = "") -> HttpResponse:
    """Answer for a form without its token (settings.CSRF_FAILURE_VIEW)."""
    sentence = "This form is too old or came from elsewhere. Go back, reload the page, try again."
    return to_response(errors.Forbidden(sentence), request)
