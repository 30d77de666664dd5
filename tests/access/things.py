"""Things that routes name, each kept by somebody, and the people who ask for them.

Keeper owns what there is and the team `vision`; the others are in it by the role of their name, or
are for the site what their name says; Outsider is nobody to anybody. Knows no route.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from django.contrib.auth import HASH_SESSION_KEY
from django.contrib.sessions.backends.db import SessionStore
from django.test import Client
from django.utils import timezone

from inference.messages import Priority, QueueState, RunningEntry
from models_app import principal_cache, teams
from models_app.client_keys import add_client_key
from models_app.demands import Thing
from models_app.invites import create_invite
from models_app.keys import create_key
from models_app.models import (
    BrowserSession,
    Chat,
    ChatFolder,
    ChatImage,
    ChatMessage,
    FormerName,
    Invite,
    Job,
    LanguageModel,
    LedgerEntry,
    Membership,
    StoredResponse,
    Team,
    User,
    Visibility,
)
from models_app.permissions import CredentialKind, Principal, TeamRole, Verb
from models_app.principals import principal_of_user
from registry.blobs import blob_store
from registry.create import CreateModel, create_model
from tests.fakes.engine import FakeNode
from tests.fakes.ollama_key import OllamaKey

TEAM: Final = "vision"
PLACES: Final = {
    "keeper": TeamRole.OWNER,
    "maintainer": TeamRole.MAINTAINER,
    "member": TeamRole.MEMBER,
    "viewer": TeamRole.VIEWER,
}
OTHERS: Final = ("outsider", "operator", "auditor", "admin")
EVERYBODY: Final = (*PLACES, *OTHERS)
_ALL: Final = frozenset(Verb)
_SHARED: Final = frozenset({Verb.READ, Verb.USE, Verb.PULL})
# Who may do what with which model; whoever is not named may nothing.
VERBS: Final[dict[str, dict[str, frozenset[Verb]]]] = {
    "keeper/own": {"keeper": _ALL},
    f"{TEAM}/shared": {
        "keeper": _ALL,
        "maintainer": _ALL,
        "member": _SHARED,
        "viewer": frozenset({Verb.READ}),
    },
    "keeper/open": {**dict.fromkeys(EVERYBODY, _SHARED), "keeper": _ALL},
}


@dataclass(slots=True)
class People:
    """Everybody, with a key each, and a file of which models are made."""

    users: dict[str, User]
    secrets: dict[str, str]
    tiny: Path
    digest: str  # of the file
    browsers: dict[str, Client] = field(default_factory=dict)

    def session(self, name: str) -> str:
        """Return somebody's session; of one that was ended meanwhile, the next."""
        user, browser = self.users[name], self.browsers.setdefault(name, Client())
        user.refresh_from_db()
        if browser.session.get(HASH_SESSION_KEY) != user.get_session_auth_hash():
            browser.force_login(user)
        return browser.cookies["ollamasite_session"].value

    def principal(self, name: str) -> Principal:
        """Return somebody as their key makes them."""
        return principal_of_user(self.users[name], CredentialKind.KEY)


Found = tuple[dict[str, Any], Thing]
Make = Callable[[People], Found]


def gather(tiny: Path) -> People:
    """Make everybody and the team. Makes rows."""
    users = {name: User.objects.create_user(name) for name in EVERYBODY}
    User.objects.filter(username="admin").update(is_superuser=True, is_staff=True)
    for name in ("operator", "auditor"):
        User.objects.filter(username=name).update(site_role=name)
    make_team()
    users = {user.username: user for user in User.objects.all()}
    secrets = {name: create_key(user, "asks")[1] for name, user in users.items()}
    principal_cache.forget_all()
    return People(users, secrets, tiny, str(blob_store().import_file(tiny).digest))


def make_team() -> None:
    """Make the team anew where it is gone."""
    if Team.objects.filter(name=TEAM).exists():
        return
    FormerName.objects.all().delete()  # so that it can be made anew
    teams.create_team(TEAM, by=None)
    for name, role in PLACES.items():
        teams.set_member(TEAM, name, role, by=None)
    principal_cache.forget_all()


def team(_: People) -> Found:
    """The team, with everybody in their place."""
    make_team()
    rows = Membership.objects.filter(team__name=TEAM).values_list("user__username", "role")
    there = dict(rows)
    for name, role in PLACES.items():
        if there.get(name) != role:
            teams.set_member(TEAM, name, role, by=None)
    return {"name": TEAM, "user": "member"}, Thing(team=TEAM)


def member(people: People) -> Found:
    """Member's place in the team."""
    path, _ = team(people)
    return path, Thing(team=TEAM, owner_id=people.users["member"].pk)


def service(people: People) -> Found:
    """An account of the team's for programs."""
    team(people)
    User.objects.filter(service_of__name=TEAM).update(is_active=False)  # so that there is room
    name = f"robot{User.objects.count()}"
    teams.create_service_account(TEAM, name, by=None)
    return {"name": name}, Thing(team=TEAM)


def team_service(people: People) -> Found:
    """The same, named with its team."""
    found, thing = service(people)
    return {"name": TEAM, "user": found["name"]}, thing


def user(people: People) -> Found:
    """Keeper's account."""
    return {"name": "keeper"}, Thing(owner_id=people.users["keeper"].pk)


def invite(people: People) -> Found:
    """An invite to the team."""
    team(people)
    create_invite(team_name=TEAM, by=None)
    return {"invite_id": Invite.objects.latest("pk").pk}, Thing(team=TEAM)


