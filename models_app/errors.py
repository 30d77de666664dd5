"""Refusals about names and access. Knows no dialect; `ollamasite.errors` draws the tree."""

from ollamasite.errors import BadRequest, NotFound


class InvalidModelName(BadRequest):
    """The text is not a model name (contract 4.7)."""

    code = "invalid_model_name"
    default_message = "invalid model name"


class ModelNotFound(NotFound):
    """There is no such model, or the caller may not know of it: the same answer for both."""

    code = "model_not_found"

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(f"model '{name}' not found")
