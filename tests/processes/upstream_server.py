"""llama.cpp's own server for tests, from the package `xllamacpp`: an engine elsewhere.

Run by path: MODEL PORT KEY, and `embed` for one that embeds, or `see=PROJECTOR` for one that sees.
Ends with its parent's signal.
"""

import signal
import sys
from typing import Final

import xllamacpp

# Hermes' way to call functions, which the server reads, and thinking where it is asked for.
TEMPLATE: Final = """\
{%- if tools %}<|im_start|>system
You may call one or more functions. Their signatures are within <tools></tools>:
<tools>
{%- for tool in tools %}
{{ tool | tojson }}
{%- endfor %}
</tools>
For each function call, return a json object with function name and arguments within \
<tool_call></tool_call>:
<tool_call>
{"name": <function-name>, "arguments": <args-json-object>}
</tool_call><|im_end|>
{% endif %}
{%- for message in messages %}<|im_start|>{{ message.role }}
{% if message.reasoning_content %}<think>
{{ message.reasoning_content }}
</think>

{% endif %}{% if message.content %}{{ message.content }}{% endif %}
{%- for call in message.tool_calls or [] %}
<tool_call>
{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}
</tool_call>
{%- endfor %}<|im_end|>
{% endfor %}
{%- if add_generation_prompt %}<|im_start|>assistant
{% if thinking %}<think>
{% endif %}{% endif %}"""
SLOTS: Final = 3


def main() -> None:
    """Serve one model until SIGTERM."""
    model, port, key, *flags = sys.argv[1:]
    params = xllamacpp.CommonParams()
    params.model.path = model
    params.chat_template = TEMPLATE
    params.use_jinja = True
    params.n_parallel = SLOTS
    params.n_ctx = SLOTS * 1024
    # Two would wait for each other at barriers, busily, beside whatever else runs here.
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    params.hostnames = ["127.0.0.1"]
    params.port = int(port)
    params.api_keys = [key]
    params.endpoint_slots = True
    for flag in flags:
        _take(params, flag)
    server = xllamacpp.Server(params)
    sys.stdout.write(f"listening at {server.listening_address}\n")
    sys.stdout.flush()
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    # Its destructor waits for connections that a client may keep open for long.
    signal.raise_signal(signal.SIGKILL)


def _take(params: xllamacpp.CommonParams, flag: str) -> None:
    if flag == "embed":
        params.embedding = True
        params.n_parallel = 2  # with three it aborts
        params.n_ctx = 2 * 1024
        params.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
    else:
        params.mmproj.path = flag.removeprefix("see=")
        params.mmproj_use_gpu = False


if __name__ == "__main__":
    # Before any thread exists, so that no other one takes the signal.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    main()
