"""A Modelfile → what it asks to have created (contract/ollama.md 4.2, 4.4).

A file of the server is never read, whatever a FROM names: uploaded blobs are named by their
digest. Knows no HTTP and no store; the grammar is `registry.modelfile_parser`.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from models_app.names import ModelName
from registry.create_request import CreateRequest
from registry.digest import Digest
from registry.errors import InvalidCreate, InvalidModelfile
from registry.modelfile import Command
from registry.modelfile_parser import parse_modelfile

_INTEGER: Final = re.compile(r"[+-]?[0-9]{1,19}")
_FLOAT: Final = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,4})?")
_MAX_INT: Final = 2**63 - 1
_MAX_FLOAT32: Final = 3.4028235e38
_TRUE: Final = frozenset({"1", "t", "T", "TRUE", "true", "True"})
_FALSE: Final = frozenset({"0", "f", "F", "FALSE", "false", "False"})
_VERSION: Final = re.compile(r"[0-9]+(\.[0-9]+){0,2}([-+][0-9A-Za-z.+-]+)?")
# Paths as people write them; a bare file name could as well be a model's.
_PATH: Final = re.compile(r"[/~\\]|\.{1,2}[/\\]|[A-Za-z]:\\|.*\.(gguf|bin|safetensors)$", re.I)
# How `show` prints where weights are: the file of a blob of this store.
_BLOB_PATH: Final = re.compile(r"/(?:.*/)?(sha256-[0-9a-f]{64})", re.DOTALL)


def read_modelfile(text: str) -> CreateRequest:
    """Return what a Modelfile asks for, without a name.

    Raises InvalidModelfile, InvalidDigest, InvalidModelName, InvalidCreate.
    """
    values: dict[str, list[str]] = {}
    for command in parse_modelfile(text):
        values.setdefault(command.name, []).append(command.value)
    if "draft" in values:
        raise InvalidCreate(_NO_DRAFTS)
    bases, files = _sources(values.pop("model"))
    adapters = [_digest(value, "ADAPTER") for value in values.pop("adapter", [])]
    messages = values.pop("message", None)
    licenses = values.pop("license", [])
    texts = {name: values.pop(name, [""])[-1] for name in _TEXTS}
    _check_version(texts["requires"])
    return CreateRequest(
        base_name=bases[-1] if bases else "",
        files=_by_path(files) if files else None,
        adapters=_by_path(adapters) if adapters else None,
        license=tuple(text for text in licenses if text),
        messages=tuple(_message(text) for text in messages) if messages else None,
        parameters=read_parameters(
            Command(name, value) for name, given in values.items() for value in given
        ),
        **texts,
    )


def check_command(command: Command) -> None:
    """Refuse a command that could not be part of any Modelfile. Raises as `read_modelfile`."""
    match command.name:
        case "model":
            _sources([command.value])
        case "adapter":
            _digest(command.value, "ADAPTER")
        case "draft":
            raise InvalidCreate(_NO_DRAFTS)
        case "requires":
            _check_version(command.value)
        case name if name not in _WITHOUT_RULES:
            read_parameters([command])


def read_parameters(commands: Iterable[Command]) -> dict[str, Any]:
    """Return the parameters of a Modelfile by name. Raises InvalidModelfile.

    Those that once meant something are left out. Of those that may be given once the last counts.
    """
    parameters: dict[str, Any] = {}
    for command in commands:
        name = command.name
        if name == _LIST:
            parameters.setdefault(name, []).append(command.value)
        elif name in _READERS:
            parameters[name] = _READERS[name](command.value)
        elif name not in _FORMER:
            raise InvalidModelfile(f"unknown parameter '{name}'")
    return parameters


_NO_DRAFTS: Final = "draft models are not supported"
_WITHOUT_RULES: Final = frozenset(
    {"license", "message", "parser", "renderer", "system", "template"}
)
_TEXTS: Final = ("template", "system", "renderer", "parser", "requires")
_LIST: Final = "stop"


def _sources(values: list[str]) -> tuple[list[str], list[Digest]]:
    """Return the names of models and the digests of files that the FROM lines name."""
    names = [value for value in values if not _is_file(value)]
    files = [_digest(value, "FROM") for value in values if _is_file(value)]
    if names and files:
        raise InvalidCreate("FROM names either a model or uploaded files, not both")
    for name in names:
        ModelName.parse(name)
    return names, files


def _is_file(value: str) -> bool:
    return value.startswith("@") or _PATH.match(value) is not None


def _digest(value: str, keyword: str) -> Digest:
    in_store = _BLOB_PATH.fullmatch(value)
    if in_store is not None:
        return Digest.parse(in_store[1])
    if value.startswith("@"):
        return Digest.parse(value[1:])
    raise InvalidCreate(
        f"{keyword} names a file of the server, which is not read: upload the file to "
        f"/api/blobs and write {keyword} @sha256:<digest>"
    )


def _by_path(digests: list[Digest]) -> dict[str, Digest]:
    return {f"{number}.gguf": digest for number, digest in enumerate(digests, start=1)}


def _message(text: str) -> tuple[str, str]:
    role, _, content = text.partition(": ")
    return role, content


def _check_version(text: str) -> None:
    if text and not _VERSION.fullmatch(text):
        raise InvalidModelfile("requires must be a version like 0.14.0")


# ------------------------------------------------------------------ values of parameters


def _integer(text: str) -> int:
    if not _INTEGER.fullmatch(text) or not -_MAX_INT <= int(text) <= _MAX_INT:
        raise InvalidModelfile(f"invalid int value [{text}]")
    return int(text)


def _float(text: str) -> float:
    if not _FLOAT.fullmatch(text) or not abs(value := float(text)) <= _MAX_FLOAT32:
        raise InvalidModelfile(f"invalid float value [{text}]")
    return int(value) if value.is_integer() and abs(value) < _MAX_INT else value


def _bool(text: str) -> bool:
    if text not in _TRUE | _FALSE:
        raise InvalidModelfile(f"invalid bool value [{text}]")
    return text in _TRUE


_READERS: Final[Mapping[str, Callable[[str], Any]]] = {
    **dict.fromkeys(("num_ctx", "num_batch", "num_gpu", "main_gpu", "num_thread"), _integer),
    **dict.fromkeys(("num_keep", "seed", "num_predict", "top_k", "repeat_last_n"), _integer),
    "draft_num_predict": _integer,
    **dict.fromkeys(("temperature", "top_p", "min_p", "typical_p", "repeat_penalty"), _float),
    **dict.fromkeys(("presence_penalty", "frequency_penalty"), _float),
    "use_mmap": _bool,
}
# Ollama warns about these or had them once; nothing here depends on them.
_FORMER: Final = frozenset(
    {
        *("penalize_newline", "low_vram", "f16_kv", "logits_all", "vocab_only", "use_mlock"),
        *("mirostat", "mirostat_tau", "mirostat_eta", "tfs_z", "numa", "num_gqa"),
        *("rope_frequency_base", "rope_frequency_scale"),
    }
)
