"""How this site proves to a registry who it is, and to whom it never does."""

import base64
import hashlib
import stat
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import load_ssh_public_key
from django.core.management import call_command

from models_app.models import User
from models_app.names import ModelName
from registry.digest import Digest
from registry.errors import RegistryFailed
from registry.remote import site_key
from registry.remote.client import RegistryClient, RetryPolicy
from registry.remote.reference import Origin, RemoteModel
from registry.remote.tokens import Credentials, parse_challenges, parse_token, token_request
from tests.conftest import principal_for
from tests.fakes.registry import TOKEN, Answer, Asked, FakeRegistry, fake_registry

LAB = Origin("https", "lab.test", 5000)
REALM = {"realm": "https://lab.test:5000/token", "service": "lab", "scope": "repository:a/b:pull"}
CHALLENGE = 'Bearer realm="http://HOST/token",service="s",scope="repository:ns/model:pull"'


@pytest.fixture
def data_dir(settings: Any, tmp_path: Path) -> Path:
    settings.DATA_DIR = tmp_path / "data"
    return tmp_path / "data"


# ---------------------------------------------------------------- challenges


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (
            'Bearer realm="https://a/t",service="s"',
            {"bearer": {"realm": "https://a/t", "service": "s"}},
        ),
        (
            "Bearer realm=https://a/t, service=s",
            {"bearer": {"realm": "https://a/t", "service": "s"}},
        ),
        (
            'bearer Realm="r",scope="repository:a/b:pull,push repository:c/d:pull"',
            {"bearer": {"realm": "r", "scope": "repository:a/b:pull,push repository:c/d:pull"}},
        ),
        (
            'Basic realm="lab", Bearer realm="r"',
            {"basic": {"realm": "lab"}, "bearer": {"realm": "r"}},
        ),
        (r'Bearer realm="a\"b"', {"bearer": {"realm": 'a"b'}}),
        ("Negotiate", {"negotiate": {}}),
        ("", {}),
        ('="', {}),
    ],
)
def test_challenges_are_read(header: str, expected: Any) -> None:
    assert parse_challenges(header) == expected


def test_token_request_names_service_scopes_time_and_a_nonce() -> None:
    challenge = {**REALM, "scope": "repository:a/b:pull repository:c/d:pull"}
    asked = Asked("GET", token_request(challenge, LAB, Credentials()).url, {})

    assert list(asked.query) == ["nonce", "scope", "service", "ts"]
    assert asked.query["scope"] == ["repository:a/b:pull", "repository:c/d:pull"]
    assert len(asked.query["nonce"][0]) == 22


@pytest.mark.parametrize(
    "realm",
    [
        "https://evil.test/token",
        "https://lab.test/token",
        "http://lab.test:5000/token",
        "https://lab.test:5001/token",
        "https://lab.test:5000@evil.test/",
        "https://user:pw@lab.test:5000/token",
        "/token",
        "",
        "ftp://lab.test:5000/",
    ],
)
def test_realm_elsewhere_is_refused(realm: str) -> None:
    with pytest.raises(RegistryFailed, match="does not match original host"):
        token_request({**REALM, "realm": realm}, LAB, Credentials(login=("a", "b")))


def test_both_names_of_hugging_face_are_one_origin() -> None:
    origin = Origin("https", "huggingface.co", 443)
    asked = token_request({"realm": "https://hf.co/token"}, origin, Credentials())

    assert asked.url.startswith("https://huggingface.co/token?")


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{}", b'{"token":""}', b'{"token":5}', b'{"token":"a b"}', b'{"token":"a\\n"}'],
)
def test_answer_without_a_token_is_refused(body: bytes) -> None:
    with pytest.raises(RegistryFailed):
        parse_token(body)


# ---------------------------------------------------------------- credentials


def test_login_of_the_request_comes_first(settings: Any, admin: User) -> None:
    settings.REGISTRY_CREDENTIALS = {"lab.test:5000": "site:secret"}

    shown = Credentials.for_registry(LAB, principal_for(admin), username="me", password="mine")

    assert shown == Credentials(login=("me", "mine"))


