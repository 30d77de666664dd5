"""What the page of one model shows: its facts, texts, files and metadata, cut to what a page holds.

All of it is text from outside. Pure: knows no HTTP, no engine and no database.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from inference import overview
from inference.messages import LoadedModels
from inference.overview import LoadedRow
from inference.pages import model_list
from models_app import upstreams
from models_app.permissions import Verb
from models_app.upstreams import Serving
from registry import show
from registry.catalogue import Sheet
from registry.library import ResolvedModel
from registry.manifests import LayerRef

_MAX_TEXT_CHARS: Final = 6_000
_MAX_VALUE_CHARS: Final = 300
_MAX_ROWS: Final = 400
_MAX_MESSAGES: Final = 20
_MEDIA_PREFIX: Final = "application/vnd.ollama.image."
_CONFIG_SUFFIX: Final = "container.image.v1+json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """A text of a model. `shown` is its beginning where `is_cut`; `part` is what to ask for."""

    part: str
    title: str
    shown: str
    is_cut: bool
    size: str
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A file that a model is made of."""

    kind: str
    media_type: str
    digest: str
    size: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TagRow:
    """A tag of the repository. `link`: the name that means it and no other model."""

    link: str
    tag: str
    digest: str
    size: str
    quantization: str
    modified_at: datetime
    modified: str
    is_this: bool
    is_loaded: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """The engine elsewhere that serves a model. `name` is empty where it was removed."""

    name: str
    program: str
    model: str  # what the engine calls it
    state: str
    is_good: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownSheet:
    """All that the page shows of a model. `loaded` is None where it is not in memory.

    `engine` is None where its files are here; `on_nodes` are the nodes that have it in memory,
    where there are several.
    """

    name: str
    link: str
    base_name: str
    digest: str
    capabilities: tuple[str, ...]
    whose: str
    visibility: str
    is_pinned: bool
    is_embedding: bool
    facts: list[tuple[str, str]]
    texts: list[Text]
    parameters: list[tuple[str, str]]
    messages: list[tuple[str, Text]]
    files: list[File]
    metadata: list[tuple[str, str]]
    metadata_left_out: int
    tags: list[TagRow]
    modified_at: datetime
    modified: str
    loaded: LoadedRow | None
    engine: Engine | None
    on_nodes: list[str]
    may: Mapping[str, bool]


def shown_sheet(
    sheet: Sheet, memories: Sequence[LoadedModels], *, may_pin: bool, now: datetime
) -> ShownSheet:
    """Return what the page shows; `memories` is all that the nodes hold."""
    model = sheet.model
    is_here = model.serving is None
    in_memory = [loaded for memory in memories for loaded in memory.models]
    mine = next((each for each in in_memory if each.digest == model.digest), None)
    metadata = metadata_rows(model) if is_here else []
    return ShownSheet(
        name=model.name,
        link=sheet.link,
        base_name=sheet.base_name,
        digest=model.digest,
        capabilities=model_list.capability_words(model.capabilities),
        whose=model_list.whose_word(sheet.whose),
        visibility=model_list.visibility_word(sheet.place.visibility, sheet.whose),
        is_pinned=model.is_pinned,
        is_embedding="completion" not in model.capabilities,
        facts=[(name, value) for name, value in _facts(sheet) if value],
        texts=[text for text in _texts(model) if text.shown],
        parameters=_parameters(model.parameters),
        messages=[
            (role, _cut("messages", role, content))
            for role, content in model.messages[:_MAX_MESSAGES]
        ],
        files=[_file(layer) for layer in (model.manifest.config, *model.manifest.layers)],
        metadata=metadata[:_MAX_ROWS],
        metadata_left_out=max(0, len(metadata) - _MAX_ROWS),
        tags=_tags(sheet, {each.digest for each in in_memory}, now),
        modified_at=model.modified_at,
        modified=overview.format_age(model.modified_at, now),
        loaded=overview.loaded_rows([mine])[0] if mine else None,
        engine=_engine(model.serving) if model.serving else None,
        on_nodes=_holders(memories, model.digest),
        may={
            "use": Verb.USE in sheet.verbs,
            "copy": Verb.PULL in sheet.verbs,
            "delete": Verb.MANAGE in sheet.verbs,
            "share": sheet.access is not None,
            "pin": may_pin and is_here and Verb.USE in sheet.verbs,
        },
    )


def whole_text(model: ResolvedModel, part: str) -> str:
    """Return a text of a model as a whole; empty where it has none. Raises GgufError."""
    match part:
        case "license":
            return "\n\n".join(model.license)
        case "template":
            return model.template or show.jinja_template(model)
        case "system":
            return model.system
        case "messages":
            return "\n\n".join(f"{role}: {content}" for role, content in model.messages)
        case "metadata":
            info = show.model_info(model, is_verbose=True)
            return json.dumps(info, ensure_ascii=False, indent=1)
    return ""


