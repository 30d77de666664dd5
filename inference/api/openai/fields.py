"""Fields that several routes under `/v1` share: sampling, stop, bias, effort, images, usage.

Rules: contract/ollama.md 3.1, 3.2. Knows no route, no model and no answer.
"""

import base64
import json
import math
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

import msgspec

from inference.image_headers import read_header
from inference.messages import Usage
from ollamasite.errors import BadRequest

_EFFORTS: Final[dict[str, bool | str]] = {
    "none": False,
    "minimal": "low",
    "low": "low",
    "medium": "medium",
    "high": "high",
    "max": "max",
    "xhigh": "max",
    "ultra": "max",
}
_IMAGE_PREFIXES: Final = (
    "data:image/jpeg;base64,",
    "data:image/jpg;base64,",
    "data:image/png;base64,",
    "data:image/webp;base64,",
    "data:image/gif;base64,",
    "data:;base64,",
)
MAX_CHOICES: Final = 16
MAX_BIASED_TOKENS: Final = 1024
_MAX_BIAS: Final = 100.0
_MAX_TOKEN_ID: Final = 2**31 - 1
_TOKEN_ID: Final = re.compile(r"[0-9]{1,10}")
NOTHING_FETCHED: Final[Mapping[str, bytes]] = MappingProxyType({})


class StreamOptions(msgspec.Struct):
    """`stream_options`. Chunks are never padded, with or without `include_obfuscation`."""

    include_usage: bool = False
    include_obfuscation: bool = False


def read_stop(value: Any) -> list[str] | None:
    """Return the stop strings, None where none are asked for; what is no string is dropped."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, list):
        return [text for text in value if isinstance(text, str)]
    return None


def read_logit_bias(asked: dict[str, Any]) -> tuple[tuple[int, float], ...]:
    """Return pairs of a token id and what is added to its logit. Raises BadRequest."""
    if len(asked) > MAX_BIASED_TOKENS:
        raise _wrong_bias(f"at most {MAX_BIASED_TOKENS} entries")
    return tuple({_read_token_id(key): _read_bias(bias) for key, bias in asked.items()}.items())


def _read_token_id(key: str) -> int:
    token = int(key) if _TOKEN_ID.fullmatch(key) else _MAX_TOKEN_ID + 1
    if token > _MAX_TOKEN_ID:
        raise _wrong_bias("token ids as its keys")
    return token


def _read_bias(value: Any) -> float:
    is_number = type(value) in {int, float} and math.isfinite(value)
    if not is_number or abs(value) > _MAX_BIAS:
        raise _wrong_bias("values between -100 and 100")
    return float(value)


def _wrong_bias(wanted: str) -> BadRequest:
    return BadRequest(f"logit_bias must have {wanted}", param="logit_bias")


def read_choices(count: int) -> int:
    """Return how many answers `n` asks for. Raises BadRequest."""
    if not 1 <= count <= MAX_CHOICES:
        raise BadRequest(f"n must be between 1 and {MAX_CHOICES}", param="n")
    return count


def read_effort(effort: str, *, param: str = "reasoning_effort") -> bool | str | None:
    """Return what `think` is for a reasoning effort; None for an empty one. Raises BadRequest."""
    if not effort:
        return None
    if effort not in _EFFORTS:
        shown = json.dumps(effort, ensure_ascii=False)
        choices = ", ".join(f'"{name}"' for name in _EFFORTS)
        raise BadRequest(
            f"invalid reasoning value: {shown} (must be one of {choices})", param=param
        )
    return _EFFORTS[effort]


def is_web_address(value: Any) -> bool:
    """Whether an image is named by an address that would have to be fetched."""
    return isinstance(value, str) and value[:8].lower().startswith(("http://", "https://"))


def image_address(value: Any) -> Any:
    """Return the URL of an `image_url`, which is an object with `url` or the URL itself."""
    return value.get("url") if isinstance(value, dict) else value


def read_image(
    value: Any, fetched: Mapping[str, bytes] = NOTHING_FETCHED, *, param: str = "messages"
) -> bytes:
    """Return the bytes of an image: a data URL, or a web address that has been fetched before.

    Base64 without a prefix is taken where it makes an image, as the first examples of Ollama's
    document have it. Raises BadRequest.
    """
    url = image_address(value)
    if not isinstance(url, str):
        raise BadRequest("invalid message format", param=param)
    if url in fetched:
        return fetched[url]
    if is_web_address(url):
        raise BadRequest(
            "image URLs are not currently supported, please use base64 encoded data instead",
            param=param,
        )
    prefix = next((prefix for prefix in _IMAGE_PREFIXES if url.startswith(prefix)), "")
    try:
        image = base64.b64decode(url.removeprefix(prefix), validate=True)
        if not prefix:
            read_header(image)
    except ValueError as error:  # of base64 and of the header
        raise BadRequest("invalid image input", param=param) from error
    return image


def usage_of(usage: Usage) -> dict[str, Any]:
    """Return the counters of an answer as OpenAI writes them; their details are always there."""
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    }


def are_token_ids(value: list[Any]) -> bool:
    """Whether a list has token ids and nothing else, and at least one."""
    return bool(value) and all(type(item) is int and 0 <= item <= _MAX_TOKEN_ID for item in value)
