"""Put together what the engine is told: an internal request and a resolved model → one message.

Refuses what the model cannot do, merges options, finds the prompt's kind. Pure: who may use the
model has been decided before. Knows no HTTP, no wire shape and no socket.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from django.conf import settings
from msgspec import structs

from inference import options as option_table
from inference.errors import (
    BlindModel,
    UnsupportedByModel,
    UpstreamFailed,
    UpstreamUnreachable,
)
from inference.images import check_images
from inference.messages import (
    AdapterRef,
    ChatMessage,
    ChatPrompt,
    FillPrompt,
    Generate,
    Load,
    ModelRef,
    RawPrompt,
    RunnerOptions,
    Sampling,
    TokensPrompt,
    Unload,
    UpstreamRef,
)
from inference.prompting.errors import TemplateError
from inference.prompting.ollama import DEFAULT_TEMPLATE, variables
from inference.prompting.thoughts import without_old_thoughts
from inference.requests import Caller, ChatRequest, CompletionRequest, GenerationRequest
from models_app.permissions import CredentialKind, Principal
from models_app.upstreams import Serving
from ollamasite.errors import BadRequest
from ollamasite.request_context import current_request_id
from registry.capabilities import has_fill_tokens
from registry.library import ResolvedModel
from registry.template_choice import choose_template

_EVERYONE: Final = "everyone"
# What a request asks a capability with, as all dialects call it.
_FIELD_OF: Final[Mapping[str, str]] = {"tools": "tools", "insert": "suffix"}
# Contract 1.2: the window of this family is not shifted unless the request says so.
_UNSHIFTED_ARCHITECTURES: Final = frozenset({"deepseek2"})
_LEAST_SEEING_CONTEXT_TOKENS: Final = 2048
# Contract 6.7: families whose highest level of thinking is `high`, and models that are not shown
# again what they thought.
_WITHOUT_MAX: Final = frozenset({"gptoss", "gpt-oss"})
_FORGETFUL_ARCHITECTURES: Final = frozenset({"qwen3"})
_FORGETFUL_NAMES: Final = frozenset({"deepseek-r1"})

Prompt = ChatPrompt | RawPrompt | TokensPrompt | FillPrompt


def cache_group(principal: Principal, model: ResolvedModel) -> str:
    """Return the name of those between whom computed prompts are shared."""
    if model.cache_scope == _EVERYONE:
        return f"model:{model.digest}"
    return f"user:{principal.user_id}"


def model_ref(model: ResolvedModel) -> ModelRef:
    """Return what the engine has to know of a model. Raises UpstreamUnreachable, UpstreamFailed."""
    return ModelRef(
        name=model.name,
        digest=model.digest,
        weights=model.weights,
        adapters=tuple(AdapterRef(digest=digest) for digest in model.adapters),
        projector=model.projector,
        is_pinned=model.is_pinned,
        size_bytes=model.size_bytes,
        upstream=_upstream_ref(model.serving) if model.serving else None,
    )


def _upstream_ref(serving: Serving) -> UpstreamRef:
    """Return how an engine elsewhere is asked; who waits for one that is down waits in vain."""
    if not serving.name:
        raise UpstreamUnreachable("the engine that served this model was removed from this site")
    told = f"the engine '{serving.name}' that serves this model"
    if not serving.is_enabled:
        raise UpstreamUnreachable(f"{told} is switched off")
    if serving.is_up is False:
        raise UpstreamUnreachable(f"{told} does not answer, please try again later")
    if not serving.is_key_readable:
        raise UpstreamFailed(f"{told} cannot be asked: an administrator has to set its key again")
    return UpstreamRef(
        name=serving.name,
        url=serving.url,
        kind=serving.kind,
        model=serving.model,
        key=serving.key,
        concurrency=serving.concurrency,
        first_s=float(serving.first_s),
        silence_s=float(serving.silence_s),
    )


def runner_options(model: ResolvedModel, merged: Mapping[str, Any]) -> RunnerOptions:
    """Return what the model's runner is started with, out of merged options."""
    if model.serving is not None:
        # Its window is the engine's; a request cannot have another one.
        return RunnerOptions(num_ctx=max(1, int(model.config.get("context_length") or 1)))
    asked = option_table.runner_options(merged, default_num_ctx=settings.CONTEXT_LENGTH)
    if not model.projector:
        return asked
    # Contract 5: an image alone takes hundreds of places.
    return structs.replace(asked, num_ctx=max(_LEAST_SEEING_CONTEXT_TOKENS, asked.num_ctx))