def metadata_rows(model: ResolvedModel) -> list[tuple[str, str]]:
    """Return the GGUF file's metadata, and the projector's, with values as one shows them."""
    info = show.model_info(model, is_verbose=False)
    rows = [(key, _value(value)) for key, value in info.items()]
    if model.projector:
        seeing = show.projector_info(model, is_verbose=False)
        rows += [(f"projector: {key}", _value(value)) for key, value in seeing.items()]
    return rows


def _engine(serving: Serving) -> Engine:
    state, is_good = "Nobody has looked at it of late", True
    if not serving.name:
        state, is_good = "It was removed from this site", False
    elif not serving.is_enabled:
        state, is_good = "It is switched off", False
    elif serving.is_up is not None:
        state, is_good = ("It answers", True) if serving.is_up else ("It does not answer", False)
    return Engine(
        name=serving.name,
        program=dict(upstreams.KIND_CHOICES).get(serving.kind, ""),
        model=serving.model,
        state=state,
        is_good=is_good,
    )


def _facts(sheet: Sheet) -> list[tuple[str, str]]:
    model = sheet.model
    details = model.details
    context = model.config.get("context_length") or model.gguf.get("context_length") or 0
    width = model.config.get("embedding_length") or model.gguf.get("embedding_length") or 0
    return [
        ("Size", overview.format_size(model.size_bytes)),
        ("Parameters", details.parameter_size),
        ("Quantization", details.quantization_level),
        ("Context", f"{context:,} tokens" if context else ""),
        ("Vector length", f"{width:,}" if "embedding" in model.capabilities and width else ""),
        ("Architecture", "" if model.serving else details.family),
        ("License", ", ".join(dict.fromkeys(sheet.licenses))),
        ("Made from", details.parent_model),
        ("Sees with", "a projector of its own" if model.projector else ""),
        ("Adapters", str(len(model.adapters)) if model.adapters else ""),
        ("Parser", str(model.config.get("parser") or "")),
        ("Renderer", str(model.config.get("renderer") or "")),
    ]


def _texts(model: ResolvedModel) -> list[Text]:
    language = "in Go's language" if model.template else "Jinja, from the GGUF file"
    return [
        _cut("template", "Template", whole_text(model, "template"), note=language),
        _cut("system", "System prompt", model.system),
        _cut("license", "License", whole_text(model, "license")),
    ]


def _cut(part: str, title: str, text: str, *, note: str = "") -> Text:
    return Text(
        part=part,
        title=title,
        shown=text[:_MAX_TEXT_CHARS],
        is_cut=len(text) > _MAX_TEXT_CHARS,
        size=overview.format_bytes(len(text.encode("utf-8", "replace"))),
        note=note,
    )


def _parameters(parameters: Mapping[str, Any]) -> list[tuple[str, str]]:
    rows = []
    for name, value in sorted(parameters.items()):
        items = value if isinstance(value, list) else [value]
        rows += [(name, _value(item)) for item in items]
    return rows[:_MAX_ROWS]


def _value(value: Any) -> str:
    if value is None:
        return "a list"
    if isinstance(value, str):
        text = value
    elif isinstance(value, int) and not isinstance(value, bool):
        text = f"{value}"
    else:
        text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _MAX_VALUE_CHARS else f"{text[:_MAX_VALUE_CHARS]}…"


def _file(layer: LayerRef) -> File:
    kind = layer.mediaType.removeprefix(_MEDIA_PREFIX)
    return File(
        kind="config" if layer.mediaType.endswith(_CONFIG_SUFFIX) else kind,
        media_type=layer.mediaType,
        digest=layer.digest,
        size=overview.format_bytes(layer.size),
    )


def _tags(sheet: Sheet, loaded: set[str], now: datetime) -> list[TagRow]:
    both = zip(sheet.tags, sheet.tag_links, strict=True)
    return [
        TagRow(
            link=link,
            tag=tag.name.rpartition(":")[2],
            digest=tag.digest,
            size=overview.format_size(tag.size_bytes),
            quantization=tag.quantization_level,
            modified_at=tag.modified_at,
            modified=overview.format_age(tag.modified_at, now),
            is_this=tag.name == sheet.model.name,
            is_loaded=tag.digest in loaded,
        )
        for tag, link in both
    ]


def _holders(memories: Sequence[LoadedModels], digest: str) -> list[str]:
    """Name the nodes that have a model in memory; none, where there is only one node."""
    if len(memories) <= 1:
        return []
    return [
        memory.node for memory in memories if any(one.digest == digest for one in memory.models)
    ]
