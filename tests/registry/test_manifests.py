"""Manifests and layers: written as Go does, read with suspicion (contract/registry.md 1.3)."""

from typing import Any

import msgspec
import pytest

from ollamasite.errors import ServiceError
from registry import manifests
from registry.manifests import Config, LayerRef, Manifest

HEX = "0123456789abcdef" * 4
CONFIG = LayerRef(mediaType=manifests.CONFIG_TYPE, digest=f"sha256:{HEX}", size=5)


def layer(**changes: Any) -> LayerRef:
    values = {"mediaType": manifests.MODEL, "digest": f"sha256:{HEX}", "size": 7}
    return LayerRef(**{**values, **changes})


def test_manifest_is_compact_json_in_gos_order_with_a_newline() -> None:
    manifest = Manifest(config=CONFIG, layers=(layer(),))
    assert manifests.print_manifest(manifest) == (
        b'{"schemaVersion":2,'
        b'"mediaType":"application/vnd.docker.distribution.manifest.v2+json",'
        b'"config":{"mediaType":"application/vnd.docker.container.image.v1+json",'
        b'"digest":"sha256:' + HEX.encode() + b'","size":5},'
        b'"layers":[{"mediaType":"application/vnd.ollama.image.model",'
        b'"digest":"sha256:' + HEX.encode() + b'","size":7}]}\n'
    )


def test_source_of_a_layer_is_called_from_on_the_wire() -> None:
    manifest = Manifest(config=CONFIG, layers=(layer(source="base:latest"),))
    assert b'"size":7,"from":"base:latest"}' in manifests.print_manifest(manifest)


def test_printed_manifest_is_read_back() -> None:
    manifest = Manifest(config=CONFIG, layers=(layer(source="b:latest"), layer(name="x.json")))
    assert manifests.parse_manifest(manifests.print_manifest(manifest)) == manifest


def test_size_counts_every_layer_and_the_config() -> None:
    assert Manifest(config=CONFIG, layers=(layer(), layer())).size_bytes == 19


def test_unknown_fields_of_a_manifest_are_ignored() -> None:
    body = manifests.print_manifest(Manifest(config=CONFIG, layers=()))
    assert manifests.parse_manifest(body.replace(b"{", b'{"annotations":{},', 1)).layers == ()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b'{"layers":[]}',
        b"{" * 5000,
        b"\xff\xfe",
        msgspec.json.encode({"config": {"digest": 3}, "layers": []}),
        msgspec.json.encode(Manifest(config=CONFIG, layers=(layer(size=-1),))),
        msgspec.json.encode(Manifest(config=CONFIG, layers=(layer(digest="sha256:zz"),))),
        msgspec.json.encode(Manifest(config=CONFIG, layers=(layer(digest="sha256:../../x"),))),
    ],
)
def test_bad_manifest_is_refused(body: bytes) -> None:
    with pytest.raises(ServiceError) as refusal:
        manifests.parse_manifest(body)
    assert refusal.value.status == 400


def test_config_leaves_out_what_is_unknown() -> None:
    config = Config(
        model_format="gguf",
        model_family="llama",
        model_families=("llama",),
        model_type="7B",
        file_type="Q4_0",
        architecture="amd64",
        os="linux",
    )
    assert manifests.print_config(config) == (
        b'{"model_format":"gguf","model_family":"llama","model_families":["llama"],'
        b'"model_type":"7B","file_type":"Q4_0","architecture":"amd64","os":"linux"}\n'
    )


def test_parameters_are_sorted_and_escaped_as_go_does() -> None:
    body = manifests.print_parameters({"stop": ["<|im_end|>"], "num_ctx": 2048})
    assert body == b'{"num_ctx":2048,"stop":["\\u003c|im_end|\\u003e"]}\n'


def test_parameters_are_read_back() -> None:
    parameters = {"num_ctx": 2048, "stop": ["<|im_end|>"], "temperature": 0.5}
    assert manifests.parse_parameters(manifests.print_parameters(parameters)) == parameters


def test_messages_are_read_back() -> None:
    messages = (("user", "hi"), ("assistant", "<b>hello</b>"))
    assert manifests.parse_messages(manifests.print_messages(messages)) == messages


@pytest.mark.parametrize("body", [b"", b"[]", b"3", b'{"a":'])
def test_bad_parameters_are_refused(body: bytes) -> None:
    with pytest.raises(ServiceError, match="invalid parameters layer"):
        manifests.parse_parameters(body)


@pytest.mark.parametrize("body", [b"", b"{}", b'[{"content":"x"}]', b"[1]"])
def test_bad_messages_are_refused(body: bytes) -> None:
    with pytest.raises(ServiceError, match="invalid messages layer"):
        manifests.parse_messages(body)
