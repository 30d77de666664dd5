"""The chat page, the parts of it that are fetched anew, and what its forms change.

A form posted without script comes back to the page; what the page's own script posts is answered
with 204. What is asked and answered goes over `ws/chats`. Knows no row of the database.
"""

from collections.abc import AsyncIterator, Iterator
from typing import Any, Final

from asgiref.sync import sync_to_async
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import redirect, render
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.cache import never_cache

from inference import generation
from inference.chats import export, questions
from inference.errors import EngineUnavailable
from inference.messages import LoadedModel
from inference.pages import chat_shown
from inference.pages.chat_shown import ListWish, PageWish
from models_app import chat_messages, chats
from models_app.page_requests import allow, principal_of
from models_app.permissions import Principal
from ollamasite.errors import BadRequest
from ollamasite.http import JSON, is_page_request, read_json_text

_IMAGE_POLICY: Final = "default-src 'none'; frame-ancestors 'none'; sandbox"


@never_cache
@allow("GET")
async def page(request: HttpRequest, chat_id: str = "") -> HttpResponse:
    """Show a chat, or the place where one begins."""
    wish = PageWish(
        chat_id=chat_id, model=request.GET.get("model", ""), draft=request.GET.get("q", "")
    )
    in_memory = await _loaded_models()
    # On a thread with its template: a long chat takes a while, and others are being answered.
    return await sync_to_async(_page)(request, wish, in_memory)


@never_cache
@allow("GET")
def chat_list(request: HttpRequest) -> HttpResponse:
    """Show a part of the list of chats."""
    asked = request.GET
    wish = ListWish(
        query=asked.get("q", ""),
        folder_id=asked.get("folder", ""),
        before=asked.get("before", ""),
        open_id=asked.get("open", ""),
    )
    context = chat_shown.load_list(principal_of(request), wish)
    return render(request, "inference/chat/list.html", context)


@never_cache
@allow("GET")
def messages(request: HttpRequest, chat_id: str) -> HttpResponse:
    """Show the messages of the branch that is shown."""
    context = chat_shown.load_branch(principal_of(request), chat_id)
    return render(request, "inference/chat/messages.html", context)


@allow("POST")
def rename(request: HttpRequest, chat_id: str) -> HttpResponse:
    """Give a chat another title."""
    chats.rename_chat(principal_of(request), chat_id, request.POST.get("title", ""))
    return _changed(request, chat_id)


@allow("POST")
def move(request: HttpRequest, chat_id: str) -> HttpResponse:
    """Put a chat into a folder, or out of it."""
    chats.move_chat(principal_of(request), chat_id, request.POST.get("folder", ""))
    return _changed(request, chat_id)


@allow("POST")
def pin(request: HttpRequest, chat_id: str) -> HttpResponse:
    """Keep a chat at the top, or no longer."""
    is_pinned = bool(request.POST.get("pinned", ""))
    chats.pin_chat(principal_of(request), chat_id, is_pinned=is_pinned)
    return _changed(request, chat_id)


@allow("POST")
def delete(request: HttpRequest, chat_id: str) -> HttpResponse:
    """Delete a chat with all that is in it."""
    chats.delete_chat(principal_of(request), chat_id)
    return _changed(request)


@allow("POST")
def head(request: HttpRequest, chat_id: str) -> HttpResponse:
    """Show another branch."""
    chat_messages.set_head(principal_of(request), chat_id, request.POST.get("message", ""))
    return _changed(request, chat_id)


@allow("POST")
def system(request: HttpRequest, chat_id: str) -> HttpResponse:
    """Note what the next question is asked with."""
    posted = request.POST
    settings = questions.read_settings(
        model=posted.get("model", ""),
        system=posted.get("system", ""),
        options=_json_of(posted.get("options"), {}, "options"),
        tools=_json_of(posted.get("tools"), [], "tools"),
        think=_json_of(posted.get("think"), None, "think"),
    )
    chats.set_settings(principal_of(request), chat_id, settings)
    return _changed(request, chat_id)


@allow("POST")
def create_folder(request: HttpRequest) -> HttpResponse:
    """Make a folder."""
    chats.create_folder(principal_of(request), request.POST.get("name", ""))
    return _changed(request)


@allow("POST")
def rename_folder(request: HttpRequest, folder_id: str) -> HttpResponse:
    """Give a folder another name."""
    chats.rename_folder(principal_of(request), folder_id, request.POST.get("name", ""))
    return _changed(request)


@allow("POST")
def delete_folder(request: HttpRequest, folder_id: str) -> HttpResponse:
    """Delete a folder; its chats stay."""
    chats.delete_folder(principal_of(request), folder_id)
    return _changed(request)


@allow("GET")
def image(request: HttpRequest, image_id: str) -> HttpResponse:
    """Show an image of a question."""
    found = chat_messages.find_image(principal_of(request), image_id)
    response = HttpResponse(found.data, content_type=found.media_type)
    response["Content-Security-Policy"] = _IMAGE_POLICY
    response["Cache-Control"] = "private, max-age=86400, immutable"
    return response


@never_cache
@allow("GET")
async def export_chat(request: HttpRequest, chat_id: str) -> StreamingHttpResponse:
    """Send a chat as a file."""
    kind = request.GET.get("format", "markdown")
    begin = sync_to_async(_as_json if kind == "json" else _as_markdown)
    name, media_type, pieces = await begin(principal_of(request), chat_id)
    response = StreamingHttpResponse(_on_threads(pieces), content_type=media_type)
    response["Content-Disposition"] = f'attachment; filename="{name}"'
    return response


def _page(
    request: HttpRequest, wish: PageWish, in_memory: tuple[LoadedModel, ...] | None
) -> HttpResponse:
    context = chat_shown.load_page(principal_of(request), wish, in_memory)
    return render(request, "inference/chat/page.html", context)


def _as_markdown(principal: Principal, chat_id: str) -> tuple[str, str, Iterator[bytes]]:
    chat, branch = chat_messages.read_branch(principal, chat_id)
    name = export.file_name(chat, "md")
    return name, "text/markdown; charset=utf-8", export.as_markdown(chat, branch)


def _as_json(principal: Principal, chat_id: str) -> tuple[str, str, Iterator[bytes]]:
    chat, tree = chat_messages.read_tree(principal, chat_id)
    return export.file_name(chat, "json"), JSON, export.as_json(principal, chat, tree)


async def _on_threads(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    while piece := await sync_to_async(_next)(pieces):
        yield piece


def _next(pieces: Iterator[bytes]) -> bytes:
    return next(pieces, b"")


async def _loaded_models() -> tuple[LoadedModel, ...] | None:
    try:
        return await generation.loaded_models()
    except EngineUnavailable:
        return None


def _changed(request: HttpRequest, chat_id: str = "") -> HttpResponse:
    if not is_page_request(request) or request.headers.get("HX-Request"):
        return HttpResponse(status=204)
    target = request.POST.get("next", "")
    if url_has_allowed_host_and_scheme(target, allowed_hosts=None) and target.startswith("/"):
        return redirect(target)
    return redirect("chat-open", chat_id) if chat_id else redirect("chat")


def _json_of(text: str | None, default: Any, what: str) -> Any:
    if not text:
        return default
    value = read_json_text(text)
    if default is not None and not isinstance(value, type(default)):
        raise BadRequest(f"{what} must be JSON of the right kind")
    return value
