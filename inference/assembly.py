"""Put together what the engine is told: an internal request and a resolved model → one message.

Refuses what the model cannot do, merges options, finds the prompt's kind. Pure: who may use the
model has been decided before. Knows no HTTP, no wire shape and no socket.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from django.conf import settings
from msgspec import structs

from inference import options as option_table
from inference.errors import UnsupportedByModel
from inference.images import check_images
from inference.messages import (
    AdapterRef,
    ChatMessage,
    ChatPrompt,
    FillPrompt,
    Generate,
    Load,
    ModelRef,
    Priority,
    RawPrompt,
    RunnerOptions,
    Sampling,
    Unload,
)
from inference.prompting.errors import TemplateError
from inference.prompting.ollama import DEFAULT_TEMPLATE, thinking_tags, variables
from inference.requests import ChatRequest, CompletionRequest, GenerationRequest
from models_app.permissions import CredentialKind, Principal
from ollamasite.errors import BadRequest
from registry.capabilities import has_fill_tokens
from registry.library import ResolvedModel

_EVERYONE: Final = "everyone"
# Contract 1.2: the window of this family is not shifted unless the request says so.
_UNSHIFTED_ARCHITECTURES: Final = frozenset({"deepseek2"})
_LEAST_SEEING_CONTEXT_TOKENS: Final = 2048

Prompt = ChatPrompt | RawPrompt | FillPrompt


def default_priority(principal: Principal) -> Priority:
    """Return the class of requests that name none: people at a page before programs."""
    is_person = principal.kind is CredentialKind.SESSION
    return Priority.INTERACTIVE if is_person else Priority.API


def cache_group(principal: Principal, model: ResolvedModel) -> str:
    """Return the name of those between whom computed prompts are shared."""
    if model.cache_scope == _EVERYONE:
        return f"model:{model.digest}"
    return f"user:{principal.user_id}"


def model_ref(model: ResolvedModel) -> ModelRef:
    """Return what the engine has to know of a model."""
    return ModelRef(
        name=model.name,
        digest=model.digest,
        weights=model.weights,
        adapters=tuple(AdapterRef(digest=digest) for digest in model.adapters),
        projector=model.projector,
        is_pinned=model.is_pinned,
    )


def runner_options(model: ResolvedModel, merged: Mapping[str, Any]) -> RunnerOptions:
    """Return what the model's runner is started with, out of merged options."""
    asked = option_table.runner_options(merged, default_num_ctx=settings.CONTEXT_LENGTH)
    if not model.projector:
        return asked
    # Contract 5: an image alone takes hundreds of places.
    return structs.replace(asked, num_ctx=max(_LEAST_SEEING_CONTEXT_TOKENS, asked.num_ctx))


def engine_message(
    request_id: str,
    principal: Principal,
    model: ResolvedModel,
    request: GenerationRequest,
    priority: Priority,
) -> Generate | Load | Unload:
    """Return the message for a request.

    Raises UnsupportedByModel, InvalidOption, InvalidImage, BadRequest.
    """
    _check_capabilities(model, request)
    merged = option_table.merge(model.parameters, request.options)
    common: dict[str, Any] = {"request_id": request_id, "model": model_ref(model)}
    keep_alive = request.keep_alive
    if request.is_load and keep_alive is not None and keep_alive.is_zero:
        return Unload(**common)
    common |= {
        "runner": runner_options(model, merged),
        "user": principal.username,
        "keep_alive_s": keep_alive.seconds if keep_alive else None,
    }
    if request.is_load:
        return Load(**common)
    prompt = _prompt(model, request)
    is_completion = isinstance(request, CompletionRequest)
    return Generate(
        **common,
        prompt=prompt,
        sampling=_sampling(request, merged),
        priority=priority,
        cache_group=cache_group(principal, model),
        truncate=request.truncate,
        shift=_shifts(model) if request.shift is None else request.shift,
        # Contract 1.2: the final object of /api/generate has it, but never after a raw prompt.
        wants_context=is_completion and not isinstance(prompt, RawPrompt),
        choices=request.choices,
        top_logprobs=request.top_logprobs,
        scores_prompt=isinstance(request, CompletionRequest) and request.scores_prompt,
        json_schema=request.json_schema,
        constrained_after=_constrained_after(model, request, prompt),
    )


# ------------------------------------------------------------------ what the model can do


