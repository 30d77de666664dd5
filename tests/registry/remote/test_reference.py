"""Where a name leads, and to which registries this site goes."""

from typing import Any

import pytest

from models_app.names import ModelName
from ollamasite.outbound.urls import parse_url
from registry.errors import RegistryNotAllowed
from registry.remote.reference import RemoteModel, hosts_for, scheme_of


def parse(text: str, **more: Any) -> RemoteModel:
    return RemoteModel.parse(ModelName.parse(text), scheme_in_text=scheme_of(text), **more)


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("gemma", "https://registry.ollama.ai/v2/library/gemma:latest"),
        ("me/gemma:1b", "https://registry.ollama.ai/v2/me/gemma:1b"),
        ("HF.co/User/Repo-GGUF:Q4_K_M", "https://huggingface.co/v2/User/Repo-GGUF:Q4_K_M"),
        ("huggingface.co/u/r", "https://huggingface.co/v2/u/r:latest"),
        ("tls.test/a/b", "https://tls.test/v2/a/b:latest"),
        ("http://tls.test/a/b", "https://tls.test/v2/a/b:latest"),
        ("tls.test:444/a/b", "https://tls.test:444/v2/a/b:latest"),
        ("plain.test:5000/a/b", "http://plain.test:5000/v2/a/b:latest"),
        ("https://plain.test:5000/a/b", "https://plain.test:5000/v2/a/b:latest"),
        ("http://plain.test:5000/a/b..c", "http://plain.test:5000/v2/a/b..c:latest"),
    ],
)
def test_name_leads_to_its_registry(settings: Any, text: str, url: str) -> None:
    settings.ALLOWED_REGISTRIES = [
        *("registry.ollama.ai", "hf.co", "tls.test", "tls.test:444", "http://plain.test:5000"),
    ]
    remote = parse(text)

    assert f"{remote.origin}{remote.path}:{remote.tag}" == url


def test_insecure_speaks_plain_http_to_a_listed_registry(settings: Any) -> None:
    settings.ALLOWED_REGISTRIES = ["tls.test:444"]

    assert str(parse("https://tls.test:444/a/b", is_insecure=True).origin) == "http://tls.test:444"


@pytest.mark.parametrize(
    ("listed", "text", "is_insecure"),
    [
        ([], "gemma", False),
        (["tls.test"], "other.test/a/b", False),
        (["tls.test"], "tls.test:5000/a/b", False),
        (["tls.test:5000"], "tls.test/a/b", False),
        (["*"], "tls.test/a/b", True),
        (["tls.test"], "tls.test.evil.test/a/b", False),
        (["tls.test"], "x:y:z/a/b", False),
    ],
)
def test_other_registries_are_refused(
    settings: Any, listed: list[str], text: str, is_insecure: bool
) -> None:
    settings.ALLOWED_REGISTRIES = listed

    with pytest.raises(RegistryNotAllowed):
        parse(text, is_insecure=is_insecure)


def test_default_registry_is_a_setting(settings: Any) -> None:
    settings.ALLOWED_REGISTRIES = ["http://models.lan:5000"]
    settings.DEFAULT_REGISTRY = "http://models.lan:5000"

    assert str(parse("gemma").origin) == "http://models.lan:5000"


def test_star_never_makes_plain_http_of_a_name_without_a_scheme(settings: Any) -> None:
    settings.ALLOWED_REGISTRIES = ["http://*"]

    assert str(parse("tls.test/a/b").origin) == "https://tls.test"
    assert str(parse("http://tls.test/a/b").origin) == "http://tls.test"


@pytest.mark.parametrize(
    ("url", "is_permitted", "may_be_inside"),
    [
        ("https://lab.test:5000/v2/", True, True),
        ("http://lab.test:5000/v2/", False, True),
        ("https://lab.test:22/", True, False),
        ("https://cdn.example/", True, False),
        ("http://cdn.example/", False, False),
    ],
)
def test_redirects_lead_to_the_registry_or_to_public_hosts(
    settings: Any, url: str, is_permitted: bool, may_be_inside: bool
) -> None:
    settings.ALLOWED_REGISTRIES = ["lab.test:5000"]
    hosts = hosts_for(parse("lab.test:5000/a/b").origin)
    target = parse_url(url)

    assert hosts.permit(*target.origin) is is_permitted
    assert hosts.permit_inside(target.host, target.port) is may_be_inside
