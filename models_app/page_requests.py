"""What the view of a page asks of its request. Knows no page."""

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

from asgiref.sync import iscoroutinefunction
from django.http import HttpRequest

from models_app.permissions import Principal
from ollamasite.errors import MethodNotAllowed

View = TypeVar("View", bound=Callable[..., Any])


def allow(*methods: str) -> Callable[[View], View]:
    """Let a view, sync or async, answer these methods alone; GET brings HEAD.

    The others raise MethodNotAllowed, which is told in the site's own words. The view says what it
    takes in `allowed_methods`.
    """
    allowed = [*methods, "HEAD"] if "GET" in methods else [*methods]

    def check(request: HttpRequest) -> None:
        if request.method not in allowed:
            raise MethodNotAllowed(headers={"Allow": ", ".join(sorted(allowed))})

    def decorate(view: View) -> View:
        if iscoroutinefunction(view):

            @wraps(view)
            async def answer_async(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
                check(request)
                return await view(request, *args, **kwargs)

            vars(answer_async)["allowed_methods"] = frozenset(allowed)
            return cast("View", answer_async)

        @wraps(view)
        def answer(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
            check(request)
            return view(request, *args, **kwargs)

        vars(answer)["allowed_methods"] = frozenset(allowed)
        return cast("View", answer)

    return decorate


def principal_of(request: HttpRequest) -> Principal:
    """Return who asks for the page; the gate has let them in."""
    principal: Principal = request.principal  # type: ignore[attr-defined] # set by the gate
    return principal