def test_what_the_site_is_known_by_is_for_those_who_write_its_library(
    settings: Any, admin: User, alice: User
) -> None:
    settings.REGISTRY_CREDENTIALS = {"lab.test:5000": "site:sec:ret"}
    other = Origin("https", "other.test", 443)

    assert Credentials.for_registry(LAB, principal_for(admin)).login == ("site", "sec:ret")
    assert Credentials.for_registry(LAB, None).login == ("site", "sec:ret")
    assert Credentials.for_registry(other, principal_for(admin)) == Credentials(may_sign=True)
    assert Credentials.for_registry(LAB, principal_for(alice)) == Credentials()


@pytest.mark.parametrize(
    ("listed", "is_shown"),
    [("lab.test:5000", False), ("http://lab.test:5000", True), ("http://*", False)],
)
def test_sites_password_goes_over_plain_http_only_where_the_list_says_so(
    settings: Any, admin: User, listed: str, is_shown: bool
) -> None:
    settings.ALLOWED_REGISTRIES = [listed]
    settings.REGISTRY_CREDENTIALS = {"lab.test:5000": "site:secret"}
    shown = Credentials.for_registry(Origin("http", "lab.test", 5000), principal_for(admin))

    assert (shown.login is not None) is is_shown


def test_no_secret_is_in_what_is_printed() -> None:
    shown = Credentials(login=("me", "secret"))
    asked = token_request(REALM, LAB, shown)

    assert "secret" not in repr(shown)
    assert "Basic" not in repr(asked)


# ---------------------------------------------------------------- the site's key


def test_token_request_is_signed_as_ollama_signs(data_dir: Path) -> None:
    asked = token_request(REALM, LAB, Credentials(may_sign=True))

    key, _, signature = asked.headers["authorization"].partition(":")
    empty = base64.b64encode(hashlib.sha256(b"").hexdigest().encode()).decode()
    public: Any = load_ssh_public_key(f"ssh-ed25519 {key}".encode())
    public.verify(base64.b64decode(signature), f"GET,{asked.url},{empty}".encode())


def test_key_is_made_once_and_for_us_alone(data_dir: Path) -> None:
    first = site_key.public_key_line()

    path = data_dir / "secrets" / "id_ed25519"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_text().startswith("-----BEGIN OPENSSH PRIVATE KEY-----")
    assert site_key.public_key_line() == first


def test_command_prints_the_public_key(data_dir: Path) -> None:
    out = StringIO()
    call_command("site_key", stdout=out)

    assert out.getvalue() == f"{site_key.public_key_line()}\n"
    assert out.getvalue().startswith("ssh-ed25519 ")


# ---------------------------------------------------------------- with a registry


async def ask(registry: FakeRegistry, credentials: Credentials, settings: Any) -> bytes:
    settings.ALLOWED_REGISTRIES = [f"http://{registry.host}"]
    registry.set_manifest("ns/model", b"{}")
    remote = RemoteModel.parse(ModelName.parse(f"{registry.host}/ns/model"))
    policy = RetryPolicy(tries=2, base_s=0.001)
    async with RegistryClient(remote, credentials, policy=policy) as client:
        first = await client.get_manifest()
        await client.get_manifest()
        return first.body


async def test_token_is_fetched_once_and_used(settings: Any) -> None:
    with fake_registry() as registry:
        registry.challenge = CHALLENGE
        assert await ask(registry, Credentials(), settings) == b"{}"

    paths = [asked.path.partition("?")[0] for asked in registry.asked]
    assert paths == [
        "/v2/ns/model/manifests/latest",
        "/token",
        *["/v2/ns/model/manifests/latest"] * 2,
    ]
    assert registry.asked[-1].headers["authorization"] == f"Bearer {TOKEN}"


