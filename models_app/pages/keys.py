"""Pages of one's API keys: the list, and the form for another. Know no row of the database."""

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.cache import never_cache

from models_app import key_overview, keys, selectors
from models_app.key_forms import KeyChoices, NewKeyForm
from models_app.keys import NewKey
from models_app.name_patterns import matches_any
from models_app.page_requests import allow, principal_of
from models_app.permissions import Principal

_MOST_MODELS = 200


@never_cache
@allow("GET")
def key_list(request: HttpRequest) -> HttpResponse:
    """Show one's keys, and those of service accounts that one looks after."""
    cards = key_overview.key_cards(principal_of(request))
    context = {
        "good": [card for card in cards if card.is_good],
        "ended": [card for card in cards if not card.is_good],
        "most_tokens": max((card.use.tokens for card in cards), default=0),
    }
    return render(request, "models_app/keys.html", context)


@never_cache
@allow("GET", "POST")
def new_key(request: HttpRequest) -> HttpResponse:
    """Show the form for a key; POST makes one, and its answer has the secret, this once."""
    principal = principal_of(request)
    data = request.POST if request.method == "POST" else None
    form = NewKeyForm(data, by=principal, choices=_choices(principal))
    made = form.make() if form.is_bound else None
    if made is not None:
        return show_secret(request, made)
    return render(request, "models_app/key_new.html", {"form": form}, status=_status(form))


def show_secret(request: HttpRequest, made: NewKey, *, replaced: str = "") -> HttpResponse:
    """Answer with a key that has just been made. Nobody keeps this answer.

    `replaced`: the prefix of the key whose place it takes.
    """
    context = {
        "key": made.record,
        "secret": made.secret,
        "replaced": replaced,
        "base_url": request.build_absolute_uri("/").rstrip("/"),
        "example_model": _example_model(principal_of(request), made.record.rules.models),
    }
    return render(request, "models_app/key_made.html", context, status=201)


def _status(form: NewKeyForm) -> int:
    return 400 if form.is_bound else 200


def _choices(principal: Principal) -> KeyChoices:
    names = {tag.name.short for tag in selectors.visible_tags(principal)}
    return KeyChoices(
        teams=tuple(place.name for place in principal.teams),
        services=tuple(keys.list_service_owners(principal)),
        models=tuple(sorted(names)[:_MOST_MODELS]),
    )


def _example_model(principal: Principal, patterns: tuple[str, ...]) -> str:
    """Return the name of a model that a key is for; empty: there is none that one sees."""
    tags = selectors.visible_tags(principal)
    fits = (tag.name for tag in tags if not patterns or matches_any(patterns, tag.name))
    return next((name.short for name in fits), "")
