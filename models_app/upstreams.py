"""Engines elsewhere: which there are, who may change them, and what was seen of them.

Administrators of the site decide where requests of everybody go, and nobody else. Knows no HTTP:
`registry.upstreams` asks the engines.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from django.db import IntegrityError, transaction
from django.db.models import Q
from django.utils import timezone

from models_app import audit, sealed_texts
from models_app.authority import require_admin
from models_app.errors import InvalidUpstream, UpstreamNotFound
from models_app.models import Manifest, ServedModel, Tag, Upstream, UpstreamKind
from models_app.permissions import Principal

KINDS: Final = tuple(UpstreamKind.values)
KIND_CHOICES: Final = tuple(UpstreamKind.choices)
# A look that is older says nothing: whoever looks has died.
FRESH_S: Final = 60.0
_MOST_CONCURRENT: Final = 4096
_MOST_SECONDS: Final = 24 * 3600
_MOST_NAME: Final = 80
_MOST_URL: Final = 500
_MOST_OFFERS: Final = 500
_MOST_PROBLEM: Final = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamSettings:
    """How an engine is reached and used; what is None stays as it is, or as it begins."""

    url: str | None = None  # checked and whole
    kind: str | None = None
    concurrency: int | None = None
    first_s: int | None = None
    silence_s: int | None = None
    key: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """Where a model is served, and what is known of the engine. `name` empty: it was removed."""

    model: str
    name: str = ""
    url: str = ""
    kind: str = ""
    key: str = field(default="", repr=False)
    concurrency: int = 1
    first_s: int = 300
    silence_s: int = 60
    is_enabled: bool = False
    is_up: bool | None = None  # None: not known
    is_key_readable: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What an engine answered when it was looked at. `problem` empty: it is up."""

    problem: str = ""
    offers: Sequence[Mapping[str, Any]] = ()


# ------------------------------------------------------------------ reading


def serving(digest: str) -> Serving | None:
    """Return where the model of a manifest is served; None: it is not."""
    row = ServedModel.objects.filter(manifest__digest=digest).select_related("upstream").first()
    if row is None:
        return None
    return Serving(model=row.model) if row.upstream is None else _serving(row.upstream, row.model)


def find(name: str) -> Serving:
    """Return an engine by its name, whatever the case. Raises UpstreamNotFound."""
    return _serving(_row(name), "")


def due(every_s: float) -> list[Serving]:
    """Return the enabled engines that nobody has looked at of late; who asks looks now."""
    now, every = timezone.now(), timedelta(seconds=every_s)
    # One that is ahead was noted before the clock was set back.
    old = Q(checked_at=None) | Q(checked_at__lt=now - every) | Q(checked_at__gt=now + every)
    found = []
    for row in Upstream.objects.filter(old, is_enabled=True):
        # Of several processes the one looks that has claimed it.
        claimed = Upstream.objects.filter(pk=row.pk, checked_at=row.checked_at)
        if claimed.update(checked_at=now):
            found.append(_serving(row, ""))
    return found


def enabled() -> list[Serving]:
    """Return the engines that should serve."""
    return [_serving(row, "") for row in Upstream.objects.filter(is_enabled=True)]


def served_models(name: str) -> list[str]:
    """Return which of an engine's models have a name here, as the engine calls them."""
    rows = ServedModel.objects.filter(upstream__name=name, manifest__tags__isnull=False)
    return sorted(set(rows.values_list("model", flat=True)))


def offers_of(name: str) -> list[dict[str, Any]]:
    """Return the models that an engine had when it was last looked at. Raises UpstreamNotFound."""
    return list(_row(name).offers)


def told_lines() -> list[str]:
    """Return a line for each engine, for a terminal."""
    return [
        f"{row.name}  {row.url}  {row.get_kind_display()}  {row.concurrency} at a time  "
        f"{state_of(row)}  serves {row.served.count()} models"
        for row in Upstream.objects.all()
    ]


def served_names(row: Upstream) -> list[str]:
    """Return the names of this site that an engine's models have, in order."""
    tags = Tag.objects.filter(manifest__served__upstream=row).select_related("model")
    return sorted(tag.full_name.short for tag in tags)


def state_of(row: Upstream) -> str:
    """Return in a word or two how an engine is."""
    if not row.is_enabled:
        return "switched off"
    if row.is_up is None or not _is_fresh(row.checked_at):
        return "not looked at"
    return "up" if row.is_up else f"down: {row.problem}"


def standing() -> dict[str, bool]:
    """Return whether each enabled engine is up, of those of which that is known. One query."""
    rows = Upstream.objects.filter(is_enabled=True).exclude(is_up=None)
    return {row.name: bool(row.is_up) for row in rows if _is_fresh(row.checked_at)}


def down() -> list[str]:
    """Return the names of the engines that should serve and do not."""
    rows = Upstream.objects.filter(is_enabled=True, is_up=False)
    return list(rows.values_list("name", flat=True))


# ------------------------------------------------------------------ writing


