"""What a manifest from outside must be before anything of it is used."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from models_app.services import NewManifest
from registry import manifests
from registry.admission import admit
from registry.blobs import BlobStore
from registry.digest import Digest
from registry.errors import GgufError, InvalidDigest, InvalidManifest, InvalidTemplate
from registry.errors import ManifestBlobUnknown as BlobUnknown
from registry.gguf import read_gguf
from tests.registry.gguf_mutations import mutate
from tests.registry.spoilt_files import readable_copies
from tests.vision_files import write_projector

OCI = manifests.OCI_MANIFEST_TYPE
INDEX = manifests.OCI_INDEX_TYPE
EMPTY = "application/vnd.oci.empty.v1+json"
Admit = Callable[..., NewManifest]


@pytest.fixture
def size_of(store: BlobStore) -> Callable[[Digest], int | None]:
    """Every file of the store is in the repository."""
    return lambda digest: store.size_bytes(digest) if store.exists(digest) else None


@pytest.fixture
def put(store: BlobStore) -> Callable[..., dict[str, Any]]:
    """Store some bytes, or a file, and return its descriptor."""

    def put_it(data: bytes | Path, media_type: str, **changes: Any) -> dict[str, Any]:
        stored = store.import_file(data) if isinstance(data, Path) else store.write_bytes(data)
        found = {
            "mediaType": media_type,
            "digest": str(stored.digest),
            "size": stored.size_bytes,
        }
        return {**found, **changes}

    return put_it


@pytest.fixture
def weights(put: Any, tiny_gguf: Path) -> dict[str, Any]:
    return dict(put(tiny_gguf, manifests.MODEL))


@pytest.fixture
def admit_layers(put: Any, size_of: Any) -> Admit:
    """Admit a manifest of these layers."""

    def admit_them(
        *layers: dict[str, Any], config_text: bytes = b"{}", **fields: Any
    ) -> NewManifest:
        must_be_model = fields.pop("must_be_model", False)
        body = {
            "schemaVersion": 2,
            "mediaType": manifests.MANIFEST_TYPE,
            "config": put(config_text, manifests.CONFIG_TYPE),
            "layers": list(layers),
            **fields,
        }
        return admit_json(body, size_of, must_be_model=must_be_model)

    return admit_them


def admit_json(
    body: Any, size_of: Any, media_type: str = "", *, must_be_model: bool = False
) -> NewManifest:
    return admit(
        json.dumps(body).encode(),
        media_type=media_type,
        size_of=size_of,
        must_be_model=must_be_model,
    )


# ------------------------------------------------------------------ models


def test_model_is_described_by_its_weights(admit_layers: Admit, weights: dict[str, Any]) -> None:
    admitted = admit_layers(weights, config_text=b'{"model_family":"lies","model_type":"1000B"}')
    assert admitted.is_model
    assert (admitted.config["model_family"], admitted.config["context_length"]) == ("llama", 512)
    assert admitted.config["model_type"] != "1000B"
    assert [layer.media_type for layer in admitted.layers] == [
        manifests.CONFIG_TYPE,
        manifests.MODEL,
    ]
    assert admitted.layers[1].gguf is not None


def test_renderer_and_parser_of_the_config_are_kept(
    admit_layers: Admit, weights: dict[str, Any]
) -> None:
    admitted = admit_layers(
        weights, config_text=b'{"renderer":"qwen3-coder","parser":"qwen3-coder"}'
    )
    assert (admitted.config["renderer"], admitted.config["parser"]) == ("qwen3-coder",) * 2
    assert "tools" in admitted.config["capabilities"]


def test_digest_is_that_of_the_bytes_as_they_came(
    put: Any, size_of: Any, weights: dict[str, Any]
) -> None:
    body = json.dumps(
        {
            "schemaVersion": 2,
            "config": put(b"{}", manifests.CONFIG_TYPE),
            "layers": [weights],
            "unknown": "kept",
        },
        indent=3,
    ).encode()
    admitted = admit(body, media_type=manifests.MANIFEST_TYPE, size_of=size_of)
    assert (admitted.body, admitted.digest) == (body, Digest.of(body).hex)


def test_template_that_cannot_be_read_is_refused(
    admit_layers: Admit, put: Any, weights: dict[str, Any]
) -> None:
    with pytest.raises(InvalidTemplate):
        admit_layers(weights, put(b"{{ if }}", manifests.TEMPLATE))


@pytest.mark.parametrize(
    ("media_type", "text"),
    [
        (manifests.PARAMS, b"[1]"),
        (manifests.PARAMS, b"{"),
        (manifests.MESSAGES, b'{"role":"user"}'),
        (manifests.MESSAGES, b"[" * 100_000),
    ],
)
def test_texts_that_cannot_be_parsed_are_refused(
    admit_layers: Admit, put: Any, weights: dict[str, Any], media_type: str, text: bytes
) -> None:
    with pytest.raises(InvalidManifest, match=r"invalid .* layer"):
        admit_layers(weights, put(text, media_type))


@pytest.mark.parametrize(
    "config", [b"[]", b"{", b'{"parser":3}', b'{"renderer":"a\\nb"}', b"\xff", b"[" * 100_000]
)
def test_config_that_makes_no_sense_is_refused(
    admit_layers: Admit, weights: dict[str, Any], config: bytes
) -> None:
    with pytest.raises(InvalidManifest, match="config"):
        admit_layers(weights, config_text=config)


def test_texts_are_not_read_where_they_are_too_large(
    admit_layers: Admit, put: Any, weights: dict[str, Any]
) -> None:
    with pytest.raises(InvalidManifest, match="8388608 bytes at most"):
        admit_layers(weights, put(b"a" * (4 * 1024 * 1024 + 1), manifests.SYSTEM))


def test_file_that_is_no_gguf_is_refused_with_its_digest(admit_layers: Admit, put: Any) -> None:
    layer = put(b"no weights", manifests.MODEL)
    with pytest.raises(GgufError, match=f"{layer['digest']}: supplied file was not in GGUF format"):
        admit_layers(layer)


def test_projector_is_not_taken_for_weights(admit_layers: Admit, put: Any, tmp_path: Path) -> None:
    layer = put(write_projector(tmp_path / "p.gguf"), manifests.MODEL)
    with pytest.raises(GgufError, match="is not what its media type says"):
        admit_layers(layer)


def test_projector_beside_weights_makes_a_model_see(
    admit_layers: Admit, put: Any, weights: dict[str, Any], tmp_path: Path
) -> None:
    projector = put(write_projector(tmp_path / "p.gguf"), manifests.PROJECTOR)
    assert "vision" in admit_layers(weights, projector).config["capabilities"]


def test_model_of_single_tensors_is_refused_where_one_is_to_run(
    admit_layers: Admit, put: Any
) -> None:
    layer = put(b"tensor", manifests.TENSOR, name="a.weight")
    assert not admit_layers(layer).is_model
    with pytest.raises(InvalidManifest, match="single tensors"):
        admit_layers(layer, must_be_model=True)


@pytest.mark.slow
@pytest.mark.beside
def test_spoilt_weights_are_admitted_or_refused_in_words(
    admit_layers: Admit, put: Any, tiny_gguf: Path, tmp_path: Path
) -> None:
    """Each gets an answer, from a process that may die in our place.

    Of the corpus, all that the reader lets on, and of the others, which tests of the reader go
    through, a sample: each file costs a process.
    """
    data = tiny_gguf.read_bytes()
    head_bytes = read_gguf(tiny_gguf).data_offset
    readable = list(readable_copies(data, tmp_path / "spoilt", head_bytes=head_bytes))
    sample = [mutate(data, seed, head_bytes=head_bytes) for seed in range(0, 240, 6)]

    def refusal_of(weights: bytes) -> str:
        layer = put(weights, manifests.MODEL)
        try:
            assert admit_layers(layer).layers[1].gguf
        except (GgufError, InvalidTemplate) as error:
            assert error.status == 400  # noqa: PT017
            return error.message
        return ""

    with ThreadPoolExecutor(2) as threads:
        refusals = [words for words in threads.map(refusal_of, readable + sample) if words]
    assert 20 < len(refusals) < len(readable) + len(sample) - 20
    assert not [words for words in refusals if "cannot be read" in words], "a process has died"


# ------------------------------------------------------------------ the form


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"schemaVersion": 1}, "schemaVersion"),
        ({"schemaVersion": "2"}, "schema"),
        ({"mediaType": "text/plain"}, "media type 'text/plain' is not supported"),
        ({"mediaType": INDEX}, "an index has no config"),
        ({"manifests": []}, "only an index has manifests"),
        ({"config": None}, "no config"),
        ({"layers": {}}, "layers"),
        ({"layers": [{"mediaType": "a", "digest": "sha256:" + "a" * 64}]}, "size"),
        ({"artifactType": "a" * 256}, "artifactType"),
        ({"artifactType": "a\0"}, "artifactType"),
    ],
)
def test_manifest_of_another_form_is_refused(
    admit_layers: Admit, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(InvalidManifest, match=words):
        admit_layers(**changes)


@pytest.mark.parametrize("body", [b"", b"null", b"[]", b"{", b"\xff\xfe", b"[" * 200_000])
def test_body_that_is_no_json_object_is_refused(size_of: Any, body: bytes) -> None:
    with pytest.raises(InvalidManifest):
        admit(body, media_type=OCI, size_of=size_of)


def test_manifest_of_more_than_4_mib_is_refused(size_of: Any) -> None:
    with pytest.raises(InvalidManifest, match="4194304 bytes at most"):
        admit(b" " * (4 * 1024 * 1024 + 1), media_type=OCI, size_of=size_of)


def test_sender_and_manifest_must_agree_on_its_type(put: Any, size_of: Any) -> None:
    body = {"schemaVersion": 2, "mediaType": OCI, "config": put(b"{}", EMPTY), "layers": []}
    assert admit_json(body, size_of, f"{OCI}; charset=utf-8").media_type == OCI
    with pytest.raises(InvalidManifest, match="and not"):
        admit_json(body, size_of, manifests.MANIFEST_TYPE)


BAD_DIGESTS = (
    "../../../etc/passwd",
    "sha256:../../../../etc/passwd",
    "sha256:" + "A" * 64,
    "sha256:" + "a" * 63,
    "sha256:" + "a" * 65,
    "sha256:" + "a" * 10_000,
    "sha256:" + "a" * 63 + "\0",
    "sha256:" + "a" * 64 + "\n",
    "sha512:" + "a" * 128,
    "sha256-",
    "",
    "/" + "a" * 71,
)


@pytest.mark.parametrize("digest", BAD_DIGESTS)
@pytest.mark.parametrize("place", ["config", "layers", "subject"])
def test_bad_digest_is_refused_before_any_file_is_looked_at(
    put: Any, store: BlobStore, place: str, digest: str
) -> None:
    asked: list[Digest] = []
    bad = {"mediaType": EMPTY, "digest": digest, "size": 2}
    body: dict[str, Any] = {"schemaVersion": 2, "mediaType": OCI, "config": bad, "layers": []}
    if place != "config":
        body["config"] = put(b"{}", EMPTY)
        body[place] = [bad] if place == "layers" else bad

    def size_of(asked_for: Digest) -> int | None:
        asked.append(asked_for)
        return store.size_bytes(asked_for)

    with pytest.raises(InvalidDigest):
        admit_json(body, size_of)
    assert all(store.path(it).parent == store.root for it in asked)


@pytest.mark.parametrize("size", [-1, 2**63, 3])
def test_size_must_be_that_of_the_file(put: Any, size_of: Any, size: int) -> None:
    body = {"schemaVersion": 2, "mediaType": OCI, "config": put(b"{}", EMPTY, size=size)}
    with pytest.raises(InvalidManifest, match=r"size|bytes"):
        admit_json(body, size_of)


def test_file_that_the_repository_lacks_is_named(size_of: Any) -> None:
    digest = str(Digest.of(b"missing"))
    body = {
        "schemaVersion": 2,
        "mediaType": OCI,
        "config": {"mediaType": EMPTY, "digest": digest, "size": 7},
    }
    with pytest.raises(BlobUnknown, match=digest):
        admit_json(body, size_of)


def test_layer_that_may_not_be_given_away_need_not_be_there(put: Any, size_of: Any) -> None:
    layer = {
        "mediaType": "application/vnd.oci.image.layer.nondistributable.v1.tar",
        "digest": str(Digest.of(b"elsewhere")),
        "size": 9,
    }
    body = {"schemaVersion": 2, "mediaType": OCI, "config": put(b"{}", EMPTY), "layers": [layer]}
    assert len(admit_json(body, size_of).layers) == 1


def test_too_many_layers_are_refused(admit_layers: Admit, weights: dict[str, Any]) -> None:
    with pytest.raises(InvalidManifest, match="256 layers at most"):
        admit_layers(*[weights] * 257)
    with pytest.raises(InvalidManifest, match="1024 layers at most"):
        admit_layers(*[weights] * 1025)


# ------------------------------------------------------------------ artifacts and indexes


def test_artifact_is_kept_and_is_no_model(put: Any, size_of: Any) -> None:
    subject = {"mediaType": OCI, "digest": str(Digest.of(b"subject")), "size": 7}
    body = {
        "schemaVersion": 2,
        "mediaType": OCI,
        "artifactType": "application/x.sbom",
        "config": put(b"{}", EMPTY),
        "layers": [],
        "subject": subject,
    }
    admitted = admit_json(body, size_of)
    assert not admitted.is_model
    assert admitted.artifact_type == "application/x.sbom"
    assert admitted.subject == Digest.of(b"subject").hex


def test_type_of_an_artifact_is_that_of_its_config_where_it_names_none(
    put: Any, size_of: Any
) -> None:
    body = {"schemaVersion": 2, "mediaType": OCI, "config": put(b"{}", "application/x.config")}
    assert admit_json(body, size_of).artifact_type == "application/x.config"


def test_index_names_its_children(size_of: Any) -> None:
    children = [
        {"mediaType": OCI, "digest": str(Digest.of(name)), "size": 1} for name in (b"1", b"2")
    ]
    admitted = admit_json({"schemaVersion": 2, "manifests": children}, size_of, INDEX)
    assert (admitted.is_model, admitted.media_type) == (False, INDEX)
    assert admitted.children == [Digest.of(b"1").hex, Digest.of(b"2").hex]
