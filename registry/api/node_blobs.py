"""`/api/nodes/blobs/<digest>`: what Django answers to methods that the place does not know.

Reading is `registry.node_blob_app`, beside Django. Knows no file.
"""

from ollamasite.api_views import ReadView
from registry.node_blob_app import METHODS


class NodeBlobView(ReadView):
    """Refuses every method that gets here."""

    http_method_names: list[str] = []

    @property
    def allowed_methods(self) -> list[str]:
        """The methods that the path knows."""
        return list(METHODS)
