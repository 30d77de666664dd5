"""Refusals about stored files and formats. Knows no dialect; `ollamasite.errors` draws the tree."""

from models_app.errors import ModelNotFound
from ollamasite.errors import BadRequest, Forbidden, NotFound, ServiceError
from registry.go_text import format_literal


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


class StorageFull(ServiceError):
    """The disk has no room for the file."""

    code = "storage_full"
    status = 507
    default_message = "not enough disk space"


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


class InvalidModelfile(BadRequest):
    """The text is not a Modelfile; the message says in which line and why."""

    code = "invalid_modelfile"


class InvalidTemplate(BadRequest):
    """A chat template cannot be read."""

    code = "invalid_template"

    def __init__(self, reason: str) -> None:
        super().__init__(f"template error: {reason}")


class CloudDisabled(Forbidden):
    """The request asks for a model that runs elsewhere; this site has no such models."""

    code = "cloud_disabled"
    default_message = "ollama cloud is disabled: remote models are not available"


class TooManyJobs(ServiceError):
    """The caller has as many long jobs at work and in line as anybody may have."""

    code = "too_many_jobs"
    status = 503
    default_message = "server busy, please try again.  too many of your jobs are waiting"


class QuantizeFailed(ServiceError):
    """Quantizing a model did not work; the message says why."""

    code = "quantize_failed"


class NameIsInvalid(BadRequest):
    """What copy and delete say to a text that is no model name."""

    code = "name_is_invalid"

    def __init__(self, field: str, name: str) -> None:
        super().__init__(f"{field} {format_literal(name)} is invalid")


class CopySourceNotFound(ModelNotFound):
    """What copy says to a source that is not there, or that the caller may not know of."""

    code = "copy_source_not_found"

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.message = f"model {format_literal(name)} not found"


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


class IsAlias(BadRequest):
    """The name is an alias, which those who run the site have made and remove."""

    code = "is_alias"

    def __init__(self, alias: str, target: str) -> None:
        super().__init__(f"'{alias}' is an alias of '{target}': only an administrator removes it")