def engine_message(
    request_id: str, caller: Caller, model: ResolvedModel, request: GenerationRequest
) -> Generate | Load | Unload:
    """Return the message for a request.

    Raises UnsupportedByModel, InvalidOption, LateRefusal, BadRequest.
    """
    common: dict[str, Any] = {
        "request_id": request_id,
        "model": model_ref(model),
        "call_id": current_request_id(),
    }
    keep_alive = request.keep_alive
    if request.is_load and keep_alive is not None and keep_alive.is_zero:
        return Unload(**common)  # of whatever kind the model is
    _check_capabilities(model, request)
    merged = option_table.merge(model.parameters, request.options)
    common |= {
        "runner": runner_options(model, merged),
        "user": caller.principal.username,
        "key_name": credential_name(caller.principal),
        "keep_alive_s": keep_alive.seconds if keep_alive else None,
    }
    if request.is_load:
        return Load(**common)
    _check_late(model, request)
    prompt = _prompt(model, request)
    is_completion = isinstance(request, CompletionRequest)
    return Generate(
        **common,
        prompt=prompt,
        sampling=_sampling(request, merged),
        priority=caller.priority,
        cache_group=cache_group(caller.principal, model),
        truncate=request.truncate,
        shift=_shifts(model) if request.shift is None else request.shift,
        # Contract 1.2: the final object of /api/generate has it, but never after a raw prompt.
        wants_context=is_completion and isinstance(prompt, ChatPrompt | FillPrompt),
        choices=request.choices,
        top_logprobs=request.top_logprobs,
        scores_prompt=isinstance(request, CompletionRequest) and request.scores_prompt,
        json_schema=request.json_schema,
        splits_thinking=isinstance(prompt, ChatPrompt) and bool(prompt.think),
        output_parser=model.config.get("parser") or "",
        renders_only=request.renders_only,
        counts_tokens=request.counts_tokens,
        asked_options=tuple(merged) if model.serving else (),
        **_calls(request),
    )


def credential_name(principal: Principal) -> str:
    """Return what the credential is called by which somebody asks; a browser's has no name."""
    if principal.kind is CredentialKind.SIGNATURE:
        return "ollama command"
    return principal.key_name


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
            raise UnsupportedByModel(
                f"{model.full_name} does not support {capability}",
                param=_FIELD_OF.get(capability, ""),
            )
    if _must_think(request) and "thinking" not in model.capabilities:
        raise UnsupportedByModel(f'"{request.model}" does not support thinking')
    if isinstance(request, CompletionRequest) and request.raw:
        _check_raw(request)


def _check_late(model: ResolvedModel, request: GenerationRequest) -> None:
    """Refuse what matters only where something is generated."""
    if request.images and not _can_see(model):
        raise BlindModel
    check_images(request.images)
    if request.refusal is not None:
        raise request.refusal


def _can_see(model: ResolvedModel) -> bool:
    return "vision" in model.capabilities if model.serving else bool(model.projector)


def _needed(request: GenerationRequest) -> Iterable[str]:
    if isinstance(request, ChatRequest):
        return ("tools",) if request.tools or request.forced_tools else ()
    return ("insert",) if request.suffix else ()


def _must_think(request: GenerationRequest) -> bool:
    return request.think not in {None, False} and not request.thinks_if_able


