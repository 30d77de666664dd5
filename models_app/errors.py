"""Refusals about names and access. Knows no dialect; `ollamasite.errors` draws the tree."""

import json

from ollamasite.errors import BadRequest, NotFound


class InvalidModelName(BadRequest):
    """The text is not a model name (contract 4.7)."""

    code = "invalid_model_name"
    default_message = "invalid model name"


class ConflictingSuffixes(InvalidModelName):
    """The name asks for two sources at once (contract 2.3)."""

    code = "conflicting_suffixes"

    def __init__(self, name: str) -> None:
        super().__init__(
            f"use either :local or :cloud, not both: {json.dumps(name, ensure_ascii=False)}"
        )


class ModelNotFound(NotFound):
    """There is no such model, or the caller may not know of it: the same answer for both."""

    code = "model_not_found"

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(f"model '{name}' not found")