@audit.act()
def add(name: str, settings: UpstreamSettings, *, by: Principal | None) -> None:
    """Add an engine. Raises Forbidden, InvalidUpstream."""
    require_admin(by)
    name = name.strip()
    if not name or len(name) > _MOST_NAME or not name.isprintable() or "/" in name:
        raise InvalidUpstream("an engine needs a name of at most 80 characters, without '/'")
    if not settings.url:
        raise InvalidUpstream("an engine needs a URL")
    row = Upstream(name=name, kind=UpstreamKind.OPENAI)
    _apply(row, settings)
    try:
        with transaction.atomic():
            row.save()
    except IntegrityError as error:  # whatever the case, and whoever was quicker
        raise InvalidUpstream(f"there is already an engine '{name}'") from error
    audit.record("upstream.add", row.name, by=by, url=row.url, kind=row.kind)


@audit.act()
def change(name: str, settings: UpstreamSettings, *, by: Principal | None) -> None:
    """Change how an engine is used; it holds from the next request on.

    Raises Forbidden, UpstreamNotFound, InvalidUpstream.
    """
    require_admin(by)
    row = _row(name, is_locked=True)
    if settings.url not in {None, row.url} and settings.key is None and row.sealed_key:
        # Its key is meant for the machine that it was given for.
        raise InvalidUpstream("a key is sent to no other address: give the key again")
    _apply(row, settings)
    row.checked_at = None
    row.save()
    audit.record(
        "upstream.change",
        row.name,
        by=by,
        url=row.url,
        kind=row.kind,
        concurrency=row.concurrency,
        has_new_key=settings.key is not None,
    )


@audit.act()
def set_enabled(name: str, *, is_enabled: bool, by: Principal | None) -> None:
    """Let an engine serve, or not. Raises Forbidden, UpstreamNotFound."""
    require_admin(by)
    row = _row(name, is_locked=True)
    row.is_enabled, row.is_up, row.checked_at = is_enabled, None, None
    row.save(update_fields=["is_enabled", "is_up", "checked_at"])
    audit.record("upstream.enable" if is_enabled else "upstream.disable", row.name, by=by)


@audit.act()
def remove(name: str, *, by: Principal | None) -> None:
    """Remove an engine; its models stay and say so. Raises Forbidden, UpstreamNotFound."""
    require_admin(by)
    row = _row(name, is_locked=True)
    row.delete()
    audit.record("upstream.remove", row.name, by=by)


@transaction.atomic()
def note_look(name: str, look: Look, *, url: str | None = None) -> None:
    """Note what was seen of an engine, at `url` where it may have moved since then."""
    row = Upstream.objects.select_for_update().filter(name=name).first()
    if row is None or url not in {None, row.url}:
        return
    now = timezone.now()
    is_up = not look.problem
    row.changed_at = row.changed_at if row.is_up is is_up else now
    row.is_up, row.problem, row.checked_at = is_up, look.problem[:_MOST_PROBLEM], now
    if is_up:
        row.offers = list(look.offers)[:_MOST_OFFERS]
    row.save(update_fields=["is_up", "problem", "checked_at", "changed_at", "offers"])


def record_served(digest: str, upstream: str, model: str) -> None:
    """Note what serves a manifest; within the act that writes its tag. Raises UpstreamNotFound."""
    ServedModel.objects.update_or_create(
        manifest=Manifest.objects.get(digest=digest),
        defaults={"upstream": _row(upstream), "model": model},
    )


def _apply(row: Upstream, settings: UpstreamSettings) -> None:
    row.url = settings.url or row.url
    row.kind = settings.kind or row.kind
    for name in ("concurrency", "first_s", "silence_s"):
        if (wanted := getattr(settings, name)) is not None:
            setattr(row, name, wanted)
    _require_possible(row)
    if settings.key is not None:
        if not settings.key.isascii() or not settings.key.isprintable() or " " in settings.key:
            raise InvalidUpstream("a key has no blanks and no characters beyond ASCII")
        row.sealed_key = sealed_texts.seal(settings.key)


def _require_possible(row: Upstream) -> None:
    if len(row.url) > _MOST_URL:
        raise InvalidUpstream(f"the URL of an engine has at most {_MOST_URL} characters")
    if row.kind not in UpstreamKind.values:
        raise InvalidUpstream(f"an engine is one of {', '.join(UpstreamKind.values)}")
    if not 0 < row.concurrency <= _MOST_CONCURRENT:
        raise InvalidUpstream(f"an engine takes 1 to {_MOST_CONCURRENT} requests at a time")
    if not 0 < min(row.first_s, row.silence_s) <= max(row.first_s, row.silence_s) <= _MOST_SECONDS:
        raise InvalidUpstream("a time limit is 1 second to one day")


def _row(name: str, *, is_locked: bool = False) -> Upstream:
    rows = Upstream.objects.select_for_update() if is_locked else Upstream.objects.all()
    row = rows.filter(name__iexact=name).first()
    if row is None:
        raise UpstreamNotFound(name)
    return row


def _serving(row: Upstream, model: str) -> Serving:
    try:
        key, is_readable = sealed_texts.unseal(row.sealed_key), True
    except sealed_texts.Unreadable:
        key, is_readable = "", False
    return Serving(
        model=model,
        name=row.name,
        url=row.url,
        kind=row.kind,
        key=key,
        concurrency=row.concurrency,
        first_s=row.first_s,
        silence_s=row.silence_s,
        is_enabled=row.is_enabled,
        is_up=row.is_up if _is_fresh(row.checked_at) else None,
        is_key_readable=is_readable,
    )


def _is_fresh(at: datetime | None) -> bool:
    return at is not None and abs(timezone.now() - at) < timedelta(seconds=FRESH_S)