async def test_nothing_is_sent_to_a_realm_elsewhere(settings: Any) -> None:
    with fake_registry() as registry, fake_registry() as thief:
        registry.challenge = CHALLENGE.replace("HOST", thief.host)
        with pytest.raises(RegistryFailed, match="realm host"):
            await ask(registry, Credentials(login=("me", "secret")), settings)
        assert not thief.asked


async def test_token_endpoint_that_leads_elsewhere_is_not_followed(settings: Any) -> None:
    with fake_registry() as registry, fake_registry() as thief:
        registry.challenge = CHALLENGE
        registry.scripts.append(
            lambda asked: (
                Answer(302, {"Location": f"http://{thief.host}/token"})
                if asked.path.startswith("/token")
                else None
            )
        )
        with pytest.raises(RegistryFailed, match="token: status 302"):
            await ask(registry, Credentials(login=("me", "secret")), settings)
        assert not thief.asked


async def test_login_is_sent_only_after_a_basic_challenge(settings: Any) -> None:
    with fake_registry() as registry:

        def script(asked: Asked) -> Answer | None:
            is_known = asked.headers.get("authorization") == "Basic bWU6c2VjcmV0"
            return None if is_known else Answer(401, {"WWW-Authenticate": 'Basic realm="lab"'})

        registry.scripts.append(script)
        assert await ask(registry, Credentials(login=("me", "secret")), settings) == b"{}"
        assert "authorization" not in registry.asked[0].headers


@pytest.mark.parametrize("credentials", [Credentials(), Credentials(login=("me", "wrong"))])
async def test_registry_that_wants_another_login_is_asked_no_further(
    settings: Any, credentials: Credentials
) -> None:
    with fake_registry() as registry:
        registry.scripts.append(
            lambda _: Answer(
                401, {"WWW-Authenticate": 'Basic realm="lab"'}, b'{"errors":[{"message":"go"}]}'
            )
        )
        with pytest.raises(RegistryFailed, match=r"wants a login|unauthorized: go"):
            await ask(registry, credentials, settings)
        assert len(registry.asked) <= 2


async def test_refused_token_is_told_with_the_registrys_words(settings: Any) -> None:
    with fake_registry() as registry:
        registry.challenge = CHALLENGE
        registry.logins = ("nobody",)
        with pytest.raises(RegistryFailed, match="token: unauthorized: who are you"):
            await ask(registry, Credentials(), settings)


@pytest.mark.parametrize(
    ("credentials", "shown"),
    [
        (Credentials(), "no user name was given"),
        (Credentials(may_sign=True), "this site's own key was shown"),
        (Credentials(login=("me", "secret")), "the user name 'me' was shown, with a password"),
    ],
)
async def test_refused_token_tells_what_was_shown_and_no_password(
    settings: Any, credentials: Credentials, shown: str
) -> None:
    with fake_registry() as registry:
        registry.challenge = CHALLENGE
        registry.logins = ("nobody",)
        with pytest.raises(RegistryFailed) as refused:
            await ask(registry, credentials, settings)

    assert refused.value.message == f"token: unauthorized: who are you?; {shown}"


async def test_retry_after_is_honoured(settings: Any) -> None:
    with fake_registry() as registry:
        waits = [Answer(429, {"Retry-After": "1"})]
        registry.scripts.append(lambda _: waits.pop() if waits else None)
        policy = RetryPolicy(base_s=0.001)
        assert policy.delay_s(1, 1.0) == 1.0
        assert policy.delay_s(3) < 1
        assert await ask(registry, Credentials(), settings) == b"{}"


async def test_missing_file_is_final(settings: Any) -> None:
    with fake_registry() as registry:
        settings.ALLOWED_REGISTRIES = [f"http://{registry.host}"]
        remote = RemoteModel.parse(ModelName.parse(f"{registry.host}/ns/model"))
        async with RegistryClient(remote, Credentials()) as client:
            with pytest.raises(RegistryFailed, match="not found"):
                await client.head_blob(Digest.of(b""))
        assert len(registry.asked) == 1
