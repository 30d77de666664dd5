"""Good bodies for every route that takes JSON: what the fuzz tests throw is not quite like them.

`BODIES` has one for every route, which the tests' model `able` answers with 200. `FURTHER` has
others for what those leave out. Knows no way to spoil a body.
"""

import base64
from typing import Any, Final

from tests.vision_files import write_image

PICTURE: Final = base64.b64encode(write_image("PNG")).decode()
DATA_URL: Final = f"data:image/png;base64,{PICTURE}"
# An answer that Alice had before, and something that was asked for it.
STORED_ID: Final = "resp_" + "0" * 32
STORED_ITEM_ID: Final = "msg_" + "0" * 32 + "0001"
HELLO: Final = [{"role": "user", "content": "Hello", "images": [], "tool_calls": []}]
CALL: Final = {"function": {"name": "f", "arguments": {"x": 1}}}
ABLE: Final = (
    "{{ if .Suffix }}{{ .Prompt }}|{{ .Suffix }}{{ else }}"
    "{{ range .Tools }}{{ json . }}{{ end }}{{ range .Messages }}{{ .Role }}: {{ .Content }}"
    "{{ if .Thinking }}<think>{{ .Thinking }}</think>{{ end }}"
    "{{ range .ToolCalls }}<call>{{ json .Function }}{{ end }}\n{{ end }}{{ end }}"
)
SCHEMA: Final = {"type": "object", "properties": {"x": {"type": "number"}}, "required": ["x"]}
TOOL: Final = {
    "type": "function",
    "function": {
        "name": "f",
        "description": "d",
        "parameters": SCHEMA,
    },
}
COMMON: Final = {
    "model": "able:latest",
    "stream": False,
    "options": {"num_predict": 3, "temperature": 0.5, "stop": ["x"], "num_ctx": 512, "seed": 1},
    "keep_alive": "5m",
}
NATIVE: Final = {
    **COMMON,
    "format": {"type": "object", "properties": {"a": {"type": "string"}}},
    "think": False,
    "truncate": True,
    "shift": False,
    "logprobs": True,
    "top_logprobs": 2,
    "_debug_render_only": False,
}
OPENAI_COMMON: Final = {
    "model": "able:latest",
    "stream": False,
    "options": {"num_ctx": 512, "seed": 1},
    "keep_alive": "5m",
}
RESPONSE: Final = {
    **OPENAI_COMMON,
    "input": [
        {
            "role": "user",
            "content": [
                {"type": "input_text", "text": "Hello"},
                {"type": "input_image", "image_url": DATA_URL, "detail": "low"},
            ],
        },
        {
            "type": "reasoning",
            "id": "rs_1",
            "summary": [{"type": "summary_text", "text": "Hm."}],
            "content": [{"type": "reasoning_text", "text": "Hm."}],
            "encrypted_content": "Hm.",
        },
        {
            "type": "message",
            "role": "assistant",
            "status": "completed",
            "content": [
                {"type": "output_text", "text": "a", "annotations": []},
                {"type": "refusal", "refusal": "no"},
            ],
        },
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": '{"x": 1}'},
        {
            "type": "function_call_output",
            "call_id": "c",
            "output": [{"type": "input_text", "text": "1"}],
        },
    ],
    "instructions": "s",
    "max_output_tokens": 3,
    "temperature": 0.5,
    "top_p": 0.5,
    "text": {
        "format": {"type": "json_schema", "name": "n", "schema": SCHEMA, "strict": True},
        "verbosity": "medium",
    },
    "tools": [
        {
            "type": "function",
            "name": "f",
            "description": "d",
            "parameters": SCHEMA,
            "strict": True,
            "allowed_callers": ["direct"],
        }
    ],
    "tool_choice": {
        "type": "allowed_tools",
        "mode": "auto",
        "tools": [{"type": "function", "name": "f"}],
    },
    "parallel_tool_calls": False,
    "reasoning": {"effort": "none", "summary": "auto"},
    "top_logprobs": 2,
    "include": ["message.output_text.logprobs"],
    "truncation": "auto",
    "metadata": {"a": "b"},
    "max_tool_calls": 2,
    "user": "u",
    "safety_identifier": "s",
    "prompt_cache_key": "k",
    "prompt_cache_retention": "24h",
    "prompt_cache_options": {"mode": "implicit", "ttl": "30m"},
    "service_tier": "auto",
    "image": {"context_compression": "auto"},
}
CONVERSATION: Final = {
    "model": "able:latest",
    "system": [{"type": "text", "text": "s", "cache_control": {"type": "ephemeral"}}],
    "messages": [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "Hello"},
                {
                    "type": "image",
                    "source": {"type": "base64", "media_type": "image/png", "data": PICTURE},
                },
            ],
        },
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "Hm.", "signature": "s"},
                {"type": "tool_use", "id": "t", "name": "f", "input": {"x": 1}},
            ],
        },
        {
            "role": "user",
            "content": [
                {
                    "type": "tool_result",
                    "tool_use_id": "t",
                    "content": [{"type": "text", "text": "1"}],
                    "is_error": True,
                }
            ],
        },
    ],
    "tools": [{"type": "custom", "name": "f", "description": "d", "input_schema": SCHEMA}],
    "tool_choice": {"type": "auto", "disable_parallel_tool_use": True},
    "thinking": {"type": "disabled"},
    "output_config": {"effort": "low", "format": {"type": "json_schema", "schema": SCHEMA}},
    "cache_control": {"type": "ephemeral"},
    "options": {"num_ctx": 512},
    "keep_alive": "5m",
}
# A good body for every route: what is thrown at it are bodies not quite like this.
BODIES: Final[dict[str, Any]] = {
    "api/generate": {
        **NATIVE,
        "prompt": "Hello",
        "suffix": "",
        "system": "s",
        "template": "{{ .Prompt }}",
        "context": [1, 2],
        "raw": False,
        "images": [],
    },
    "api/chat": {
        **NATIVE,
        "messages": [{"role": "assistant", "content": "", "tool_calls": [CALL]}, *HELLO],
        "tools": [TOOL],
    },
    "api/embed": {**COMMON, "input": ["a", "b"], "truncate": True, "dimensions": 3},
    "api/embeddings": {**COMMON, "prompt": "a"},
    "api/show": {"model": "able:latest", "verbose": False, "system": "s", "options": {"seed": 1}},
    "api/create": {
        "model": "mine",
        "from": "able:latest",
        "stream": False,
        "system": "s",
        "template": "{{ .Prompt }}",
        "license": ["a", "b"],
        "parameters": {"temperature": 0.5, "stop": ["x"]},
        "messages": [{"role": "user", "content": "x"}],
        "quantize": "",
        "modelfile": 'FROM able\nSYSTEM """\nx"""',
        "info": {"base_name": "x"},
    },
    # "elsewhere.example" is on no list: nobody's request leaves the machine.
    "api/pull": {
        "model": "elsewhere.example/a/b:c",
        "stream": False,
        "insecure": False,
        "username": "u",
        "password": "p",
        "detached": False,
    },
    "api/push": {
        "model": "elsewhere.example/a/b:c",
        "stream": False,
        "insecure": False,
        "username": "u",
        "password": "p",
        "detached": False,
    },
    "api/jobs": {
        "kind": "quantize",
        "model": "smaller",
        "from": "able:latest",
        "quantize": "Q8_0",
        "insecure": False,
        "username": "u",
        "password": "p",
    },
    "api/limit-rules": {
        "subject": "user",
        "name": "bob",
        "unit": "tokens",
        "period": "day",
        "amount": 100_000,
    },
    "api/keys": {
        "name": "laptop",
        "scopes": ["read", "use"],
        "models": ["able*"],
        "networks": ["10.0.0.0/8"],
        "team": "",
        "expires_in": "30d",
        "owner": "",
        "limits": [{"unit": "tokens", "period": "day", "amount": 100_000}],
    },
    "api/keys/<str:prefix>": {"name": "laptop"},
    "api/keys/<str:prefix>/rotate": {"overlap": "1h"},
    "api/access": {
        "model": "mine",
        "visibility": "private",
        "cache_scope": "user",
        "pinned": False,
        "add": [{"to": "bob", "verb": "use"}],
        "remove": [{"to": "bob", "verb": "pull"}],
    },
    "api/me": {"home_team": ""},
    "api/users": {"name": "carol", "is_admin": False, "site_role": "auditor"},
    "api/users/<str:name>": {"is_admin": False, "site_role": "operator", "home_team": ""},
    "api/teams": {"name": "vision", "description": "d", "owner": "alice"},
    "api/teams/<str:name>": {"description": "d", "allowed_models": ["llama*"]},
    "api/teams/<str:name>/members/<str:user>": {"role": "member"},
    "api/teams/<str:name>/service-accounts": {"name": "nightly", "role": "member"},
    "api/invites": {"team": "", "role": "member", "note": "for Carol", "days": 1.5},
    "api/me/delete": {"password": "wrong"},
    "api/copy": {"source": "able:latest", "destination": "mine"},
    "api/delete": {"model": "mine"},
    "v1/chat/completions": {
        "model": "able:latest",
        "messages": [{"role": "user", "content": [{"type": "text", "text": "Hello"}]}],
        "stream": False,
        "stream_options": {"include_usage": True},
        "max_tokens": 3,
        "stop": ["x"],
        "temperature": 1,
        "response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "object"}}},
        "tools": [TOOL],
        "reasoning_effort": "none",
        "logit_bias": {"1": 2},
        "n": 2,
        "logprobs": True,
        "tool_choice": {
            "type": "allowed_tools",
            "allowed_tools": {
                "mode": "required",
                "tools": [{"type": "function", "function": {"name": "f"}}],
            },
        },
        "parallel_tool_calls": False,
        "metadata": {"a": "b"},
        "prediction": {"type": "content", "content": "x"},
        "prompt_cache_options": {"mode": "implicit"},
        "modalities": ["text"],
        "service_tier": "auto",
        "think": False,
    },
    "v1/embeddings": {
        "model": "able:latest",
        "input": ["a", "b"],
        "encoding_format": "base64",
        "dimensions": 3,
    },
    "v1/completions": {
        **OPENAI_COMMON,
        "prompt": ["one", "two"],
        "suffix": "",
        "stream_options": {"include_usage": True, "include_obfuscation": False},
        "max_tokens": 3,
        "seed": 1,
        "stop": ["x"],
        "temperature": 0.5,
        "top_p": 0.5,
        "frequency_penalty": 0.5,
        "presence_penalty": 0.5,
        "logprobs": 2,
        "echo": True,
        "n": 2,
        "best_of": 3,
        "logit_bias": {"1": 2},
        "user": "u",
        "response_format": {"type": "json_object"},
        "raw": False,
        "think": False,
    },
    "v1/responses": {**RESPONSE, "store": True},
    "v1/responses/input_tokens": RESPONSE,
    "v1/messages": {
        **CONVERSATION,
        "max_tokens": 3,
        "stream": False,
        "temperature": 0.5,
        "top_p": 0.5,
        "top_k": 5,
        "stop_sequences": ["x"],
        "metadata": {"user_id": "u"},
        "service_tier": "auto",
    },
    "v1/messages/count_tokens": CONVERSATION,
}
# Other bodies for some of the routes; they may be refused for what they ask.
FURTHER: Final[dict[str, list[dict[str, Any]]]] = {
    "v1/chat/completions": [
        {
            "model": "able:latest",
            "stream": True,
            "messages": [
                {"role": "developer", "content": "s", "name": "n"},
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "Hello"},
                        {"type": "image_url", "image_url": {"url": DATA_URL, "detail": "low"}},
                    ],
                },
                {
                    "role": "assistant",
                    "content": None,
                    "refusal": "no",
                    "reasoning": "Hm.",
                    "tool_calls": [
                        {
                            "id": "call_1",
                            "index": 0,
                            "type": "function",
                            "function": {"name": "f", "arguments": '{"x": 1}'},
                        }
                    ],
                    "function_call": {"name": "f", "arguments": "{}"},
                },
                {"role": "tool", "tool_call_id": "call_1", "content": "1"},
            ],
            "tools": [TOOL],
            "tool_choice": {"type": "function", "function": {"name": "f"}},
            "reasoning": {"effort": "low"},
        },
    ],
    "v1/completions": [
        {"model": "able:latest", "prompt": [[5, 6], [7]], "stream": True, "echo": True},
        {"model": "able:latest", "prompt": "x", "suffix": "y", "stream": True, "n": 2},
        {"model": "able:latest", "prompt": [5, 6], "max_tokens": 0, "echo": True, "logprobs": 1},
    ],
    "v1/responses": [
        {
            "model": "able:latest",
            "stream": True,
            "stream_options": {"include_obfuscation": False},
            "previous_response_id": STORED_ID,
            "include": ["reasoning.encrypted_content", "message.output_text.logprobs"],
            "input": [{"type": "item_reference", "id": STORED_ITEM_ID}],
        },
    ],
    "v1/messages": [
        {
            "model": "able:latest",
            "max_tokens": 2000,
            "stream": True,
            "thinking": {"type": "enabled", "budget_tokens": 1024},
            "output_format": {"type": "json_schema", "schema": SCHEMA},
            "messages": [{"role": "user", "content": "Hello"}],
            "context_management": {"edits": [{"type": "clear_tool_uses_20250919"}]},
        },
    ],
}
