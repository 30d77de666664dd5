"""Models and their tags under /admin/: size, whose, who sees them, whether they are in memory.

Somebody's private model is there by its name and size, and nothing of what is in it. Which models
are in memory is asked once for a page; `inference.admin` says how. Loading, copying and deleting
are added by it and by `registry.admin`.
"""

from collections.abc import Callable, Collection
from typing import Any, ClassVar

from django import forms
from django.contrib.admin import display
from django.db.models import (
    BooleanField,
    Count,
    ExpressionWrapper,
    OuterRef,
    Q,
    QuerySet,
    Subquery,
    Sum,
    Value,
)
from django.db.models.functions import Coalesce
from django.http import HttpRequest
from unfold.widgets import UnfoldAdminSelectWidget

from models_app import grants
from models_app.admin.acts import Act, Doing
from models_app.admin.panel import Panel
from models_app.admin.site import site
from models_app.grants import AccessChange
from models_app.models import LanguageModel, Tag, Visibility
from models_app.names import ModelName
from models_app.permissions import Principal
from ollamasite.sizes import print_size

_LOADED = "_loaded_digests"


class VisibilityForm(forms.Form):
    """Who may see a model besides those it belongs to."""

    visibility = forms.ChoiceField(
        label="Seen by", choices=Visibility.choices, widget=UnfoldAdminSelectWidget
    )


def _operators(principal: Principal) -> bool:
    return principal.is_operator


def _pin(doing: Doing, model: LanguageModel) -> None:
    grants.set_pinned(model.pk, is_pinned=True, by=doing.by)


def _unpin(doing: Doing, model: LanguageModel) -> None:
    grants.set_pinned(model.pk, is_pinned=False, by=doing.by)


def _set_visibility(doing: Doing, model: LanguageModel) -> None:
    name = ModelName(host=model.host, namespace=model.namespace, model=model.name)
    change = AccessChange(visibility=Visibility(doing.values["visibility"]))
    grants.change_access(name, change, by=doing.by)


def _whose(model: LanguageModel) -> str:
    if model.team is not None:
        return f"{model.team} (team)"
    return model.owner.username if model.owner else "the site"


