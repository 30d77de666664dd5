"""What the admin's pages do with engines elsewhere: add one, ask it, serve a model of it."""

from dataclasses import replace
from typing import Any, Final

from django import forms
from unfold.widgets import (
    UnfoldAdminCheckboxSelectMultipleWidget,
    UnfoldAdminIntegerFieldWidget,
    UnfoldAdminPasswordWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextInputWidget,
)

from models_app import upstreams
from models_app.admin.acts import Act, Doing, Values
from models_app.admin.upstreams import UpstreamAdmin
from models_app.errors import InvalidUpstream
from models_app.upstreams import UpstreamSettings
from registry.upstreams import (
    CAPABILITIES,
    DEFAULT_CAPABILITIES,
    NewServed,
    add_upstream,
    change_upstream,
    look_now,
    serve_model,
)

_MOST_TOKENS: Final = 2**24


class EngineForm(forms.Form):
    """How an engine is reached and used."""

    url = forms.CharField(
        label="URL",
        max_length=500,
        help_text="Where its routes begin, such as http://gpu1:8000/v1.",
        widget=UnfoldAdminTextInputWidget,
    )
    kind = forms.ChoiceField(
        label="Program", choices=upstreams.KIND_CHOICES, widget=UnfoldAdminSelectWidget
    )
    key = forms.CharField(
        label="Key",
        required=False,
        max_length=2000,
        help_text="Stored encrypted and shown to nobody. Empty: as it is.",
        widget=UnfoldAdminPasswordWidget(attrs={"autocomplete": "off"}),
    )
    concurrency = forms.IntegerField(
        label="Requests at a time",
        min_value=1,
        max_value=4096,
        initial=8,
        help_text="All others wait here, in the fair queue.",
        widget=UnfoldAdminIntegerFieldWidget,
    )
    first_s = forms.IntegerField(
        label="Seconds until an answer begins",
        min_value=1,
        max_value=86_400,
        initial=300,
        widget=UnfoldAdminIntegerFieldWidget,
    )
    silence_s = forms.IntegerField(
        label="Seconds between its pieces",
        min_value=1,
        max_value=86_400,
        initial=60,
        widget=UnfoldAdminIntegerFieldWidget,
    )


class NewEngineForm(EngineForm):
    """The same, with a name."""

    name = forms.CharField(label="Name", max_length=80, widget=UnfoldAdminTextInputWidget)
    field_order = ("name", "url", "kind", "key")


class ServeForm(forms.Form):
    """A model of an engine and what it is called here."""

    model = forms.CharField(
        label="Model of the engine",
        max_length=400,
        help_text="As the engine calls it; its page lists what it has.",
        widget=UnfoldAdminTextInputWidget,
    )
    name = forms.CharField(
        label="Name here",
        max_length=700,
        help_text="Without a namespace: in the library, for everybody.",
        widget=UnfoldAdminTextInputWidget,
    )
    capabilities = forms.MultipleChoiceField(
        label="What it can do",
        choices=[(name, name) for name in CAPABILITIES],
        initial=DEFAULT_CAPABILITIES,
        widget=UnfoldAdminCheckboxSelectMultipleWidget,
    )
    context_length = forms.IntegerField(
        label="Context in tokens",
        required=False,
        min_value=1,
        max_value=_MOST_TOKENS,
        help_text="Empty: what the engine tells.",
        widget=UnfoldAdminIntegerFieldWidget,
    )


def _settings(values: Values) -> UpstreamSettings:
    return UpstreamSettings(
        url=values["url"],
        kind=values["kind"],
        concurrency=values["concurrency"],
        first_s=values["first_s"],
        silence_s=values["silence_s"],
        key=values["key"] or None,
    )


def _add(doing: Doing, _row: None) -> None:
    add_upstream(doing.by, doing.values["name"], _settings(doing.values))
    look_now(doing.by, doing.values["name"])


def _change(doing: Doing, row: Any) -> None:
    settings = _settings(doing.values)
    # What stands there already is no new address.
    same = replace(settings, url=None) if settings.url == row.url else settings
    change_upstream(doing.by, row.name, same)


def _forget_key(doing: Doing, row: Any) -> None:
    change_upstream(doing.by, row.name, UpstreamSettings(key=""))


def _look(doing: Doing, row: Any) -> None:
    if problem := look_now(doing.by, row.name).problem:
        raise InvalidUpstream(problem)


def _serve(doing: Doing, row: Any) -> None:
    values = doing.values
    serve_model(
        doing.by,
        NewServed(
            upstream=row.name,
            model=values["model"],
            name=values["name"],
            capabilities=tuple(values["capabilities"]),
            context_length=values["context_length"],
        ),
    )


def _known(row: Any) -> Values:
    names = ("url", "kind", "concurrency", "first_s", "silence_s")
    return {name: getattr(row, name) for name in names}


def _first_offer(row: Any) -> Values:
    offered = [str(offer.get("id", "")) for offer in row.offers]
    return {"model": offered[0]} if offered else {}


UpstreamAdmin.offer(
    Act(
        name="add",
        label="Add an engine",
        explains="It is asked at once whether it is there and which models it has. It may be "
        "inside your network; requests and the key go to this address and to no other.",
        do=_add,
        form=NewEngineForm,
        is_of_none=True,
    ),
    Act(
        name="change",
        label="Change",
        explains="It holds from the next request on. A new address wants the key again.",
        do=_change,
        form=EngineForm,
        initial=_known,
        is_single=True,
    ),
    Act(
        name="look",
        label="Ask it now",
        explains="Whether it is up and which models it has.",
        do=_look,
    ),
    Act(
        name="serve",
        label="Serve a model",
        explains="One of its models gets a name here, like all others to whoever asks for it.",
        do=_serve,
        form=ServeForm,
        initial=_first_offer,
        is_single=True,
    ),
    Act(
        name="forget-key",
        label="Forget its key",
        explains="It is shown no key from now on.",
        do=_forget_key,
        is_for=lambda row: bool(row.sealed_key),
        is_single=True,
        is_grave=True,
    ),
)
