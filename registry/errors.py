"""Refusals about stored files and formats. Knows no dialect; `ollamasite.errors` draws the tree."""

from models_app.errors import ModelNotFound
from models_app.errors import NotYourModel as NotYourModel
from models_app.errors import TagIsImmutable as TagIsImmutable
from ollamasite.errors import BadRequest, Forbidden, MethodNotAllowed, NotFound, ServiceError
from ollamasite.sizes import print_size
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


class ServedElsewhere(BadRequest):
    """What needs a model's files was asked of one that an engine elsewhere serves."""

    code = "served_elsewhere"

    def __init__(self, name: str) -> None:
        super().__init__(f"the model '{name}' is served by another engine: it has no files here")


class UnqualifiedName(BadRequest):
    """What push says to a text that is no model name."""

    code = "unqualified_name"

    def __init__(self, name: str) -> None:
        super().__init__(f"unqualified name: {name}")


class ModelRequired(BadRequest):
    """The request names no model."""

    code = "model_required"
    default_message = "model is required"


class StarterModelError(ServiceError):
    """The package that carries the starter model is not installed."""

    code = "starter_model_missing"


class IsAlias(BadRequest):
    """The name is an alias, which those who run the site have made and remove."""

    code = "is_alias"

    def __init__(self, alias: str, target: str) -> None:
        super().__init__(f"'{alias}' is an alias of '{target}': only an administrator removes it")


class QuotaFull(ServiceError):
    """The namespace may not hold so much."""

    code = "quota_full"
    status = 413

    def __init__(self, namespace: str, quota_bytes: int) -> None:
        super().__init__(f"the namespace '{namespace}' may hold {print_size(quota_bytes)} at most")


class JobNotFound(NotFound):
    """There is no such job, or it is somebody else's: the same answer for both."""

    code = "job_not_found"

    def __init__(self, job_id: str) -> None:
        super().__init__(f"job '{job_id}' not found")


class JobCancelled(ServiceError):
    """Somebody has cancelled the job."""

    code = "job_cancelled"
    status = 499
    default_message = "the job was cancelled"


class RegistryNotAllowed(Forbidden):
    """This site neither pulls from that registry nor pushes to it."""

    code = "registry_not_allowed"

    def __init__(self, host: str) -> None:
        super().__init__(
            f"the registry '{host}' is not allowed here: an administrator can add it to "
            "OLLAMASITE_ALLOWED_REGISTRIES"
        )


class RegistryFailed(ServiceError):
    """Another registry refused, or answered what makes no sense; the message says which."""

    code = "registry_failed"
    status = 500


class ManifestBlobUnknown(BadRequest):
    """A manifest names a file that its repository does not have."""

    code = "manifest_blob_unknown"

    def __init__(self, digest: str) -> None:
        self.digest = digest
        super().__init__(f"blob unknown to registry: {digest}")
        self.detail = digest


class UploadUnknown(NotFound):
    """There is no such upload in this repository, or it is somebody else's."""

    code = "upload_unknown"
    default_message = "blob upload unknown to registry"


class UploadBusy(ServiceError):
    """Another request is sending bytes of the same upload."""

    code = "upload_busy"
    status = 409

    def __init__(self) -> None:
        super().__init__(
            "another request is sending this upload: try again when it has ended",
            headers={"Retry-After": "2"},
        )


class UploadOutOfOrder(ServiceError):
    """What is sent does not go on where the upload is. `received`: how many bytes are there."""

    code = "upload_out_of_order"
    status = 416

    def __init__(self, session_id: str, received: int) -> None:
        self.session_id = session_id
        self.received = received
        super().__init__(f"the upload has {received} bytes: what is sent does not go on from there")


class TooManyUploads(ServiceError):
    """The user has begun more uploads than one may have at once."""

    code = "too_many_uploads"
    status = 429

    def __init__(self, most: int) -> None:
        super().__init__(
            f"you may have {most} uploads at once: end or cancel one of them",
            headers={"Retry-After": "60"},
        )


class RangeNotSatisfiable(ServiceError):
    """The file has no such bytes."""

    code = "range_not_satisfiable"
    status = 416

    def __init__(self, size_bytes: int) -> None:
        super().__init__(
            f"the file has {size_bytes} bytes: the range is not in it",
            headers={"Content-Range": f"bytes */{size_bytes}"},
        )


class ManifestUnknown(NotFound):
    """The repository has no such manifest."""

    code = "manifest_unknown"

    def __init__(self, reference: str, *, is_digest: bool) -> None:
        super().__init__("manifest unknown")
        self.detail = {"Digest" if is_digest else "Tag": reference}


class InvalidTag(BadRequest):
    """The text is no tag."""

    code = "invalid_tag"

    def __init__(self, tag: str) -> None:
        super().__init__(f"invalid tag: {tag!r} is not 1 to 80 letters, digits, '_', '.' and '-'")


class BlobInUse(MethodNotAllowed):
    """A manifest of the repository needs the file, so it is not removed."""

    code = "blob_in_use"

    def __init__(self, digest: str) -> None:
        super().__init__(
            f"the repository has a manifest that needs {digest}: delete that first",
            headers={"Allow": "GET, HEAD"},
        )


class StoreDamaged(ServiceError):
    """Files of the store are damaged or missing."""

    code = "store_damaged"

    def __init__(self, count: int, first: str) -> None:
        super().__init__(f"files that are damaged or missing: {count}; the first is {first}")
