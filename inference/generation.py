"""Generate: check access, put the request together, stream the engine's events.

The only way from a dialect to the engine, so access cannot be skipped. Async; the bridge to the
synchronous selectors is here. Knows no HTTP and no wire shape.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Final

from asgiref.sync import sync_to_async
from django.conf import settings
from msgspec import structs

from inference import options as option_table
from inference.client import EngineClient, EngineStream, engine_client, new_request_id
from inference.errors import EngineUnavailable, UnsupportedByModel
from inference.messages import (
    ChatMessage,
    ChatPrompt,
    Finished,
    Generate,
    Load,
    LoadedModel,
    ModelRef,
    RawPrompt,
    Token,
    Unload,
)
from inference.requests import ChatRequest, CompletionRequest, GenerationRequest
from models_app.permissions import Principal, Verb
from ollamasite.errors import BadRequest
from registry import library
from registry.library import ResolvedModel

_DEFAULT_TEMPLATE: Final = "{{ .Prompt }}"


@dataclass(frozen=True, slots=True)
class Generation:
    """A running request: its model and its events.

    Iterate over it for Token… and the one Finished; a failure is raised as a ServiceError.
    `close` ends it early; the owner calls it in every case.
    """

    model: ResolvedModel
    started_ns: int  # time.perf_counter_ns at arrival
    prepared_ns: int  # from arrival until the engine had the request
    stream: EngineStream

    async def __aiter__(self) -> AsyncIterator[Token | Finished]:
        """Yield tokens and the end."""
        async for event in self.stream:
            if isinstance(event, Finished):
                # load_duration runs from the request's start until the model is ready.
                load_ns = event.usage.load_ns + self.prepared_ns
                yield structs.replace(event, usage=structs.replace(event.usage, load_ns=load_ns))
            elif isinstance(event, Token):
                yield event

    @property
    def elapsed_ns(self) -> int:
        """Nanoseconds since the request arrived."""
        return time.perf_counter_ns() - self.started_ns

    def close(self) -> None:
        """Cancel what has not ended."""
        self.stream.close()


async def start(principal: Principal, request: GenerationRequest) -> Generation:
    """Submit a request for a principal.

    Raises ModelNotFound, UnsupportedByModel, InvalidOption, BadRequest, EngineUnavailable.
    """
    started_ns = time.perf_counter_ns()
    model = await sync_to_async(library.resolve)(principal, request.model, Verb.USE)
    _check_capabilities(model, request)
    message = _engine_message(principal, model, request)
    stream = await _client().submit(message)
    prepared_ns = time.perf_counter_ns() - started_ns
    return Generation(model=model, started_ns=started_ns, prepared_ns=prepared_ns, stream=stream)


async def loaded_models() -> tuple[LoadedModel, ...]:
    """Return what is in memory. Raises EngineUnavailable."""
    return await _client().list_loaded()


async def engine_is_ready() -> bool:
    """Whether a node answers."""
    try:
        async with asyncio.timeout(2):
            await loaded_models()
    except (EngineUnavailable, TimeoutError):
        return False
    return True


def end_all() -> None:
    """End every request of this process in an error, so that no client is left without an end."""
    _client().close()


def _client() -> EngineClient:
    return engine_client(settings.ENGINE_SOCKET)


def _check_capabilities(model: ResolvedModel, request: GenerationRequest) -> None:
    # Order and texts: contract 2.4. Tools are refused with the full name, thinking with the short.
    is_chat = isinstance(request, ChatRequest)
    if "completion" not in model.capabilities:
        raise UnsupportedByModel(
            f'"{request.model}" does not support {"chat" if is_chat else "generate"}'
        )
    if isinstance(request, ChatRequest) and request.tools and "tools" not in model.capabilities:
        raise UnsupportedByModel(f"{model.full_name} does not support tools")
    if request.think not in {None, False} and "thinking" not in model.capabilities:
        raise UnsupportedByModel(f'"{request.model}" does not support thinking')


def _engine_message(
    principal: Principal, model: ResolvedModel, request: GenerationRequest
) -> Generate | Load | Unload:
    merged = option_table.merge(model.parameters, request.options)
    common: dict[str, Any] = {
        "request_id": new_request_id(),
        "model": ModelRef(name=model.name, digest=model.digest, weights=model.weights),
    }
    if request.is_load and request.keep_alive is not None and request.keep_alive.is_zero:
        return Unload(**common)
    common |= {
        "runner": option_table.runner_options(merged, default_num_ctx=settings.CONTEXT_LENGTH),
        "user": principal.username,
        "keep_alive_s": request.keep_alive.seconds if request.keep_alive else None,
    }
    if request.is_load:
        return Load(**common)
    prompt = _prompt(model, request)
    return Generate(
        **common,
        prompt=prompt,
        sampling=option_table.sampling(merged),
        truncate=request.truncate,
        # Contract 1.2: the final object of /api/generate has it, but never after a raw prompt.
        wants_context=isinstance(request, CompletionRequest) and isinstance(prompt, ChatPrompt),
    )


def _prompt(model: ResolvedModel, request: GenerationRequest) -> ChatPrompt | RawPrompt:
    if isinstance(request, ChatRequest):
        return _chat_prompt(model, request)
    return _completion_prompt(model, request)


def _chat_prompt(model: ResolvedModel, request: ChatRequest) -> ChatPrompt:
    # Contract 6.1: the stored system text stands aside only for a system message that comes first.
    begins_with_system = bool(request.messages) and request.messages[0].role == "system"
    own = () if begins_with_system else _system_messages(model.system)
    return ChatPrompt(
        messages=(*own, *_stored_messages(model), *request.messages),
        template=model.template or _DEFAULT_TEMPLATE,
        tools=request.tools,
        think=request.think,
    )


def _completion_prompt(model: ResolvedModel, request: CompletionRequest) -> ChatPrompt | RawPrompt:
    if request.raw:
        if request.template or request.system or request.context:
            raise BadRequest("raw mode does not support template, system, or context")
        return RawPrompt(text=request.prompt)
    return ChatPrompt(
        messages=(
            *_system_messages(request.system or model.system),
            *(() if request.context else _stored_messages(model)),
            ChatMessage(role="user", content=request.prompt),
        ),
        template=request.template or model.template or _DEFAULT_TEMPLATE,
        think=request.think,
        context=request.context,
    )


def _system_messages(text: str) -> tuple[ChatMessage, ...]:
    return (ChatMessage(role="system", content=text),) if text else ()


def _stored_messages(model: ResolvedModel) -> tuple[ChatMessage, ...]:
    return tuple(ChatMessage(role=role, content=content) for role, content in model.messages)