def _check_capabilities(model: ResolvedModel, request: GenerationRequest) -> None:
    # Order and texts: contract 2.4. Full names and short ones as there.
    is_chat = isinstance(request, ChatRequest)
    if "completion" not in model.capabilities:
        raise UnsupportedByModel(
            f'"{request.model}" does not support {"chat" if is_chat else "generate"}'
        )
    for capability in _needed(request):
        if capability not in model.capabilities:
            raise UnsupportedByModel(f"{model.full_name} does not support {capability}")
    if request.think not in {None, False} and "thinking" not in model.capabilities:
        raise UnsupportedByModel(f'"{request.model}" does not support thinking')
    if request.images and not request.is_load:
        if not model.projector:
            raise UnsupportedByModel("this model is missing data required for image input")
        check_images(request.images)


def _needed(request: GenerationRequest) -> Iterable[str]:
    if isinstance(request, ChatRequest):
        return ("tools",) if request.tools else ()
    return ("insert",) if request.suffix else ()


def _shifts(model: ResolvedModel) -> bool:
    return model.gguf.get("architecture", "") not in _UNSHIFTED_ARCHITECTURES


# ------------------------------------------------------------------ how it is to answer


def _sampling(request: GenerationRequest, merged: dict[str, Any]) -> Sampling:
    return structs.replace(option_table.sampling(merged), logit_bias=request.logit_bias)


def _constrained_after(model: ResolvedModel, request: GenerationRequest, prompt: Prompt) -> str:
    """Return the text behind which a schema holds: the end of the thinking, where there is any."""
    thinks = "thinking" in model.capabilities and request.think is not False
    if not (request.json_schema and thinks and isinstance(prompt, ChatPrompt)):
        return ""
    try:
        tags = thinking_tags(prompt.template)
    except TemplateError:  # the runner will say what is wrong with it
        return ""
    return tags[1] if tags else ""


# ------------------------------------------------------------------ prompts


def _prompt(model: ResolvedModel, request: GenerationRequest) -> Prompt:
    if isinstance(request, ChatRequest):
        return _chat_prompt(model, request)
    if request.raw:
        return _raw_prompt(request)
    if request.suffix:
        return _fill_prompt(model, request)
    return _completion_prompt(model, request)


def _chat_prompt(model: ResolvedModel, request: ChatRequest) -> ChatPrompt:
    # Contract 6.1: the stored system text stands aside only for a system message that comes first.
    begins_with_system = bool(request.messages) and request.messages[0].role == "system"
    own = () if begins_with_system else _models_system(model)
    return ChatPrompt(
        messages=(*own, *_stored_messages(model), *request.messages),
        template=model.template or DEFAULT_TEMPLATE,
        tools=request.tools,
        think=request.think,
    )


def _raw_prompt(request: CompletionRequest) -> RawPrompt:
    if request.template or request.system or request.context:
        raise BadRequest("raw mode does not support template, system, or context")
    return RawPrompt(text=request.prompt, images=request.images)


def _fill_prompt(model: ResolvedModel, request: CompletionRequest) -> FillPrompt:
    template = request.template or model.template
    if not _knows_suffix(template):
        if not has_fill_tokens(model.gguf.get("metadata", {})):
            raise UnsupportedByModel(f"{model.full_name} does not support insert")
        template = ""
    return FillPrompt(prefix=request.prompt, suffix=request.suffix, template=template)


def _knows_suffix(template: str) -> bool:
    try:
        return "suffix" in variables(template)
    except TemplateError:  # the runner will say what is wrong with it
        return True


def _completion_prompt(model: ResolvedModel, request: CompletionRequest) -> ChatPrompt:
    asked_system = ChatMessage(role="system", content=request.system)
    return ChatPrompt(
        messages=(
            *((asked_system,) if request.system else _models_system(model)),
            *(() if request.context else _stored_messages(model)),
            ChatMessage(role="user", content=request.prompt, images=request.images),
        ),
        template=request.template or model.template or DEFAULT_TEMPLATE,
        is_models_template=not request.template,
        think=request.think,
        context=request.context,
    )


def _models_system(model: ResolvedModel) -> tuple[ChatMessage, ...]:
    if not model.system:
        return ()
    return (ChatMessage(role="system", content=model.system, is_models_own=True),)


def _stored_messages(model: ResolvedModel) -> tuple[ChatMessage, ...]:
    return tuple(
        ChatMessage(role=role, content=content, is_models_own=True)
        for role, content in model.messages
    )
