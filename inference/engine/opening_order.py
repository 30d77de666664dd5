"""What a runner is told to open. Pure: a config, a decision of the scheduler, and what is known."""

from inference.engine.actions import StartRunner
from inference.engine.config import EngineConfig
from inference.engine.runner_messages import AdapterFile, OpenModel, OpenUpstream


def opening_order(
    config: EngineConfig,
    action: StartRunner,
    *,
    threads: int,
    use_extra_buffers: bool,
    store_bytes: int,
) -> OpenModel | OpenUpstream:
    """Return the first frame to a runner."""
    model = action.model
    if model.upstream is not None:
        return OpenUpstream(context_length=action.options.num_ctx)
    return OpenModel(
        path=str(config.weights_path(model.weights)),
        options=action.options,
        parallel=config.parallel,
        threads=threads,
        use_extra_buffers=use_extra_buffers,
        adapters=tuple(
            AdapterFile(path=str(config.weights_path(adapter.digest)), scale=adapter.scale)
            for adapter in model.adapters
        ),
        projector=str(config.weights_path(model.projector)) if model.projector else "",
        most_threads=config.effective_threads,
        prefix_store_bytes=store_bytes,
    )