def site_invite(people: People) -> Found:
    """An invite to the site."""
    del people
    create_invite(by=None)
    return {"invite_id": Invite.objects.latest("pk").pk}, Thing()


def key(people: People) -> Found:
    """A key of Keeper's."""
    made, _ = create_key(people.users["keeper"], "another")
    return {"prefix": made.prefix}, Thing(owner_id=made.owner_id, key_id=made.pk)


def service_key(people: People) -> Found:
    """A key of a service account of the team."""
    path, _ = service(people)
    made, _ = create_key(User.objects.get(username=path["name"]), "its")
    return {"prefix": made.prefix}, Thing(owner_id=made.owner_id, team=TEAM, key_id=made.pk)


def client_key(people: People) -> Found:
    """A key with which Keeper's machine signs."""
    made = add_client_key(people.users["keeper"], OllamaKey().line)
    return {"key_id": made.pk}, Thing(owner_id=made.owner_id)


def browser_session(people: People) -> Found:
    """A browser in which Keeper has signed in."""
    owner = people.users["keeper"]
    store = SessionStore()
    store.create()
    made = BrowserSession.objects.create(user=owner, session_key=str(store.session_key))
    return {"session_id": made.pk}, Thing(owner_id=owner.pk)


def job(people: People) -> Found:
    """A job of Keeper's that has failed."""
    owner = people.users["keeper"]
    job_id = f"{Job.objects.count():032d}"
    Job.objects.create(
        job_id=job_id, kind="pull", state="failed", owner=owner, arguments="{}", share_key=job_id
    )
    return {"job_id": job_id}, Thing(owner_id=owner.pk)


def request(node: FakeNode) -> Make:
    """Make what has a request of Keeper's running on a node."""

    def make(people: People) -> Found:
        entry = RunningEntry(
            request_id="f" * 32,
            model="m",
            digest="d" * 64,
            user="keeper",
            priority=Priority.API,
            age_s=1.0,
        )
        node.queue = QueueState(request_id="", entries=(), running=1, slots=4, on_slots=(entry,))
        return {"request_id": entry.request_id}, Thing(owner_id=people.users["keeper"].pk)

    return make


def team_use(people: People) -> Found:
    """A request of Keeper's that counts to the team."""
    team(people)
    return _use(people, Team.objects.get(name=TEAM).pk)


def own_use(people: People) -> Found:
    """A request of Keeper's own."""
    return _use(people, 0)


def _use(people: People, team_id: int) -> Found:
    owner = people.users["keeper"]
    request_id = f"{LedgerEntry.objects.count():024d}"
    LedgerEntry.objects.create(
        request_id=request_id,
        began_at=timezone.now(),
        ended_at=timezone.now(),
        user_id=owner.pk,
        team_id=team_id,
        credential="key",
        model_name="m",
        dialect="native",
        kind="chat",
        priority="api",
        outcome="done",
    )
    return {"request_id": request_id}, Thing(owner_id=owner.pk, team=TEAM if team_id else "")


def response(people: People) -> Found:
    """An answer that Keeper has had."""
    owner = people.users["keeper"]
    response_id = f"resp_{StoredResponse.objects.count():032d}"
    StoredResponse.objects.create(
        response_id=response_id, owner=owner, model_name="m", input="[]", body="{}", size_bytes=4
    )
    return {"response_id": response_id}, Thing(owner_id=owner.pk)


def chat(people: People) -> Found:
    """A chat of Keeper's, which has not begun."""
    owner = people.users["keeper"]
    made = Chat.objects.create(chat_id=f"{Chat.objects.count():032d}", owner=owner, title="t")
    return {"chat_id": made.chat_id}, Thing(owner_id=owner.pk)


def chat_message(people: People) -> Found:
    """A question of Keeper's."""
    path, thing = chat(people)
    made = Chat.objects.get(chat_id=path["chat_id"])
    message_id = made.chat_id
    ChatMessage.objects.create(message_id=message_id, chat=made, role="user", text="x")
    return {**path, "message": message_id}, thing


def chat_image(people: People) -> Found:
    """An image that Keeper has asked something about."""
    _, thing = chat(people)
    image_id = f"{ChatImage.objects.count():032d}"
    ChatImage.objects.create(
        image_id=image_id,
        chat=Chat.objects.latest("pk"),
        message="0" * 32,
        media_type="image/png",
        size_bytes=1,
        data=b"x",
    )
    return {"image_id": image_id}, thing


def chat_folder(people: People) -> Found:
    """A folder of Keeper's."""
    owner = people.users["keeper"]
    folder_id = f"{ChatFolder.objects.count():032d}"
    ChatFolder.objects.create(folder_id=folder_id, owner=owner, name=folder_id)
    return {"folder_id": folder_id}, Thing(owner_id=owner.pk)


def model(name: str) -> Make:
    """Make what makes a model of VERBS where it is gone."""

    def make(people: People) -> Found:
        namespace, _, short = name.partition("/")
        rows = LanguageModel.objects.filter(namespace=namespace, name=short)
        if not rows.exists():
            digest = blob_store().import_file(people.tiny).digest
            by = people.principal("keeper")
            create_model(CreateModel(name=name, principal=by, files={"tiny.gguf": digest}))
            if name.endswith("/open"):
                rows.update(visibility=Visibility.EVERYONE)
        parts = {"name": name, "reference": "latest", "digest": people.digest, "part": "metadata"}
        return parts, Thing()

    return make
