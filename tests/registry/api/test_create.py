"""`POST /api/create`: both generations, streamed and not (contract 2.5, 4.4, 4.5, 8.1, 8.3)."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import sync_to_async

from models_app import principal_cache, services
from models_app.models import ApiKey, LanguageModel, Tag, User
from models_app.permissions import Verb
from registry import library
from registry.blobs import BlobStore
from registry.digest import Digest
from registry.jobs import submit
from registry.library import ResolvedModel
from tests.conftest import KeyClient, MakeModel, principal_for

pytestmark = pytest.mark.django_db(transaction=True)

ClientFor = Callable[[User], KeyClient]
NEITHER = "neither 'from' or 'files' was specified"


@pytest.fixture
def client(client_for: ClientFor, alice: User) -> KeyClient:
    return client_for(alice)


@pytest.fixture
def uploaded(store: BlobStore, tiny_gguf: Path, alice: User) -> Digest:
    """A model file that Alice has uploaded."""
    blob = store.import_file(tiny_gguf)
    services.record_upload(alice.pk, blob.digest.hex, blob.size_bytes)
    return blob.digest


@pytest.fixture
def base(make_model: MakeModel) -> str:
    """A library model with a layer of every kind."""
    return make_model(
        "base",
        template="{{ .Prompt }}",
        system="Be kind.",
        parameters={"num_ctx": 256, "stop": ["a", "b"]},
        license=("MIT",),
        messages=(("user", "hi"),),
    )


async def post(client: KeyClient, body: Any) -> Any:
    data = body if isinstance(body, str | bytes) else json.dumps(body)
    return await client.post("/api/create", data=data, content_type="application/json")


async def create(client: KeyClient, **body: Any) -> Any:
    """Send a request that is not streamed for a model `mine`."""
    return await post(client, {"model": "mine", "stream": False, **body})


async def created(client: KeyClient, alice: User, **body: Any) -> ResolvedModel:
    response = await create(client, **body)
    assert (response.status_code, response.content) == (200, b'{"status":"success"}')
    return await sync_to_async(library.resolve)(principal_for(alice), "mine", Verb.READ)


async def streamed(response: Any) -> list[dict[str, Any]]:
    body = b"".join([chunk async for chunk in response.streaming_content])
    return [json.loads(line) for line in body.splitlines()]


# ------------------------------------------------------------------ the answer


async def test_model_from_a_model_is_streamed_line_by_line(client: KeyClient, base: str) -> None:
    response = await post(client, {"model": "mine", "from": base, "system": "Be terse."})
    assert (response.status_code, response["Content-Type"]) == (200, "application/x-ndjson")
    statuses = [line["status"] for line in await streamed(response)]
    assert [" ".join(status.split()[:3]) for status in statuses] == [
        *["using existing layer"] * 5,
        "creating new layer",
        "writing manifest",
        "success",
    ]
    assert statuses[5].endswith(str(Digest.of(b"Be terse.")))


async def test_model_from_a_file_is_streamed_line_by_line(
    client: KeyClient, uploaded: Digest
) -> None:
    response = await post(client, {"model": "mine", "files": {"x.gguf": str(uploaded)}})
    assert [line["status"] for line in await streamed(response)] == [
        "parsing GGUF",
        "verifying conversion",
        f"creating new layer {uploaded}",
        "writing manifest",
        "success",
    ]


async def test_answer_that_is_not_streamed_is_the_last_line(client: KeyClient, base: str) -> None:
    response = await create(client, **{"from": base})
    assert response["Content-Type"] == "application/json"
    assert response.content == b'{"status":"success"}'


async def test_null_stream_means_streamed(client: KeyClient, base: str) -> None:
    response = await post(client, {"model": "mine", "from": base, "stream": None})
    assert (await streamed(response))[-1] == {"status": "success"}


@pytest.mark.parametrize("stream", [True, False])
async def test_early_error_has_its_status(client: KeyClient, stream: bool) -> None:
    response = await post(client, {"model": "mine", "stream": stream})
    assert (response.status_code, response.json()) == (400, {"error": NEITHER})
    assert response["Content-Type"] == "application/json"


async def test_error_after_the_first_line_is_the_last_one(
    client: KeyClient, store: BlobStore, alice: User
) -> None:
    blob = await sync_to_async(store.write_bytes)(b"GGUF and nothing more")
    await sync_to_async(services.record_upload)(alice.pk, blob.digest.hex, blob.size_bytes)
    response = await post(client, {"model": "mine", "files": {"x.gguf": str(blob.digest)}})
    assert response.status_code == 200
    lines = await streamed(response)
    assert lines[0] == {"status": "parsing GGUF"}
    assert list(lines[-1]) == ["error"]
    assert not await Tag.objects.aexists()


# ------------------------------------------------------------------ today's fields


async def test_every_field_reaches_the_model(
    client: KeyClient, alice: User, uploaded: Digest
) -> None:
    model = await created(
        client,
        alice,
        files={"x.gguf": str(uploaded)},
        template="{{ .System }}{{ .Prompt }}",
        system="Be terse.",
        parameters={"temperature": 0, "stop": ["<|im_end|>"]},
        messages=[{"role": "User", "content": "hi"}, {"role": "odd", "content": "ho"}],
        license=["MIT", "Apache"],
        renderer="r",
        parser="p",
        requires="0.14.0",
        info={"capabilities": ["completion"], "context_length": 4096, "model_family": "x"},
    )
    assert (model.template, model.system) == ("{{ .System }}{{ .Prompt }}", "Be terse.")
    assert model.parameters == {"temperature": 0, "stop": ["<|im_end|>"]}
    assert model.messages == (("user", "hi"), ("odd", "ho"))
    assert model.license == ("MIT", "Apache")
    config = model.config
    assert (config["renderer"], config["parser"], config["requires"]) == ("r", "p", "0.14.0")


async def test_fields_that_are_not_given_are_inherited(
    client: KeyClient, alice: User, make_model: MakeModel
) -> None:
    await sync_to_async(make_model)("base", system="Be kind.", renderer="r", parser="p")
    model = await created(client, alice, **{"from": "base", "parser": "q", "messages": []})
    assert (model.system, model.config["renderer"], model.config["parser"]) == (
        "Be kind.",
        "r",
        "q",
    )


async def test_merge_is_key_by_key(client: KeyClient, alice: User, base: str) -> None:
    parameters = {"stop": ["c"], "seed": 1, "num_ctx": None}
    changes = {"parameters": parameters, "system": "", "license": "Mine"}
    model = await created(client, alice, **{"from": base, **changes})
    assert model.parameters == {"num_ctx": 256, "stop": ["c"], "seed": 1}
    assert (model.system, model.license) == ("Be kind.", ("MIT", "Mine"))


async def test_parameters_are_not_looked_at(client: KeyClient, alice: User, base: str) -> None:
    parameters = {"num_ctx": "many", "no_such": {"a": [1]}}
    model = await created(client, alice, **{"from": base, "parameters": parameters})
    assert model.parameters["num_ctx"] == "many"


@pytest.mark.parametrize("depth", [100, 400, 800, 950, 100_000])
async def test_deep_parameters_are_stored_or_refused(
    client: KeyClient, base: str, depth: int
) -> None:
    nested = "[" * depth + "]" * depth
    body = f'{{"model":"mine","stream":false,"from":"base","parameters":{{"a":{nested}}}}}'
    response = await post(client, body)
    assert response.status_code in {200, 400}
    shown = await client.post("/api/show", data='{"model":"mine"}', content_type="application/json")
    assert shown.status_code == (200 if response.status_code == 200 else 404)


async def test_old_name_of_the_name_is_understood(client: KeyClient, base: str) -> None:
    response = await post(client, {"NAME": "T-Bone", "From": base, "stream": False})
    assert response.status_code == 200
    assert (await LanguageModel.objects.aget(owner__isnull=False)).name == "T-Bone"


async def test_other_spelling_overwrites_under_the_old_one(client: KeyClient, base: str) -> None:
    await create(client, model="Mine", **{"from": base})
    await create(client, model="MINE:LATEST", **{"from": base, "system": "x"})
    names = [tag.name async for tag in LanguageModel.objects.filter(owner__isnull=False)]
    assert names == ["Mine"]


async def test_layers_that_nothing_uses_any_longer_are_removed(
    client: KeyClient, alice: User, base: str, store: BlobStore
) -> None:
    await create(client, **{"from": base, "system": "first"})
    await create(client, **{"from": base, "system": "second"})
    assert not store.exists(Digest.of(b"first"))
    assert store.exists(Digest.of(b"second"))


# ------------------------------------------------------------------ the older generation


async def test_modelfile_makes_a_model(client: KeyClient, alice: User, base: str) -> None:
    text = f'FROM {base}\nSYSTEM """You are mario."""\nPARAMETER temperature 1\nMESSAGE user hi'
    model = await created(client, alice, modelfile=text)
    assert (model.system, model.parent_model) == ("You are mario.", "base:latest")
    assert model.parameters == {"num_ctx": 256, "stop": ["a", "b"], "temperature": 1}
    assert model.messages == (("user", "hi"),)


async def test_modelfile_names_an_upload(client: KeyClient, alice: User, uploaded: Digest) -> None:
    model = await created(client, alice, modelfile=f"FROM @{uploaded}\nTEMPLATE x")
    assert (model.weights, model.template) == (uploaded.hex, "x")


async def test_modelfile_that_show_printed_makes_the_same_model(
    client: KeyClient, alice: User, base: str
) -> None:
    shown = await client.post(
        "/api/show", data=json.dumps({"model": base}), content_type="application/json"
    )
    model = await created(client, alice, modelfile=shown.json()["modelfile"])
    same = await sync_to_async(library.resolve)(principal_for(alice), base, Verb.READ)
    assert (model.weights, model.template, model.system) == (
        same.weights,
        same.template,
        same.system,
    )
    assert (model.parameters, model.messages) == (same.parameters, same.messages)


async def test_modelfile_is_not_looked_at_beside_from(
    client: KeyClient, alice: User, base: str
) -> None:
    model = await created(client, alice, **{"from": base, "modelfile": "BAD", "path": "/x"})
    assert model.parent_model == "base:latest"


# ------------------------------------------------------------------ refusals

ZEROS = f"sha256:{'0' * 64}"
NOT_ALLOWED = (
    "the registry 'registry.ollama.ai' is not allowed here: an administrator can add it to "
    "OLLAMASITE_ALLOWED_REGISTRIES"
)


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ({}, 400, NEITHER),
        ({"system": "x"}, 400, NEITHER),
        ({"adapters": {"x.gguf": ZEROS}}, 404, f"blob {ZEROS} not found"),
        ({"model": "", "from": "base"}, 400, "invalid model name"),
        ({"model": "a b", "from": "base"}, 400, "invalid model name"),
        ({"from": "a b"}, 400, "invalid model name"),
        ({"from": "absent"}, 403, NOT_ALLOWED),
        ({"from": "bob/absent"}, 404, "model 'bob/absent' not found"),
        ({"files": {}}, 400, "unknown type"),
        ({"files": {"x.gguf": ""}}, 400, "invalid digest format"),
        ({"files": {"x.gguf": "sha256:zz"}}, 400, "invalid digest format"),
        ({"files": {"x.gguf": ZEROS}}, 404, f"blob {ZEROS} not found"),
        ({"from": "base", "adapters": {"x": "sha256:zz"}}, 400, "invalid digest format"),
        ({"from": "base", "quantize": "Q9"}, 400, None),
        ({"from": "base", "quantization": "Q9"}, 400, None),
        ({"from": "base", "license": 5}, 400, None),
        ({"from": "base", "license": ["a", 5]}, 400, None),
        ({"from": "base", "license": False}, 400, None),
        ({"from": "base", "draft_files": {"x": ZEROS}}, 400, None),
        ({"from": "base", "remote_host": "https://x"}, 403, None),
        ({"from": "base", "renderer": "a\u0000b"}, 400, "renderer is not a name"),
        ({"from": "base", "system": "x" * (4 * 1024 * 1024 + 1)}, 400, None),
        ({"from": "base", "license": ["x"] * 300}, 400, "a model may have 256 layers at most"),
        ({"modelfile": "SYSTEM x"}, 400, "no FROM line"),
        ({"modelfile": "x" * (16 * 1024 * 1024 + 1)}, 400, None),
        ({"modelfile": "FROM absent"}, 403, NOT_ALLOWED),
        ({"modelfile": "FROM base\nPARAMETER x 1"}, 400, "unknown parameter 'x'"),
        ({"modelfile": f"FROM @{ZEROS}"}, 404, f"blob {ZEROS} not found"),
        ({"modelfile": "FROM /etc/passwd"}, 400, None),
        ({"path": "/root/Modelfile"}, 400, None),
    ],
)
async def test_unusable_request_is_refused(
    client: KeyClient, bob: User, base: str, body: dict[str, Any], status: int, message: str | None
) -> None:
    response = await create(client, **body)
    assert response.status_code == status
    assert response.json()["error"]
    if message is not None:
        assert response.json() == {"error": message}


@pytest.mark.parametrize(
    "template", ["{{ .System", "{{ if .System }}x", "{{ .System }}{{ end }}", "{{ nope }}"]
)
@pytest.mark.parametrize("stream", [True, False])
async def test_broken_template_is_refused(
    client: KeyClient, base: str, template: str, stream: bool
) -> None:
    response = await create(client, **{"from": base, "template": template, "stream": stream})
    assert response.status_code == 400
    assert response.json()["error"].startswith("template error: ")


@pytest.mark.parametrize(
    "info",
    [
        {"capabilities": "completion"},
        {"capabilities": [1]},
        {"model_family": 5},
        {"base_name": []},
        {"quantization_level": {}},
        {"parameter_size": 7},
        {"context_length": "4096"},
        {"embedding_length": True},
    ],
)
async def test_wrong_type_in_info_is_refused(client: KeyClient, base: str, info: Any) -> None:
    response = await create(client, **{"from": base, "info": info})
    assert response.status_code == 400
    assert response.json()["error"].startswith(f"info: {next(iter(info))} must be ")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("", "missing request body"),
        ("null", "invalid model name"),
        ("{}", "invalid model name"),
        (
            '{"model":5}',
            "json: cannot unmarshal number into Go struct field CreateRequest.model of type string",
        ),
        (
            '{"files":[]}',
            "json: cannot unmarshal array into Go struct field CreateRequest.files of type "
            "map[string]string",
        ),
    ],
)
async def test_body_is_decoded_as_ollama_does(client: KeyClient, body: str, message: str) -> None:
    response = await post(client, body)
    assert (response.status_code, response.json()) == (400, {"error": message})


# ------------------------------------------------------------------ access


async def test_foreign_private_model_is_not_found(
    client_for: ClientFor, alice: User, mallory: User, make_model: MakeModel
) -> None:
    await sync_to_async(make_model)("secret", alice)
    response = await create(client_for(mallory), **{"from": "alice/secret"})
    assert (response.status_code, response.json()) == (
        404,
        {"error": "model 'alice/secret' not found"},
    )


async def test_foreign_upload_is_not_found(
    client_for: ClientFor, mallory: User, uploaded: Digest
) -> None:
    response = await create(client_for(mallory), files={"x.gguf": str(uploaded)})
    assert (response.status_code, response.json()) == (
        404,
        {"error": f"blob {uploaded} not found"},
    )


async def test_library_is_not_written_by_others(client: KeyClient, base: str) -> None:
    response = await create(client, model="library/mine", **{"from": base})
    assert response.status_code == 403


async def test_key_without_the_scope_is_refused(client: KeyClient, base: str) -> None:
    await client.get("/api/tags")  # makes the key
    await ApiKey.objects.aupdate(scopes=["read", "use"])
    principal_cache.forget_all()
    response = await create(client, **{"from": base})
    assert (response.status_code, response.json()) == (403, {"error": "forbidden"})


@pytest.mark.parametrize("method", ["get", "put", "delete"])
async def test_other_methods_are_refused(client: KeyClient, method: str) -> None:
    response = await getattr(client, method)("/api/create")
    assert (response.status_code, response.content) == (405, b"405 method not allowed")


async def test_one_user_cannot_have_endless_jobs(
    client: KeyClient, base: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(submit, "MOST_QUEUED", 0)
    response = await create(client, **{"from": base})
    assert response.status_code == 503
    assert response.json()["error"].startswith("server busy, please try again.")
