"""Every page that can be opened, and as whom: what all pages have in common is tested over this.

One line a page; a page with several faces may have several. A path may have `{thing}` in it, one
of `THINGS`, which `tests.pages.life` makes for bob. A route that shows no whole page (a fragment,
a download, a form's target) stands in `SHOWS_NO_PAGE`. Knows no view.
"""

from dataclasses import dataclass
from typing import Final

# What paths name, with something that their routes take for it; nothing of that name is there.
THINGS: Final = {
    "invite": "nothing",
    "password_link": "MQ/nothing",
    "key": "0" * 12,
    "job": "0" * 32,
    "model": "bob/nothing:latest",
    "chat": "0" * 32,
    "team": "nobody",
    "request": "0" * 24,
}


@dataclass(frozen=True, slots=True)
class Page:
    """A page. `name` is its URL's, `who` opens it: bob, alice (who runs the site), or nobody.

    `queries` is how many the database is asked, however much there is; None: nobody has counted.
    """

    name: str
    path: str
    who: str = "bob"
    queries: int | None = None

    def path_with(self, things: dict[str, str]) -> str:
        """Return the path to things that are there."""
        return self.path.format_map(things)


PAGES: Final = (
    # --- coming in
    Page("signin", "/signin", who="nobody", queries=0),
    Page("signup", "/signup", who="nobody", queries=0),
    Page("open-invite", "/invite/{invite}", who="nobody", queries=7),  # leads to `invite`
    Page("new-password", "/password/{password_link}", who="nobody", queries=7),
    # --- home and queue
    Page("home", "/home", queries=7),
    Page("home", "/home", who="alice", queries=8),
    Page("queue", "/queue", queries=5),
    # --- chat
    Page("chat", "/chat", queries=9),
    Page("chat-open", "/chat/{chat}", queries=13),
    # --- models
    Page("models", "/models", queries=7),
    Page("model", "/models/{model}", queries=11),
    Page("model-copy", "/models/{model}/copy", queries=11),
    Page("model-delete", "/models/{model}/delete", queries=11),
    Page("model-access", "/models/{model}/access", queries=11),
    # --- pull, create, upload, jobs
    Page("jobs", "/jobs", queries=5),
    Page("jobs", "/jobs?all=1", who="alice", queries=5),
    Page("job", "/jobs/{job}", queries=4),
    Page("models-pull", "/models/pull", queries=3),
    Page("models-create", "/models/create", queries=5),
    Page("models-upload", "/models/upload", queries=3),
    # --- keys, teams, oneself
    Page("keys", "/keys", queries=8),
    Page("new-key", "/keys/new", queries=6),
    Page("key", "/keys/{key}", queries=11),
    Page("teams", "/teams", queries=4),
    Page("teams", "/teams", who="alice", queries=4),
    Page("team", "/teams/{team}", queries=10),
    Page("team", "/teams/{team}", who="alice", queries=10),
    Page("invites", "/invites", queries=4),
    Page("invites", "/invites", who="alice", queries=4),
    Page("profile", "/profile", queries=9),
    Page("profile", "/profile", who="alice", queries=8),
    Page("delete-account", "/profile/delete", queries=3),
    Page("client-keys", "/client-keys", queries=4),
    Page("own-password", "/password", queries=3),
    # --- usage
    Page("usage", "/usage", queries=8),
    Page("usage", "/usage?all=1", who="alice", queries=9),
    Page("usage-requests", "/usage/requests", queries=4),
    Page("usage-requests", "/usage/requests?all=1", who="alice", queries=4),
    Page("usage-request", "/usage/requests/{request}", queries=4),
    # --- the API
    Page("api", "/api-docs", queries=3),
    Page("api-operation", "/api-docs/post_api_chat", queries=3),
    Page("api-operation", "/api-docs/post_v1_responses", queries=3),
)

# By the URL's name, with the reason.
SHOWS_NO_PAGE: Final = {
    "invite": "what /invite/<secret> leads to",
    # --- home and queue
    # --- chat
    "chat-list": "a part of the chat page",
    "chat-messages": "a part of the chat page",
    "chat-export": "a download",
    "chat-image": "an image",
    "chat-rename": "changes something",
    "chat-move": "changes something",
    "chat-pin": "changes something",
    "chat-delete": "changes something",
    "chat-head": "changes something",
    "chat-system": "changes something",
    "chat-folders": "changes something",
    "chat-folder-rename": "changes something",
    "chat-folder-delete": "changes something",
    # --- models
    "model-load": "a form's target",
    "model-unload": "a form's target",
    "model-pin": "a form's target",
    "model-text": "a download",
    # --- pull, create, upload, jobs
    "job-strip": "the line about jobs that every page has",
    # --- keys, teams, oneself
    "export-own-data": "a download",
    # --- usage
    "usage-export": "a file",
}
