"""How an operation is called from a shell, from Python and with `ollama`'s command line.

Pure text in, text out: an operation and the address at which the site is reached become lines to
copy. Knows no template.
"""

import json
from pprint import pformat
from typing import Any, Final

from ollamasite.openapi_shown import OperationShown

_KEY: Final = "$OLLAMASITE_API_KEY"
_WIDTH: Final = 76
_MODEL: Final = "smollm2:135m"

# Methods of the official clients, by operation; what they take are the body's own fields.
_OLLAMA_METHODS: Final = {
    "get_api_tags": "list",
    "get_api_ps": "ps",
    "post_api_show": "show",
    "post_api_create": "create",
    "post_api_pull": "pull",
    "post_api_push": "push",
    "post_api_copy": "copy",
    "delete_api_delete": "delete",
    "post_api_generate": "generate",
    "post_api_chat": "chat",
    "post_api_embed": "embed",
    "post_api_embeddings": "embeddings",
}
_OPENAI_METHODS: Final = {
    "get_v1_models": "models.list",
    "post_v1_chat_completions": "chat.completions.create",
    "post_v1_completions": "completions.create",
    "post_v1_embeddings": "embeddings.create",
    "post_v1_responses": "responses.create",
}
_ANTHROPIC_METHODS: Final = {
    "post_v1_messages": "messages.create",
    "post_v1_messages_count_tokens": "messages.count_tokens",
}
_COMMANDS: Final = {
    "get_api_tags": "ollama list",
    "get_api_ps": "ollama ps",
    "post_api_show": f"ollama show {_MODEL}",
    "post_api_create": "ollama create mario -f Modelfile",
    "post_api_pull": f"ollama pull {_MODEL}",
    "post_api_push": f"ollama push hub.lab/my/{_MODEL}",
    "post_api_copy": f"ollama cp {_MODEL} backup",
    "delete_api_delete": "ollama rm backup",
    "post_api_generate": f'ollama run {_MODEL} "Hello"',
    "post_api_chat": f"ollama run {_MODEL}",
}


def curl(operation: OperationShown, base_url: str) -> str:
    """Return the command that sends an example."""
    method = {"GET": "", "POST": "" if operation.example is not None else " -X POST"}
    flags = method.get(operation.method, f" -X {operation.method}")
    flags = " -I" if operation.method == "HEAD" else flags
    lines = [
        f"curl{flags} {_quoted(_url(operation, base_url))}",
        f'-H "Authorization: Bearer {_KEY}"',
    ]
    if operation.takes_bytes:
        lines.append("--data-binary @file.gguf")
    if operation.example is not None:
        lines += ["-H 'Content-Type: application/json'", f"-d {_quoted(operation.example_text)}"]
    return " \\\n  ".join(lines)


def python(operation: OperationShown, base_url: str) -> str:
    """Return a program that does the same with the client that most people have for it."""
    body = operation.example or {}
    if name := _OLLAMA_METHODS.get(operation.id):
        return _client_program("ollama", "Client", name, body, f'host="{base_url}"')
    if name := _OPENAI_METHODS.get(operation.id):
        return _client_program("openai", "OpenAI", name, body, f'base_url="{base_url}/v1"')
    if name := _ANTHROPIC_METHODS.get(operation.id):
        return _client_program("anthropic", "Anthropic", name, body, f'base_url="{base_url}"')
    return _plain_program(operation, base_url)


def python_package(operation: OperationShown) -> str:
    """Return what the program needs, empty where Python has it all."""
    methods = {
        "ollama": _OLLAMA_METHODS,
        "openai": _OPENAI_METHODS,
        "anthropic": _ANTHROPIC_METHODS,
    }
    return next((package for package, known in methods.items() if operation.id in known), "")


def command_line(operation: OperationShown, base_url: str) -> str:
    """Return the command of `ollama` that asks for the same, empty where it has none."""
    command = _COMMANDS.get(operation.id)
    return f"export OLLAMA_HOST={base_url}\n{command}" if command else ""


def _url(operation: OperationShown, base_url: str) -> str:
    path = operation.path
    for parameter in operation.path_parameters:
        path = path.replace(f"{{{parameter.name}}}", parameter.name.upper())
    return f"{base_url}{path}"


def _quoted(text: str) -> str:
    """Return text for a shell; addresses that need no quotes have none."""
    if text.startswith("http") and not set(text) & set(" '\"&;()$`\\*?<>|"):
        return text
    return "'" + text.replace("'", "'\\''") + "'"


def _client_program(
    package: str, client: str, method: str, body: dict[str, Any], place: str
) -> str:
    credential = 'headers={"Authorization": f"Bearer {key}"}' if package == "ollama" else ""
    named = all(name.isidentifier() and name != "from" for name in body)
    fields = (
        [f"    {name}={pformat(value, width=_WIDTH)}," for name, value in body.items()]
        if named
        else [_indented(f"**{pformat(body, width=_WIDTH, sort_dicts=False)},")]
    )
    return "\n".join(
        [
            "import os",
            "",
            f"from {package} import {client}",
            "",
            'key = os.environ["OLLAMASITE_API_KEY"]',
            f"client = {client}({place}, {credential or 'api_key=key'})",
            *([f"answer = client.{method}(", *fields, ")"] if body else []),
            *([] if body else [f"answer = client.{method}()"]),
            "print(answer)",
            "",
        ]
    )


def _plain_program(operation: OperationShown, base_url: str) -> str:
    sent = []
    if operation.takes_bytes:
        sent = ['    data=open("file.gguf", "rb"),']
    if operation.example is not None:
        written = pformat(operation.example, width=_WIDTH - 8, sort_dicts=False)
        sent = [_indented(f"data=json.dumps({written}).encode(),")]
    is_json = operation.example is not None or bool(operation.reply)
    answer = "json.load(answer)" if operation.reply and not operation.stream else "answer.read()"
    if not operation.reply and not operation.stream:
        answer = "answer.status"
    return "\n".join(
        [
            *(["import json"] if is_json else []),
            "import os",
            "import urllib.request",
            "",
            "request = urllib.request.Request(",
            f"    {json.dumps(_url(operation, base_url))},",
            f'    method="{operation.method}",',
            *sent,
            '    headers={"Authorization": "Bearer " + os.environ["OLLAMASITE_API_KEY"]},',
            ")",
            "with urllib.request.urlopen(request) as answer:",
            f"    print({answer})",
            "",
        ]
    )


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.splitlines())