def _calls(request: GenerationRequest) -> dict[str, Any]:
    """Return the fields of a Generate about the calls that the answer may have."""
    if not isinstance(request, ChatRequest):
        return {}
    return {"forced_tools": request.forced_tools, "most_calls": request.most_calls}


def _shifts(model: ResolvedModel) -> bool:
    return _architecture(model) not in _UNSHIFTED_ARCHITECTURES


def _architecture(model: ResolvedModel) -> str:
    return str(model.gguf.get("architecture", ""))


# ------------------------------------------------------------------ how it is to answer


def _sampling(request: GenerationRequest, merged: dict[str, Any]) -> Sampling:
    found = structs.replace(option_table.sampling(merged), logit_bias=request.logit_bias)
    scores_prompt = isinstance(request, CompletionRequest) and request.scores_prompt
    if scores_prompt and request.options.get("num_predict") == 0:
        # Elsewhere 0 means no limit; who wants the prompt scored may want nothing else.
        return structs.replace(found, num_predict=0)
    return found


def _think(model: ResolvedModel, request: GenerationRequest) -> bool | str | None:
    """Return whether to think, and how much: a model that can does so unless told not to."""
    think = request.think
    is_able = "thinking" in model.capabilities
    if think is None or (request.thinks_if_able and not is_able):
        return True if is_able else None
    if think == "max" and _architecture(model) in _WITHOUT_MAX:
        return "high"
    return think


# ------------------------------------------------------------------ prompts


def _prompt(model: ResolvedModel, request: GenerationRequest) -> Prompt:
    if isinstance(request, ChatRequest):
        return _chat_prompt(model, request)
    if request.tokens:
        return TokensPrompt(tokens=request.tokens)
    if request.raw:
        return RawPrompt(text=request.prompt, images=request.images)
    if request.suffix:
        return _fill_prompt(model, request)
    return _completion_prompt(model, request)


def _chat_prompt(model: ResolvedModel, request: ChatRequest) -> ChatPrompt:
    asked = tuple(map(_with_known_role, request.messages))
    # Contract 6.1: the stored system text stands aside only for a system message that comes first.
    own = () if asked[0].role == "system" else _models_system(model)
    messages = (*own, *_stored_messages(model), *asked)
    return ChatPrompt(
        messages=without_old_thoughts(messages) if _is_forgetful(model) else messages,
        tools=request.tools,
        think=_think(model, request),
        **_template(model, has_tools=bool(request.tools)),
    )


def _with_known_role(message: ChatMessage) -> ChatMessage:
    """Return the message with the name of its role that templates know."""
    role = message.role.lower()
    return structs.replace(message, role="system" if role == "developer" else role)


def _is_forgetful(model: ResolvedModel) -> bool:
    name = model.name.rpartition("/")[2].partition(":")[0]
    return _architecture(model) in _FORGETFUL_ARCHITECTURES or name in _FORGETFUL_NAMES


def _template(model: ResolvedModel, *, has_tools: bool = False) -> dict[str, Any]:
    """Return the fields of a ChatPrompt about the model's template."""
    metadata = model.gguf.get("metadata", {})
    renderer = model.config.get("renderer") or ""
    chosen = choose_template(model.template, metadata, renderer=renderer, has_tools=has_tools)
    return {"template": chosen.text or DEFAULT_TEMPLATE, "is_jinja": chosen.is_jinja}


def _check_raw(request: CompletionRequest) -> None:
    if request.template or request.system or request.context:
        raise BadRequest("raw mode does not support template, system, or context")


def _fill_prompt(model: ResolvedModel, request: CompletionRequest) -> FillPrompt:
    template = request.template or model.template
    if model.serving is not None:
        return FillPrompt(prefix=request.prompt, suffix=request.suffix)
    if not _knows_suffix(template):
        if not has_fill_tokens(model.gguf.get("metadata", {})):
            words = f"{model.full_name} does not support insert"
            raise UnsupportedByModel(words, param="suffix")
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
        is_models_template=not request.template,
        think=_think(model, request),
        context=request.context,
        **({"template": request.template} if request.template else _template(model)),
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
