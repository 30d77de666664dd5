"""`POST /api/nodes/join`: a machine that runs models tells where it is and what it has. Ours.

    {"address": "gpu1:11500", "fingerprint": "<64 hex>", "protocol": 6, "memory_bytes": 8000000000,
     "devices": [{"name": "CUDA0", "total_bytes": 24000000000}]}

    {"name": "gpu1", "secret": "<64 hex>", "is_draining": false}

The join token is the Bearer credential, and says which node it is. Web processes prove who they are
by the secret. Knows no row of the database.
"""

from typing import Any

import msgspec
from asgiref.sync import sync_to_async
from django.http import HttpResponse

from inference.messages import PROTOCOL_VERSION
from models_app import nodes
from models_app.errors import NodeRefused
from models_app.nodes import Announced
from ollamasite.api_views import NATIVE_EMPTY_BODY, CallView, read_body
from ollamasite.http import json_response


class DeviceBody(msgspec.Struct):
    """A GPU."""

    name: str = ""
    total_bytes: int | None = None


class JoinBody(msgspec.Struct):
    """The body of `POST /api/nodes/join`."""

    address: str = ""
    fingerprint: str = ""
    protocol: int = 0
    memory_bytes: int | None = None
    devices: list[DeviceBody] = msgspec.field(default_factory=list)


class JoinReply(msgspec.Struct):
    """What a node is told."""

    name: str
    secret: str
    is_draining: bool = False


class JoinView(CallView):
    """`POST /api/nodes/join`."""

    async def post(self, request: Any) -> HttpResponse:
        """Let the node in that the token names."""
        body = await read_body(request, JoinBody, "Request", empty_message=NATIVE_EMPTY_BODY)
        node = await sync_to_async(nodes.join)(request.user, _announced(body))
        told = JoinReply(name=node.name, secret=node.secret, is_draining=node.is_draining)
        return json_response(msgspec.structs.asdict(told))


def _announced(body: JoinBody) -> Announced:
    if body.protocol != PROTOCOL_VERSION:
        raise NodeRefused(
            f"the node speaks protocol {body.protocol}, the site {PROTOCOL_VERSION}: "
            "run the same version of ollamasite on both"
        )
    return Announced(
        address=body.address,
        fingerprint=body.fingerprint,
        memory_bytes=body.memory_bytes,
        devices=[msgspec.structs.asdict(device) for device in body.devices],
    )
