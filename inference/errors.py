"""Failures of generation that a client is told about; `ollamasite.errors` draws the tree."""

import json

from models_app.errors import ModelNotFound
from ollamasite.errors import BadRequest, ServiceError


class PromptTooLong(BadRequest):
    """The prompt does not fit and may not be cut."""

    code = "prompt_too_long"

    def __init__(self, message: str = "", *, param: str = "messages") -> None:
        super().__init__(message, param=param)


class UnsupportedByModel(BadRequest):
    """The model lacks what the request asks for (tools, thinking, insert, chat …)."""

    code = "unsupported_by_model"


class EmbeddingModelNotFound(ModelNotFound):
    """The same, in the words of the routes that embed (contract 2.3)."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        quoted = json.dumps(name, ensure_ascii=False)
        self.message = f"model {quoted} not found, try pulling it first"


class InvalidOption(BadRequest):
    """An entry of `options` has the wrong type or an impossible value."""

    code = "invalid_option"


class LateRefusal(BadRequest):
    """Ollama notices it only when its engine has the request.

    A streamed answer has begun by then, which costs the charset (contract 11, 1.0).
    """

    code = "late_refusal"


class InvalidFormat(LateRefusal):
    """`format` is neither "json" nor a schema."""

    code = "invalid_format"


class BlindModel(LateRefusal):
    """The request has images and the model cannot see."""

    code = "blind_model"
    default_message = "this model is missing data required for image input"


class InvalidImage(LateRefusal):
    """An image of the request is too large, too many, or no image that can be read."""

    code = "invalid_image"


class TemplateFailed(BadRequest):
    """The model's or the request's template does not parse or run.

    Ollama answers 500; clients try a 500 again, and this one never gets better.
    """

    code = "template_failed"


class LoadFailed(ServiceError):
    """The model could not be brought into memory."""

    code = "load_failed"
    status = 500


class RunnerCrashed(ServiceError):
    """The process that computed the answer ended."""

    code = "runner_crashed"
    status = 500
    default_message = "model runner has unexpectedly stopped, please try again"


class EngineFailed(ServiceError):
    """The engine reported an error of its own."""

    code = "engine_failed"
    status = 500
    default_message = "an error was encountered while running the model"


class ServerBusy(ServiceError):
    """Too many requests wait already."""

    code = "server_busy"
    status = 503
    # Two blanks: contract 2.4, clients compare the text.
    default_message = "server busy, please try again.  maximum pending requests exceeded"

    def __init__(self, message: str = "") -> None:
        super().__init__(message, headers={"Retry-After": "1"})


class EngineUnavailable(ServiceError):
    """No inference node answers, or it is going down."""

    code = "engine_unavailable"
    status = 503
    default_message = "the inference service is not available, please try again"

    def __init__(self, message: str = "") -> None:
        super().__init__(message, headers={"Retry-After": "2"})


class NodeAway(EngineUnavailable):
    """The only nodes on which the model fits are away, and have not come back in time."""

    code = "node_away"
    default_message = "the node that this model fits on is away, please try again"


class UpstreamUnreachable(ServiceError):
    """The engine elsewhere that serves the model does not answer, or takes nobody now."""

    code = "upstream_unreachable"
    status = 503
    default_message = "the engine that serves this model does not answer, please try again later"

    def __init__(self, message: str = "") -> None:
        super().__init__(message, headers={"Retry-After": "10"})


class UpstreamFailed(ServiceError):
    """The engine elsewhere that serves the model failed, or answered what makes no sense."""

    code = "upstream_failed"
    status = 502
    default_message = "the engine that serves this model failed, please try again"


class RequestNotFound(ServiceError):
    """There is no such request that runs or waits, or it is none of the caller's business."""

    code = "request_not_found"
    status = 404
    default_message = "there is no such request, or it has ended already"


class ReaderTooSlow(ServiceError):
    """So much of an answer waits for its client to read it that it was ended."""

    code = "reader_too_slow"
    status = 408
    default_message = "the answer was ended: it was not read nearly as fast as it came"


class RequestCancelled(ServiceError):
    """The request was ended from outside before it finished."""

    code = "request_cancelled"
    status = 499
    default_message = "request canceled"
