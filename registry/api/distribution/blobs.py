"""Files and uploads of a repository: what Django answers to methods that their places do not know.

All others go by `registry.distribution_app`, beside Django. Knows no file and no row.
"""

from ollamasite.api_views import ReadView
from registry.distribution_request import Place


class _OtherMethodsView(ReadView):
    """Refuses every method that gets here."""

    http_method_names: list[str] = []
    place: Place

    @property
    def allowed_methods(self) -> list[str]:
        """The methods that the place knows."""
        return list(self.place.methods)


class BlobView(_OtherMethodsView):
    """`/v2/<name>/blobs/<digest>`."""

    place = Place.BLOB


class UploadsView(_OtherMethodsView):
    """`/v2/<name>/blobs/uploads/`."""

    place = Place.UPLOADS


class SessionView(_OtherMethodsView):
    """`/v2/<name>/blobs/uploads/<session>`."""

    place = Place.SESSION
