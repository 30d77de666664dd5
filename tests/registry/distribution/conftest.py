"""A user's registry as a test has it: files are put into it directly, all else goes over HTTP."""

import hashlib
import json
from dataclasses import dataclass
from typing import Any

import pytest
from asgiref.sync import sync_to_async

from models_app.keys import create_key
from models_app.models import User
from registry import repositories
from registry.blobs import blob_store
from tests.conftest import principal_for
from tests.fakes.http import Answer, AsgiClient

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"


def digest_of(body: bytes) -> str:
    """Return `sha256:…`."""
    return f"sha256:{hashlib.sha256(body).hexdigest()}"


def encoded(document: Any) -> bytes:
    """Return a document's bytes, not written as this site would."""
    return json.dumps(document, indent=2).encode()


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody who speaks with `/v2` about one repository; without a user, a stranger."""

    user: User | None
    path: str
    client: AsgiClient

    def about(self, path: str) -> "Caller":
        """Return the same caller, who speaks about another repository."""
        return Caller(self.user, path, self.client)

    async def add(self, data: bytes, media_type: str = "application/octet-stream") -> Any:
        """Put a file into the repository and return its descriptor."""
        await sync_to_async(self._link)(data)
        return {"mediaType": media_type, "digest": digest_of(data), "size": len(data)}

    async def put(self, document: Any, reference: str = "", **options: Any) -> Answer:
        """Push a manifest, by its digest where no reference is given."""
        body = document if isinstance(document, bytes) else encoded(document)
        told = document.get("mediaType", "") if isinstance(document, dict) else ""
        media_type = options.pop("media_type", told or OCI_MANIFEST)
        return await self.ask(
            "PUT",
            f"manifests/{reference or digest_of(body)}{options.pop('query', '')}",
            body=body,
            headers={"content-type": media_type, **options.pop("headers", {})},
        )

    async def ask(self, method: str, what: str, **options: Any) -> Answer:
        """Send any request about the repository."""
        return await self.client.request(method, f"/v2/{self.path}/{what}", **options)

    async def tags(self, query: str = "") -> Any:
        """Return the list of tags."""
        return (await self.ask("GET", f"tags/list{query}")).json()["tags"]

    def _link(self, data: bytes) -> None:
        assert self.user is not None
        stored = blob_store().write_bytes(data)
        repository = repositories.open_repository(principal_for(self.user), self.path)
        repositories.link_blob(repository, stored.digest, stored.size_bytes)


def caller_for(user: User) -> Caller:
    """Return a user who speaks with `/v2`, about `alice/thing` at first."""
    _, secret = create_key(user, "test key")
    return Caller(user, "alice/thing", AsgiClient({"x-api-key": secret}))


@pytest.fixture
def owner(transactional_db: None, alice: User) -> Caller:
    """Alice, about her own repository."""
    return caller_for(alice)


@pytest.fixture
def other(transactional_db: None, bob: User) -> Caller:
    """Bob, who has nothing to do with it."""
    return caller_for(bob)


@pytest.fixture
def administrator(transactional_db: None, admin: User) -> Caller:
    """Who runs the site, and has nothing to do with it either."""
    return caller_for(admin)


@pytest.fixture
def stranger(transactional_db: None) -> Caller:
    """Nobody knows who that is."""
    return Caller(None, "alice/thing", AsgiClient())
