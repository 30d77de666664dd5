"""The pages under /admin/: people, keys, models, jobs, limits and records, to look at and act on.

Shows tables and calls the services that the API calls too; decides nothing itself. What needs files
or a node is added by `registry.admin` and `inference.admin`. Imported by the URLconf and by nothing
that serves no pages.
"""

from models_app.admin import (
    credentials,
    library,
    names,
    nodes,
    people,
    records,
    rules,
    upstreams,
    work,
)
from models_app.admin.site import site

__all__ = [
    "credentials",
    "library",
    "names",
    "nodes",
    "people",
    "records",
    "rules",
    "site",
    "upstreams",
    "work",
]