class LanguageModelAdmin(Panel):
    """Models, whatever their tags."""

    is_for_operators = True
    acts = (
        Act(
            name="pin",
            label="Pin",
            explains="Once it is loaded, it stays in memory.",
            do=_pin,
            is_for=lambda model: not model.is_pinned,
            is_of=_operators,
        ),
        Act(
            name="unpin",
            label="Unpin",
            explains="It leaves memory like others.",
            do=_unpin,
            is_for=lambda model: model.is_pinned,
            is_of=_operators,
        ),
        Act(
            name="visibility",
            label="Who sees it",
            explains="For models of the library, and for your own ones and your teams'.",
            do=_set_visibility,
            form=VisibilityForm,
            initial=lambda model: {"visibility": model.visibility},
            is_of=_operators,
            is_single=True,
        ),
    )
    fields = (
        *("full_name", "whose", "visibility", "cache_scope", "pinned", "is_mirror"),
        *("tag_list", "size", "created_at"),
    )
    list_display = ("full_name", "whose", "visibility", "tag_count", "size", "pinned")
    list_display_links = ("full_name",)
    list_filter = ("visibility", "is_pinned", "is_mirror")
    search_fields = ("namespace", "name", "owner__username", "team__name")
    ordering = ("namespace", "name", "pk")
    sortable_by = ("visibility", "pinned")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Return all models with how many tags they have and how large these are together."""
        rows: QuerySet[Any] = super().get_queryset(request)
        tags = Tag.objects.filter(model=OuterRef("pk")).order_by().values("model")
        sizes = tags.annotate(sum=Sum("manifest__size_bytes")).values("sum")
        listed: QuerySet[Any] = (
            rows.select_related("owner", "team")
            .defer("owner__password")
            .annotate(
                tags_there=Coalesce(Subquery(tags.annotate(n=Count("pk")).values("n")), 0),
                size_bytes=Coalesce(Subquery(sizes), 0),
            )
        )
        return listed

    @display(description="model", ordering="name")
    def full_name(self, model: LanguageModel) -> str:
        """Return its name."""
        name = ModelName(host=model.host, namespace=model.namespace, model=model.name)
        return name.short.rpartition(":")[0]

    @display(description="belongs to")
    def whose(self, model: LanguageModel) -> str:
        """Return whose it is."""
        return _whose(model)

    @display(description="tags")
    def tag_count(self, model: Any) -> int:
        """Return how many tags it has."""
        return int(model.tags_there)

    @display(description="size")
    def size(self, model: Any) -> str:
        """Return how large its tags are, what they share counted for each."""
        return print_size(model.size_bytes)

    @display(description="pinned", ordering="is_pinned")
    def pinned(self, model: LanguageModel) -> str:
        """Return whether it stays in memory once it is there."""
        return "pinned" if model.is_pinned else "-"

    @display(description="tags")
    def tag_list(self, model: LanguageModel) -> str:
        """Return its tags."""
        return ", ".join(model.tags.values_list("name", flat=True)) or "-"


class TagAdmin(Panel):
    """Models by their whole names, as they are asked for."""

    # Digests of what is in memory (64 hex); None: no node answers.
    loaded_digests: ClassVar[Callable[[], Collection[str] | None]] = lambda: ()

    is_for_operators = True
    fields = (
        *("full_name_text", "whose", "visibility", "size", "family", "parameters", "quantization"),
        *("in_memory", "digest", "modified_at"),
    )
    list_display = ("full_name_text", "size", "visibility", "whose", "in_memory", "modified_at")
    list_display_links = ("full_name_text",)
    list_filter = ("model__visibility",)
    search_fields = ("name", "model__namespace", "model__name", "model__owner__username")
    ordering = ("-modified_at", "-pk")
    sortable_by = ("modified_at",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Return all tags, without their manifests' bodies, and whether each is in memory."""
        rows: QuerySet[Any] = super().get_queryset(request)
        listed: QuerySet[Any] = (
            rows.select_related("model__owner", "model__team", "manifest")
            .defer("manifest__body", "manifest__children", "model__owner__password")
            .annotate(is_loaded=_is_loaded(_asked_once(request, type(self).loaded_digests)))
        )
        return listed

    @display(description="name", ordering="model__name")
    def full_name_text(self, tag: Tag) -> str:
        """Return its whole name."""
        return tag.full_name.short

    @display(description="size")
    def size(self, tag: Tag) -> str:
        """Return how large its files are together."""
        return print_size(tag.manifest.size_bytes)

    @display(description="seen by")
    def visibility(self, tag: Tag) -> str:
        """Return who sees it."""
        return tag.model.get_visibility_display()

    @display(description="belongs to")
    def whose(self, tag: Tag) -> str:
        """Return whose it is."""
        return _whose(tag.model)

    @display(description="in memory")
    def in_memory(self, tag: Any) -> str:
        """Return whether a node has loaded it."""
        if tag.is_loaded is None:
            return "not known: no node answers"
        return "loaded" if tag.is_loaded else "-"

    @display(description="family")
    def family(self, tag: Tag) -> str:
        """Return the architecture."""
        return tag.manifest.config.get("model_family") or "-"

    @display(description="parameters")
    def parameters(self, tag: Tag) -> str:
        """Return how many parameters it has."""
        return tag.manifest.config.get("model_type") or "-"

    @display(description="quantization")
    def quantization(self, tag: Tag) -> str:
        """Return how its weights are stored."""
        return tag.manifest.config.get("file_type") or "-"

    @display(description="digest")
    def digest(self, tag: Tag) -> str:
        """Return the digest of its manifest."""
        return tag.manifest.digest


def _asked_once(
    request: HttpRequest, ask: Callable[[], Collection[str] | None]
) -> Collection[str] | None:
    """Return what is in memory; a node is asked once for a page."""
    if not hasattr(request, _LOADED):
        setattr(request, _LOADED, ask())
    found: Collection[str] | None = getattr(request, _LOADED)
    return found


def _is_loaded(digests: Collection[str] | None) -> Any:
    if digests is None:
        return Value(None, output_field=BooleanField(null=True))
    if not digests:
        return Value(value=False)
    condition = Q(manifest__digest__in=list(digests))
    return ExpressionWrapper(condition, output_field=BooleanField(null=True))


site.register(Tag, TagAdmin)
site.register(LanguageModel, LanguageModelAdmin)
