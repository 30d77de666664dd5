"""What llama.cpp's log says of memory."""

from inference.engine.llama.opening import allocated

MIB = 1024**2
# The lines of llama.cpp with all layers of a model on one GPU.
LINES = (
    "load_tensors:   CPU_Mapped model buffer size =    28.69 MiB",
    "load_tensors:        CUDA0 model buffer size =   100.00 MiB",
    "llama_context:  CUDA_Host  output buffer size =     2.00 MiB",
    "llama_kv_cache:      CUDA0 KV buffer size =    90.00 MiB",
    "sched_reserve:      CUDA0 compute buffer size =    10.00 MiB",
    "sched_reserve:  CUDA_Host compute buffer size =     8.00 MiB",
)


def test_memory_of_the_machine_that_a_gpu_may_read_is_none_of_the_gpus() -> None:
    sizes = allocated(LINES)

    assert sizes.gpu == 200 * MIB
    assert sizes.total == int(238.69 * MIB)
