"""Something of everything, for tests of all pages: models, keys, teams, chats, jobs, a month's use.

What a thing says comes from a `Texts`, believable or hostile. Made by the site's own services where
they make it, else as rows. Run as a module it fills the database of the settings it is started
with, for a server in a process of its own, and prints what it made as JSON.
"""

import base64
import sys
import tempfile
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final

import django
import msgspec

if __name__ == "__main__":
    django.setup()

from django.utils import timezone

from models_app import chats, client_keys, invites, keys, ledger, people, teams
from models_app.accounts import create_user
from models_app.chat_messages import AnswerSoFar, NewImage, NewMessages, add_messages, save_answers
from models_app.ledger_journal import Begin, End, Figures
from models_app.models import Job, JobKind, JobState, User
from models_app.permissions import CredentialKind, Scope, TeamRole
from models_app.principals import principal_of_user
from registry.blobs import blob_store
from registry.create import CreateModel, create_model
from tests.fakes.ollama_key import OllamaKey
from tests.gguf_files import write_tiny_model
from tests.pages import xss
from tests.pages.catalogue import PASSWORD

Things = dict[str, str]
# What the thing of a number says at a place.
Texts = Callable[[str, int], str]

_US_PER_S: Final = 1_000_000
_REQUESTS_EACH: Final = 4
_PROCESS: Final = "life"
_PIXEL: Final = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
_ENDS: Final = (JobState.FAILED, JobState.SUCCEEDED, JobState.CANCELLED)
_FIGURES: Final = Figures(
    tokens_in=120,
    tokens_out=340,
    tokens_cached=40,
    queue_us=20_000,
    prefill_us=310_000,
    decode_us=4_200_000,
    compute_us=4_510_000,
)
_PLAIN: Final = {
    "license": "MIT License\n\nUse it as you like, and keep this line.",
    "system": "You answer in one sentence.",
    "template": "{{ .System }}\n{{ .Prompt }}",
    "metadata": "Trained on the team's notes",
    "key": "nightly tests",
    "client key": "laptop",
    "note": "for the visitors in June",
    "team": "pictures and what they mean",
    "status": "pulling manifest",
    "error": "the registry did not answer in time",
    "title": "Which layers matter?",
    "question": "Which layers matter most when a model is made smaller?",
    "answer": "The **first** and the last ones: their errors reach every token.\n\n- measure",
}


def plain(place: str, number: int) -> str:
    """Say what people say."""
    return f"{_PLAIN[place]} {number}" if number and "\n" not in _PLAIN[place] else _PLAIN[place]


def hostile(place: str, number: int) -> str:
    """Say what tries to become part of the page."""
    if place == "template":  # that is checked: its own text is what may be anything
        return "{{ .Prompt }}" + xss.LONG_TEXT.replace("{{", "").replace("{%", "").replace("}}", "")
    if place in {"license", "system", "question", "answer"}:
        return xss.LONG_TEXT if number == 0 else xss.vector(number)
    if place in {"error", "metadata"}:
        return xss.vector(number).replace("\0", "")
    return xss.line(number, 95) or "x"


def fill(owner: User, *, count: int = 1, texts: Texts = plain) -> list[Things]:
    """Make so many of everything for somebody; return how paths name them, a dict for each."""
    made: list[Things] = [{} for _ in range(count)]
    digest = _import_file([texts("metadata", number) for number in range(count)])
    for number, things in enumerate(made):
        things["model"] = _make_model(owner, digest, number, texts)
        things |= _make_account_things(owner, number, texts)
        things["chat"] = make_chat(owner, things["model"], partial(_said, texts, number))
        things["job"] = _make_job(owner, number, texts)
        things["request"] = _use(owner, things["model"], number)
    return made


def _import_file(values: list[str]) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        metadata = {f"general.note_{number}": value for number, value in enumerate(values)}
        path = write_tiny_model(Path(folder) / "tiny.gguf", metadata=metadata)
        return blob_store().import_file(path).digest


def _make_model(owner: User, digest: Any, number: int, texts: Texts) -> str:
    name = f"{owner.username}/notes-{number}"
    create_model(
        CreateModel(
            name=name,
            principal=principal_of_user(owner, CredentialKind.SESSION),
            files={"tiny.gguf": digest},
            template=texts("template", number),
            system=texts("system", number),
            license=(texts("license", number),),
            parameters={"temperature": 0.2, "stop": [texts("status", number)]},
        )
    )
    return name


