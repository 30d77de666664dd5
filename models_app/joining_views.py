"""Pages by which people come in: sign up, an invite, a new password. Knows no model and no API.

A secret in an address is looked at once and then left: the page that is shown has an address
without it, so that it is in nobody's history, log or Referer header longer than that.
"""

from functools import partial
from typing import Any, Final

from django.conf import settings
from django.contrib import messages
from django.contrib.auth import login, logout, views
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse_lazy
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.generic import View

from models_app import attempts, invites
from models_app.invites import InviteRecord
from models_app.joining_forms import JoinForm, NewAccountForm, NewPasswordForm, OwnPasswordForm
from models_app.models import User
from models_app.password_links import password_links
from models_app.sign_up import OFF, sign_up
from ollamasite import errors
from ollamasite.client_address import current_address

_INVITE: Final = "invite"  # in the session: which one was opened
_BACKEND: Final = "django.contrib.auth.backends.ModelBackend"


@never_cache
def open_invite(request: HttpRequest, secret: str) -> HttpResponse:
    """Note in the session which invite a link is of, and lead to its page."""
    if request.method not in {"GET", "HEAD"}:
        raise errors.MethodNotAllowed(headers={"Allow": "GET, HEAD"})
    found = invites.find_by_secret(secret)
    if found is None:
        return _no_invite(request)
    request.session[_INVITE] = found.invite_id
    return redirect("invite")


@never_cache
@sensitive_post_parameters("password", "again")
def invite(request: HttpRequest) -> HttpResponse:
    """Show the invite that was opened; POST takes it, with the account or with a new one."""
    _require_form_method(request)
    found = invites.find_good(request.session.get(_INVITE, 0))
    if found is None:
        return _no_invite(request)
    if isinstance(request.user, User):
        return _join(request, found, request.user)
    form = NewAccountForm(request.POST if request.method == "POST" else None)
    user = form.make(partial(invites.accept_as_new, found.invite_id)) if form.is_bound else None
    if user is None:
        return _shown(request, "models_app/invite.html", form, {"invite": found})
    del request.session[_INVITE]
    login(request, user, backend=_BACKEND)
    return redirect("home")


def _join(request: HttpRequest, found: InviteRecord, user: User) -> HttpResponse:
    form = JoinForm(request.POST if request.method == "POST" else None)
    team = form.join(found.invite_id, user) if form.is_bound else None
    if team is None:
        context = {"invite": found, "joins_as": user.username, "form": form}
        status = 409 if form.is_bound else 200
        return render(request, "models_app/invite.html", context, status=status)
    del request.session[_INVITE]
    return redirect("home")


def _no_invite(request: HttpRequest) -> HttpResponse:
    return render(request, "models_app/invite.html", {"invite": None}, status=404)


@never_cache
@sensitive_post_parameters("password", "again")
def signup(request: HttpRequest) -> HttpResponse:
    """Show the form for an account, where the site lets people ask for one; POST asks."""
    _require_form_method(request)
    if settings.SIGN_UP == OFF:
        raise errors.NotFound
    if request.user.is_authenticated:
        return redirect("home")
    if request.method == "POST":
        attempts.note(attempts.Attempt.SIGN_UP, current_address())
    form = NewAccountForm(request.POST if request.method == "POST" else None)
    user = form.make(sign_up) if form.is_bound else None
    if user is None:
        context = {"waits": settings.SIGN_UP != "open"}
        return _shown(request, "models_app/signup.html", form, context)
    if user.is_active:
        login(request, user, backend=_BACKEND)
        return redirect("home")
    messages.success(request, "Thank you. You can sign in when an administrator has let you in.")
    return redirect("signin")


def _shown(
    request: HttpRequest, template: str, form: NewAccountForm, context: dict[str, Any]
) -> HttpResponse:
    form.begin()
    status = 400 if form.is_bound else 200
    return render(request, template, {"form": form, **context}, status=status)


def _require_form_method(request: HttpRequest) -> None:
    if request.method not in {"GET", "HEAD", "POST"}:
        raise errors.MethodNotAllowed(headers={"Allow": "GET, HEAD, POST"})


class _FormView(View):
    """What the pages about passwords have in common: methods, refused in the site's own words."""

    http_method_names = ["get", "head", "post"]

    def http_method_not_allowed(
        self, request: HttpRequest, *args: Any, **kwargs: Any
    ) -> HttpResponse:
        """Refuse any other method."""
        raise errors.MethodNotAllowed(headers={"Allow": "GET, HEAD, POST"})


class NewPasswordView(_FormView, views.PasswordResetConfirmView):
    """The page of a one-time link: the link's secret goes to the session, then the form is shown.

    Whoever is signed in here is signed out: the browser may be somebody else's.
    """

    template_name = "models_app/new_password.html"
    form_class = NewPasswordForm
    token_generator = password_links
    reset_url_token = "choose"  # noqa: S105 - no secret: what stands in its place
    success_url = reverse_lazy("signin")

    def get_user(self, uidb64: str) -> User | None:
        """Return whose link it may be: nobody who does not sign in."""
        user = super().get_user(uidb64)
        may_sign_in = isinstance(user, User) and user.is_active and user.service_of_id is None
        return user if may_sign_in else None

    def form_valid(self, form: Any) -> HttpResponse:
        """Set the password."""
        answer = super().form_valid(form)
        logout(self.request)
        messages.success(self.request, "The new password is set. Sign in with it.")
        return answer

    def render_to_response(self, context: dict[str, Any], **kwargs: Any) -> HttpResponse:
        """Answer 404 for a link that is not good, and 400 for what was typed wrongly."""
        if not context.get("validlink"):
            kwargs["status"] = 404
        elif context["form"].errors:
            kwargs["status"] = 400
        return super().render_to_response(context, **kwargs)


class OwnPasswordView(_FormView, views.PasswordChangeView):
    """The page on which somebody changes their password; other sessions of theirs end."""

    template_name = "models_app/own_password.html"
    form_class = OwnPasswordForm
    success_url = reverse_lazy("own-password")

    def get_form_kwargs(self) -> dict[str, Any]:
        """Return what the form is made of."""
        return super().get_form_kwargs() | {"request": self.request}

    def form_valid(self, form: Any) -> HttpResponse:
        """Set the password."""
        messages.success(self.request, "The password is changed. You are signed out elsewhere.")
        return super().form_valid(form)

    def render_to_response(self, context: dict[str, Any], **kwargs: Any) -> HttpResponse:
        """Answer 400 for what was typed wrongly."""
        if context["form"].errors:
            kwargs["status"] = 400
        return super().render_to_response(context, **kwargs)
