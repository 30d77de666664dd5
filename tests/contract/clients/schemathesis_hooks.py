"""What schemathesis is told about the site: which model there is to ask.

Loaded by schemathesis in the clients' own environment. Without it every generated request would end
at a model that does not exist. Knows no endpoint but by its path.
"""

import os

import schemathesis

MODEL = os.environ["FUZZED_MODEL"]
# These would take the only model away, or make another of that name.
_SPARED = ("/api/delete", "/api/copy", "/api/create", "/v1/models/{name}")


@schemathesis.hook
def before_call(context, case, kwargs):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN201 - untyped there
    """Put the model that is there into a body, so that most requests are answered."""
    body = case.body
    if case.operation.path not in _SPARED and isinstance(body, dict) and body.get("model"):
        case.body = {**body, "model": MODEL}