def _make_account_things(owner: User, number: int, texts: Texts) -> Things:
    team = f"{owner.username}-group-{number}"
    teams.create_team(team, description=texts("team", number), owner=owner.username, by=None)
    person = create_user(f"{owner.username}-friend-{number}", PASSWORD)
    teams.set_member(f"{owner.username}-group-0", person.username, TeamRole.MEMBER, by=None)
    rules = keys.KeyRules(
        scopes=(Scope.USE, Scope.READ), expires_at=timezone.now() + timedelta(days=30)
    )
    key, _ = keys.create_key(owner, texts("key", number), rules)
    client_keys.add_client_key(owner, OllamaKey().line, texts("client key", number))
    invite = invites.create_invite(team_name=team, note=texts("note", number), by=None)
    return {
        "team": team,
        "person": person.username,
        "key": key.prefix,
        "invite": invite.path.rpartition("/")[2],
        "password_link": people.password_link(person.username, by=None).partition("/password/")[2],
    }


def _said(texts: Texts, number: int, place: str) -> str:
    return texts(place, number)


def make_chat(
    owner: User,
    model: str,
    text: Callable[[str], str],
    folder: str = "",
    *,
    is_plain: bool = False,
) -> str:
    """Make a chat: a question with an image, an answer with a call; plain: without both."""
    by = principal_of_user(owner, CredentialKind.SESSION)
    settings = chats.ChatSettings(model_name=model, system=text("system"))
    image = NewImage(name=text("status"), media_type="image/png", data=_PIXEL)
    new = NewMessages(
        role="user",
        text=text("question"),
        images=() if is_plain else (image,),
        settings=settings,
        process=_PROCESS,
        folder_id=folder,
    )
    added = add_messages(by, new)
    call = {"id": "1", "name": text("key"), "arguments": {"about": text("question")[:200]}}
    answer = AnswerSoFar(
        message_id=added.answer_id,
        text=text("answer"),
        thinking=text("note"),
        calls=msgspec.json.encode([] if is_plain else [call]).decode(),
        version=1,
        state="done",
        error="",
    )
    save_answers(_PROCESS, [answer])
    chats.rename_chat(by, added.chat_id, text("title")[:200].strip() or "x")
    return added.chat_id


def _make_job(owner: User, number: int, texts: Texts) -> str:
    state = _ENDS[number % len(_ENDS)]
    now = timezone.now() - timedelta(minutes=number)
    event = {"status": texts("status", number), "total": 144_811_234, "completed": 72_400_000}
    error = {"code": "upstream_failed", "status": 502, "message": texts("error", number)}
    job = Job.objects.create(
        job_id=f"{owner.pk:08x}{number:024x}",
        kind=JobKind.PULL,
        state=state,
        owner=owner,
        model_name=f"hub.lab/{owner.username}/notes-{number}:latest",
        share_key=f"{owner.pk:032x}{number:032x}",
        arguments="{}",
        events=msgspec.json.encode([event]).decode(),
        version=3,
        total_bytes=144_811_234,
        completed_bytes=72_400_000,
        error=error if state == JobState.FAILED else None,
        attempt=1,
        created_at=now - timedelta(seconds=40),
        started_at=now - timedelta(seconds=39),
        ended_at=now,
    )
    return job.job_id


def _use(owner: User, model: str, number: int) -> str:
    """Write down requests of the last weeks to a model; return the id of one of them."""
    now_us = int(timezone.now().timestamp() * _US_PER_S) - 60 * _US_PER_S
    ended = []
    for turn in range(_REQUESTS_EACH):
        request_id = f"life-{owner.pk}-{number}-{turn}"
        at_us = now_us - (number * 7 + turn * 31) * 3600 * _US_PER_S
        begin = Begin(
            request_id=request_id,
            at_us=at_us,
            user_id=owner.pk,
            user_name=owner.username,
            credential="session",
            model_name=f"{model}:latest",
            model_digest="d" * 64,
            dialect=("native", "openai")[turn % 2],
            kind="chat",
            priority="interactive",
            parameters={"temperature": 0.2},
            seed=turn,
        )
        outcome = "failed" if turn == _REQUESTS_EACH - 1 else "done"
        at_us += 4_600_000
        end = End(request_id=request_id, at_us=at_us, outcome=outcome, figures=_FIGURES)
        ended.append((begin, end))
    ledger.write(ended)
    return f"life-{owner.pk}-{number}-0"


def main() -> None:
    """Fill the database: bob's things, as many and as hostile as is asked."""
    count, kind = int(sys.argv[1]), sys.argv[2]
    owner = User.objects.get(username=sys.argv[3])
    made = fill(owner, count=count, texts=hostile if kind == "hostile" else plain)
    sys.stdout.write(msgspec.json.encode(made).decode())


if __name__ == "__main__":
    main()
