"""The admin pages, for administrators of the site alone (`models_app.policy`).

Shows tables and calls services; knows no rule itself. Imported by the URLconf and by nothing that
serves no pages.
"""

from typing import TYPE_CHECKING, Any

from django import forms
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.http import HttpRequest
from unfold.admin import ModelAdmin
from unfold.sites import UnfoldAdminSite

from models_app import aliases
from models_app.models import Alias

site = UnfoldAdminSite()

if TYPE_CHECKING:
    _ModelForm = forms.ModelForm[Alias]
else:
    _ModelForm = forms.ModelForm


class AliasForm(_ModelForm):
    """Name and model of an alias; an alias that there is keeps its name."""

    class Meta:
        model = Alias
        fields = ["name", "target"]

    def clean(self) -> dict[str, Any]:
        """Return both names as they are stored, or say what is wrong with one."""
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        name = cleaned.get("name") or self.instance.name
        if name and cleaned.get("target"):
            self._check(cleaned, name, cleaned["target"])
        return cleaned

    def _check(self, cleaned: dict[str, Any], name: str, target: str) -> None:
        try:
            alias, model = aliases.check_alias(name, target)
        except ValidationError as error:
            self.add_error(None, error)
            return
        cleaned |= {"target": model.short}
        if "name" in self.fields:
            cleaned["name"] = alias.short
            if Alias.objects.filter(name__iexact=alias.short).exists():
                self.add_error("name", f"There is already an alias {alias.short}.")


class AliasAdmin(ModelAdmin):  # type: ignore[misc] # the library has no types
    """Names that stand for a model everywhere."""

    form = AliasForm
    list_display = ("name", "target", "created_at")
    search_fields = ("name", "target")

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        """Return the name of an alias that there is: people ask for it."""
        del request
        return ("name",) if obj else ()

    def save_model(self, request: HttpRequest, obj: Alias, form: Any, change: bool) -> None:  # noqa: FBT001 - Django's own
        """Write what the form has checked."""
        del request, form, change
        obj.pk = aliases.set_alias(obj.name, obj.target).pk

    def delete_model(self, request: HttpRequest, obj: Alias) -> None:
        """Delete one."""
        del request
        aliases.remove_alias(obj.name)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Alias]) -> None:
        """Delete those that were chosen in the list."""
        for alias in queryset:
            self.delete_model(request, alias)


site.register(Alias, AliasAdmin)
