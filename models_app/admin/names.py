"""Aliases and namespaces under /admin/: who looks after the site writes them in forms.

What may be written is decided by `models_app.aliases` and `models_app.namespaces`.
"""

from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib.admin import display
from django.core.exceptions import ValidationError
from django.http import HttpRequest
from unfold.widgets import UnfoldAdminTextInputWidget

from models_app import aliases, namespaces
from models_app.admin.panel import Panel
from models_app.admin.site import principal_of, site
from models_app.models import Alias, Namespace
from models_app.namespaces import NamespaceRules
from ollamasite.sizes import parse_size, print_size

if TYPE_CHECKING:
    _ModelForm = forms.ModelForm[Alias]
    _NamespaceModelForm = forms.ModelForm[Namespace]
else:
    _ModelForm = _NamespaceModelForm = forms.ModelForm


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


class AliasAdmin(Panel):
    """Names that stand for a model everywhere."""

    is_for_operators = True
    is_editable = True
    form = AliasForm
    list_display = ("name", "target", "created_at")
    search_fields = ("name", "target")

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        """Return the name of an alias that there is: people ask for it."""
        del request
        return ("name",) if obj else ()

    def save_model(self, request: HttpRequest, obj: Alias, form: Any, change: bool) -> None:  # noqa: FBT001 - Django's own
        """Write what the form has checked."""
        del form, change
        obj.pk = aliases.set_alias(obj.name, obj.target, by=principal_of(request)).pk

    def delete_model(self, request: HttpRequest, obj: Alias) -> None:
        """Delete one."""
        aliases.remove_alias(obj.name, by=principal_of(request))


class SizeField(forms.CharField):
    """A number of bytes, also as `200GiB`; None where it is empty."""

    widget = UnfoldAdminTextInputWidget

    def clean(self, value: Any) -> Any:
        """Return the bytes. Raises ValidationError."""
        text = super().clean(value)
        try:
            return parse_size(text) if text else None
        except ValueError as error:
            raise ValidationError("Write a size such as 200GiB.") from error


class NamespaceForm(_NamespaceModelForm):
    """What holds in a namespace; one that there is keeps its name."""

    quota_bytes = SizeField(
        label="May hold",
        max_length=40,
        required=False,
        help_text="A size such as 200GiB, or a number of bytes; empty: as the site says.",
    )

    class Meta:
        model = Namespace
        fields = ["name", "quota_bytes", "immutable_tags", "kept_tags"]

    def clean(self) -> dict[str, Any]:
        """Return what is stored, or say what is wrong."""
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        rules = _rules({"name": self.instance.name, **cleaned})
        try:
            namespaces.check_rules(rules)
        except ValidationError as error:
            self.add_error(None, error)
        taken = Namespace.objects.filter(name__iexact=rules.name)
        if "name" in self.fields and taken.exists():
            self.add_error("name", f"There are already rules for {rules.name}.")
        return cleaned


class NamespaceAdmin(Panel):
    """Quotas, immutable tags and how many tags stay; other namespaces have the site's rules."""

    is_for_operators = True
    is_editable = True
    form = NamespaceForm
    fields = ("name", "used", "quota_bytes", "immutable_tags", "kept_tags")
    list_display = ("name", "quota", "immutable_tags", "kept_tags")
    search_fields = ("name",)
    readonly_fields = ("used",)

    @display(description="holds")
    def used(self, row: Namespace) -> str:
        """Return what the namespace holds, for people."""
        return print_size(namespaces.stored_bytes(row.name)) if row.name else "-"

    @display(description="may hold")
    def quota(self, row: Namespace) -> str:
        """Return what the namespace may hold, for people."""
        return "as the site says" if row.quota_bytes is None else print_size(row.quota_bytes)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        """Return the name too where there are rules: they are for that namespace."""
        del request
        return ("name", *self.readonly_fields) if obj else self.readonly_fields

    def save_model(self, request: HttpRequest, obj: Namespace, form: Any, change: bool) -> None:  # noqa: FBT001 - Django's own
        """Write what the form has checked."""
        del form, change
        row = {field: getattr(obj, field) for field in NamespaceForm.Meta.fields}
        obj.pk = namespaces.set_rules(_rules(row), by=principal_of(request)).pk

    def delete_model(self, request: HttpRequest, obj: Namespace) -> None:
        """Have the site's rules hold again."""
        namespaces.remove_rules(obj.name, by=principal_of(request))


def _rules(values: dict[str, Any]) -> NamespaceRules:
    return NamespaceRules(
        name=values.get("name") or "",
        quota_bytes=values.get("quota_bytes"),
        immutable_tags=values.get("immutable_tags") or "",
        kept_tags=values.get("kept_tags"),
    )


site.register(Alias, AliasAdmin)
site.register(Namespace, NamespaceAdmin)
