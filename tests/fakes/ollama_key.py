"""The key of an `ollama` CLI, which signs as the Go client does (contract/ollama.md 10).

Knows how it is done there, and nothing of how this site checks it.
"""

import base64
import hashlib
import time
from urllib.parse import urlencode

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat


class OllamaKey:
    """A new ed25519 key."""

    def __init__(self) -> None:
        self._private = Ed25519PrivateKey.generate()
        openssh = self._private.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
        self.line = openssh.decode()
        self.blob = self.line.split()[1]

    def sign(self, text: str) -> str:
        """Return the value of Authorization for a signed text."""
        return f"{self.blob}:{base64.b64encode(self._private.sign(text.encode())).decode()}"

    def request(self, method: str, path: str, *, at: float | None = None) -> tuple[str, str]:
        """Return the path with its time, and the value of Authorization."""
        asked = f"{path}?ts={int(time.time() if at is None else at)}"
        return asked, self.sign(f"{method},{asked}")

    def token_request(self, realm: str, *scopes: str, nonce: str = "AAAA") -> tuple[str, str]:
        """Return the whole URL of a token request, and the value of Authorization."""
        fields = [
            ("nonce", nonce),
            *(("scope", scope) for scope in scopes),
            ("service", "localhost:11434"),
            ("ts", str(int(time.time()))),
        ]
        url = f"{realm}?{urlencode(fields)}"
        no_body = base64.b64encode(hashlib.sha256(b"").hexdigest().encode()).decode()
        return url, self.sign(f"GET,{url},{no_body}")
