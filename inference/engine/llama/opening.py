"""From a file to llama.cpp's model and context, and what they will take or took of memory.

llama.cpp tells the sizes of its buffers in its log only. Knows no tokens and no sequences.
"""

import logging
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import llama_cpp.llama_cpp as lib
from msgspec import structs

from inference.engine.llama import backend
from inference.engine.llama.devices import devices
from inference.engine.model import MIN_WINDOW_TOKENS, SCORED_TOKENS, LoadError
from inference.engine.runner_messages import Measured, OpenModel
from inference.messages import RunnerOptions

logger = logging.getLogger(__name__)

_MIB: Final = 1024 * 1024
_GGML_TYPE_F32: Final = 0
_SMALL_HEAD: Final = 128
_LARGE_WINDOW: Final = 8192
_IN_SYSTEM_MEMORY: Final = re.compile(r"CPU|AMX|BLAS|\w+_Host$")  # llama.cpp's names of buffers
_KV_SIZE: Final = re.compile(
    r"^(?:llama_kv_cache|llama_memory_recurrent)\w*: size =\s*([\d.]+) MiB"
)
_BUFFER_SIZE: Final = re.compile(
    r"(\S+)\s+(model|KV|RS|compute|output) buffer size =\s*([\d.]+) MiB"
)


@dataclass(frozen=True, slots=True)
class BufferSizes:
    """Bytes that llama.cpp has allocated, and how many of them on GPUs."""

    total: int
    gpu: int


def measure(request: OpenModel) -> Measured:
    """Read a file's metadata and return what loading it will take. Raises LoadError.

    Nothing is allocated: llama.cpp plays the load through without memory.
    """
    model = load_weights(request, no_alloc=True)
    backend.take_sizes()
    try:
        context = new_context(model, request)
        lines = backend.take_sizes()
        lib.llama_free(context)
        weights = int(lib.llama_model_size(model))
        layers = max(1, int(lib.llama_model_n_layer(model)))
    finally:
        lib.llama_model_free(model)
    kv = sum(float(found[1]) for line in lines if (found := _KV_SIZE.search(line)))
    others = ("compute", "output")
    compute = sum(size for _, kind, size in _buffers(lines) if kind in others)
    sizes = Measured(
        weights_bytes=weights, kv_bytes=int(kv * _MIB), compute_bytes=int(compute * _MIB)
    )
    if not lib.llama_supports_gpu_offload():
        return sizes
    on_gpu = layers + 1 if request.options.num_gpu is None else request.options.num_gpu
    share = min(1.0, on_gpu / (layers + 1))
    total = sizes.weights_bytes + sizes.kv_bytes + sizes.compute_bytes
    free = sum(device.free_bytes or 0 for device in devices())
    return structs.replace(sizes, gpu_bytes=int(share * total), gpu_free_bytes=free)


def load_weights(request: OpenModel, *, no_alloc: bool = False) -> Any:
    """Return llama.cpp's model. Raises LoadError."""
    backend.start_backend()
    if request.options.numa:
        lib.llama_numa_init(lib.GGML_NUMA_STRATEGY_DISTRIBUTE)
    model = lib.llama_model_load_from_file(request.path.encode(), _model_params(request, no_alloc))
    if not model:
        reason = backend.last_error() or "unknown reason"
        raise LoadError(f"llama.cpp cannot load the model: {reason}")
    return model


def new_context(model: Any, request: OpenModel) -> Any:
    """Return a context with `parallel` sequences of one window each. Raises LoadError."""
    window = window_tokens(model, request)
    params = _sequence_params(request, window)
    if _is_faster_without_flash_attention(model, window):
        params.flash_attn_type = lib.LLAMA_FLASH_ATTN_TYPE_DISABLED
    context = lib.llama_init_from_model(model, params)
    if not context:
        raise LoadError(
            f"no memory for {request.parallel} × {window} tokens of context: "
            f"{backend.last_error() or 'unknown reason'}"
        )
    return context


def window_tokens(model: Any, request: OpenModel) -> int:
    """Return the context length of one sequence: as asked for, no longer than trained."""
    trained = int(lib.llama_model_n_ctx_train(model))
    wanted = max(MIN_WINDOW_TOKENS, request.options.num_ctx)
    if wanted > trained > 0:
        logger.warning("num_ctx %d is cut to the model's %d", wanted, trained)
        return trained
    return wanted


def allocated(lines: Iterable[str]) -> BufferSizes:
    """Return what a load has allocated according to its log."""
    total = gpu = 0.0
    for device, _, size in _buffers(lines):
        total += size
        gpu += 0.0 if _IN_SYSTEM_MEMORY.match(device) else size
    return BufferSizes(total=int(total * _MIB), gpu=int(gpu * _MIB))


def _is_faster_without_flash_attention(model: Any, window: int) -> bool:
    """Whether answers come faster without flash attention: small heads on a CPU.

    8 answers 1,260 tokens long, ms a step without | with: heads of 64 (SmolLM2) 80 | 250, of 128
    100 | 150, of 256 (Gemma 3) 81 | 59. Without it buffers grow with the window.
    """
    if lib.llama_supports_gpu_offload() or window > _LARGE_WINDOW:
        return False
    heads = max(1, int(lib.llama_model_n_head(model)))
    return int(lib.llama_model_n_embd(model)) // heads <= _SMALL_HEAD


def _buffers(lines: Iterable[str]) -> Iterable[tuple[str, str, float]]:
    for line in lines:
        if found := _BUFFER_SIZE.search(line):
            yield found[1], found[2], float(found[3])


def _model_params(request: OpenModel, no_alloc: bool) -> Any:  # noqa: FBT001 - one caller
    params = lib.llama_model_default_params()
    options = request.options
    if options.num_gpu is not None:
        params.n_gpu_layers = options.num_gpu
    if options.main_gpu is not None:
        params.main_gpu = options.main_gpu
    if options.use_mmap is not None:
        params.load_mode = (
            lib.LLAMA_LOAD_MODE_MMAP if options.use_mmap else lib.LLAMA_LOAD_MODE_NONE
        )
    if options.use_mlock:
        has_no_map = options.use_mmap is False
        params.load_mode = (
            lib.LLAMA_LOAD_MODE_MLOCK if has_no_map else lib.LLAMA_LOAD_MODE_MMAP_MLOCK
        )
    if no_alloc:
        params.no_alloc = True
        params.load_mode = lib.LLAMA_LOAD_MODE_NONE
    params.use_extra_bufts = request.use_extra_buffers
    return params


def context_params(options: RunnerOptions, threads: int) -> Any:
    """Return llama.cpp's defaults with what every context of a model has by its options."""
    params = lib.llama_context_default_params()
    params.n_threads = params.n_threads_batch = options.num_thread or threads
    if options.rope_frequency_base:
        params.rope_freq_base = options.rope_frequency_base
    if options.rope_frequency_scale:
        params.rope_freq_scale = options.rope_frequency_scale
    if options.f16_kv is False:
        params.type_k = params.type_v = _GGML_TYPE_F32
    return params


def _sequence_params(request: OpenModel, window: int) -> Any:
    params = context_params(request.options, request.threads or request.most_threads)
    # One stream of KV cells for each sequence: a sequence's attention does not see the others'.
    params.n_ctx = window * request.parallel
    params.n_seq_max = request.parallel
    params.kv_unified = False
    params.n_batch = max(request.options.num_batch, request.parallel)
    params.n_ubatch = params.n_batch
    # Without a limit there is room for the logits of a whole batch: half a gigabyte for Gemma.
    params.n_outputs_max = min(params.n_batch, request.parallel + SCORED_TOKENS)
    return params
