"""Aliases: names that stand for a model everywhere on the site. The writes and their rules.

Raises ValidationError with sentences for the person who typed; knows nothing of HTTP.
"""

from django.core.exceptions import ValidationError
from django.db import transaction

from models_app import audit, selectors
from models_app.authority import require_operator
from models_app.errors import InvalidModelName
from models_app.models import Alias
from models_app.names import DEFAULT_HOST, ModelName
from models_app.permissions import Principal


@audit.act()
def set_alias(name: str, target: str, *, by: Principal | None = None) -> Alias:
    """Make a name stand for a model, whatever it has stood for.

    Raises Forbidden, or as `check_alias`.
    """
    require_operator(by)
    row = write_alias(*check_alias(name, target))
    audit.record("alias.set", row.name, by=by, target=row.target)
    return row


def check_alias(name: str, target: str) -> tuple[ModelName, ModelName]:
    """Return both names. Raises ValidationError with what is wrong, by field."""
    alias, model = _parse("name", name), _parse("target", target)
    if alias.namespace or alias.host != DEFAULT_HOST:
        raise _wrong("name", "An alias has no namespace: write a name without '/'.")
    if selectors.is_tag(alias):
        raise _wrong("name", f"There is a model {alias.short} in the library, which comes first.")
    if not selectors.is_tag(model):
        raise _wrong("target", f"There is no model {model.short}.")
    return alias, model


@transaction.atomic
def write_alias(alias: ModelName, model: ModelName) -> Alias:
    """Record an alias that has been checked."""
    row, _ = Alias.objects.update_or_create(
        name__iexact=alias.short,
        defaults={"target": model.short},
        create_defaults={"name": alias.short, "target": model.short},
    )
    return row


@audit.act()
def remove_alias(name: str, *, by: Principal | None = None) -> None:
    """Delete an alias; the model stays. Raises Forbidden, or ValidationError for no alias."""
    require_operator(by)
    alias = _parse("name", name)
    deleted, _ = Alias.objects.filter(name__iexact=alias.short).delete()
    if not deleted:
        raise _wrong("name", f"There is no alias {alias.short}.")
    audit.record("alias.remove", alias.short, by=by)


def _parse(field: str, text: str) -> ModelName:
    try:
        return ModelName.parse(text)
    except InvalidModelName as error:
        raise _wrong(field, f"{text!r} is not the name of a model.") from error


def _wrong(field: str, sentence: str) -> ValidationError:
    return ValidationError({field: [sentence]})
