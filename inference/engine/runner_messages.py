"""What only a node and its runner say to each other.

Frames to a runner: OpenModel and Proceed, or OpenUpstream for one that asks an engine elsewhere;
then Generate, Embed, Cancel, Pause and Resume. From it: Measured, Opened or OpenFailed, then one
Step for each step. Knows nothing of llama.cpp.
"""

from inference.messages import (
    Cancel,
    ChoiceEnded,
    Device,
    Embed,
    Embedded,
    Failed,
    Finished,
    Generate,
    Nanoseconds,
    Part,
    PromptScored,
    Rendered,
    RunnerOptions,
    Started,
    Token,
    Tokens,
    Wire,
)


class AdapterFile(Part, frozen=True):
    """A LoRA adapter to apply."""

    path: str
    scale: float = 1.0


class OpenModel(Wire, frozen=True):
    """First frame to a runner: what to load and how. Answered by Measured or OpenFailed."""

    path: str
    options: RunnerOptions
    parallel: int
    threads: int  # 0: try and choose the fastest
    # ggml's special weight layouts (AMX, repacking): faster, but some virtual machines announce
    # AMX and then fault on its first instruction.
    use_extra_buffers: bool = True
    adapters: tuple[AdapterFile, ...] = ()
    projector: str = ""  # path
    most_threads: int = 1  # to try
    prefix_store_bytes: int = 0  # RAM for KV states that have left their slot


class OpenUpstream(Wire, frozen=True):
    """First frame to a runner that passes requests on to an upstream. Answered by Opened."""

    context_length: int


class Measured(Wire, frozen=True):
    """What loading will take, in bytes, read from the file's metadata. Answered by Proceed."""

    weights_bytes: int
    kv_bytes: int
    compute_bytes: int
    gpu_bytes: int = 0  # of the sum, what goes to GPUs
    gpu_free_bytes: int | None = None  # what they have to give; None: unknown


class Proceed(Wire, frozen=True):
    """Load it. Beyond the limit of address space, in bytes, the runner fails; 0: no limit."""

    memory_limit_bytes: int = 0


class Opened(Wire, frozen=True):
    """The runner's model is ready. Sizes are what llama.cpp reports, in bytes."""

    size_bytes: int
    size_vram_bytes: int
    context_length: int
    threads: int = 0


class OpenFailed(Wire, frozen=True):
    """The model could not be loaded; the runner exits."""

    message: str


class Pause(Wire, frozen=True):
    """Take a request off its slot; what it has computed is kept. Resume goes on with it."""

    request_id: str


class Resume(Wire, frozen=True):
    """Go on with a paused request."""

    request_id: str


class Charge(Part, frozen=True, array_like=True):
    """Tokens that were computed for a request in one step, and its share of the step's time."""

    request_id: str
    prompt_tokens: Tokens
    completion_tokens: Tokens
    compute_ns: Nanoseconds = 0


class Step(Wire, frozen=True):
    """What one step of a runner brought. One is sent for every step, so it is also its pulse.

    `size_bytes` is there where the model takes more than before: 0, it has not changed.
    """

    events: tuple[
        Started | PromptScored | Rendered | Token | ChoiceEnded | Embedded | Finished | Failed, ...
    ] = ()
    charges: tuple[Charge, ...] = ()
    size_bytes: int = 0
    size_vram_bytes: int = 0


ToRunner = OpenModel | OpenUpstream | Proceed | Generate | Embed | Cancel | Pause | Resume
FromRunner = Measured | Opened | OpenFailed | Step


class FoundDevices(Part, frozen=True):
    """What `engine.llama.devices` prints: the GPUs; without any, why a build for them uses none."""

    devices: tuple[Device, ...] = ()
    problem: str = ""
