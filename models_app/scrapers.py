"""Programs that read the site's figures: by a token, or from where they are. Knows no figure."""

import hmac

from django.conf import settings
from django.http import HttpRequest

from ollamasite.client_address import address_of_request, is_from_networks

_SCHEME = "bearer"


def is_scraper(request: HttpRequest) -> bool:
    """Whether a request may read figures without being anybody's.

    With neither setting, nobody may.
    """
    networks = settings.METRICS_NETWORKS
    if networks and is_from_networks(address_of_request(request), networks):
        return True
    scheme, _, token = request.META.get("HTTP_AUTHORIZATION", "").strip().partition(" ")
    wanted: str = settings.METRICS_TOKEN
    is_token = hmac.compare_digest(token.strip().encode(), wanted.encode())
    return bool(wanted) and scheme.lower() == _SCHEME and is_token
