"""Refusals about stored files and formats. Knows no dialect; `ollamasite.errors` draws the tree."""

from ollamasite.errors import BadRequest, Forbidden, NotFound, ServiceError


class InvalidDigest(BadRequest):
    """The text is not `sha256:` or `sha256-` and 64 lower-case hex digits."""

    code = "invalid_digest"
    default_message = "invalid digest format"


class DigestMismatch(BadRequest):
    """The bytes are not those that the digest promised."""

    code = "digest_mismatch"

    def __init__(self, expected: str, actual: str) -> None:
        super().__init__(f'digest mismatch, expected "{expected}", got "{actual}"')


class BlobNotFound(NotFound):
    """The store has no such file."""

    code = "blob_not_found"

    def __init__(self, digest: str) -> None:
        super().__init__(f"blob {digest} not found")


class GgufError(BadRequest):
    """The file is not a GGUF model that can be used; the message says why."""

    code = "invalid_gguf"
    default_message = "supplied file was not in GGUF format"


class InvalidManifest(BadRequest):
    """A manifest, or one of its JSON layers, is not what it should be."""

    code = "invalid_manifest"
    default_message = "invalid manifest"


class InvalidCreate(BadRequest):
    """A model cannot be created from what was given."""

    code = "invalid_create"


class ModelRequired(BadRequest):
    """The request names no model."""

    code = "model_required"
    default_message = "model is required"


class NotYourModel(Forbidden):
    """The caller may see the model, or name its namespace, and not change it."""

    code = "not_your_model"


class StarterModelError(ServiceError):
    """The package that carries the starter model is not installed."""

    code = "starter_model_missing"
