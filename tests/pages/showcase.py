"""A site as a lab has it after a year, for pictures: people, teams, models, keys, jobs and use.

Run as a module: fills the database of the settings it is started with and prints what paths name
as JSON. What it makes is made up; the same every time, but for the time itself.
"""

import random
import sys
from datetime import datetime, timedelta
from functools import partial
from typing import Final

import django

if __name__ == "__main__":
    django.setup()

import msgspec
from django.utils import timezone

from models_app import chats, keys, ledger, limit_rules, teams
from models_app.accounts import create_user
from models_app.ledger_journal import Begin, End, Figures
from models_app.models import ApiKey, Job, JobKind, JobState, LanguageModel, User
from models_app.permissions import CredentialKind, Scope, TeamRole
from models_app.principals import principal_of_user
from tests.pages import life
from tests.pages.catalogue import PASSWORD, add_model

OWNER: Final = "mira"
_US_PER_S: Final = 1_000_000
_DAYS: Final = 365
_PEOPLE: Final = ("jonas", "priya", "tomasz", "lena", "samuel", "aiko", "nadia", "felix")
_TEAMS: Final = (
    ("linguistics", "Corpora, annotation and everything with words", ("mira", "priya", "lena")),
    ("vision", "Pictures, plates and microscopes", ("jonas", "aiko", "samuel", "mira")),
    ("teaching", "Courses and their exercises", ("tomasz", "nadia", "felix")),
)
_MODELS: Final = (
    ("llama3.2:3b", 2_019_393_189, 131_072, ("completion", "tools"), ""),
    ("qwen3:8b", 5_225_388_164, 40_960, ("completion", "tools", "thinking"), ""),
    ("gemma3:12b", 8_149_190_253, 131_072, ("completion", "vision"), ""),
    ("nomic-embed-text:v1.5", 274_302_450, 2_048, ("embedding",), ""),
    ("mira/abstracts:q4_K_M", 2_019_412_000, 8_192, ("completion",), "mira"),
    ("jonas/plates:latest", 3_338_801_804, 32_768, ("completion", "vision"), "jonas"),
)
_CODE: Final = """The spread tells how far single runs lie apart. With $n$ runs:

$$s = \\sqrt{\\frac{1}{n-1}\\sum_{i=1}^{n}(x_i - \\bar{x})^2}$$

```python
from statistics import mean, stdev

runs = [0.812, 0.807, 0.821, 0.809]
print(f"{mean(runs):.3f} ± {stdev(runs):.3f}")
```

| model | accuracy | spread |
|---|---|---|
| qwen3:8b | 0.812 | 0.006 |
| llama3.2:3b | 0.774 | 0.009 |

Report both, and say how many runs there were."""
_CHATS: Final = (
    ("Outline of the proposal", "qwen3:8b", "Outline a proposal on small models.", "1. Why small"),
    ("Budget in words", "llama3.2:3b", "Put this budget into words.", "Two years of one position."),
    (
        "Abstract, second version",
        "mira/abstracts:q4_K_M",
        "Shorten this.",
        "We ask how much is lost.",
    ),
    ("Names for the corpus", "llama3.2:3b", "Ten short names, please.", "Ten names that are free."),
    ("Error bars for the paper", "qwen3:8b", "How do I report the spread of four runs?", _CODE),
)
_KEYS: Final = (
    ("laptop", (Scope.USE, Scope.READ), (), 90),
    ("nightly evaluation", (Scope.USE,), ("qwen3*", "mira/*"), 30),
    ("editor plugin", (Scope.USE, Scope.READ), (), None),
    ("poster demo, June", (Scope.USE,), ("gemma3*",), 3),
)


def main() -> None:
    """Fill the site."""
    chance = random.Random(7)  # noqa: S311 - for pictures
    people = {name: create_user(name, PASSWORD) for name in (OWNER, *_PEOPLE)}
    for name, about, members in _TEAMS:
        teams.create_team(name, description=about, owner=members[0], by=None)
        for member in members[1:]:
            teams.set_member(name, member, TeamRole.MEMBER, by=None)
    for name, size, context, capabilities, owner in _MODELS:
        owner_id = people[owner].pk if owner else None
        add_model(
            name,
            owner_id=owner_id,
            size_bytes=size,
            context_length=context,
            capabilities=capabilities,
        )
    made = life.fill(people[OWNER], count=1)[0]
    Job.objects.all().delete()
    made |= {"team": "linguistics", "model": "mira/notes-0", "job": f"{100:032x}"}
    LanguageModel.objects.filter(namespace="mira").update(visibility="team")
    made["chat"] = _make_chats(people[OWNER])
    made["secret"] = keys.create_key(people["jonas"], "plates")[1]
    own = _make_keys(people[OWNER])
    made["key"] = own[0].prefix
    _make_jobs(people[OWNER])
    _limit(OWNER)
    made["request"] = _use_for_a_year(chance, people, own)
    sys.stdout.write(msgspec.json.encode(made).decode())


def _make_chats(owner: User) -> str:
    """Make chats, two of them in a folder; return the id of the last one."""
    folder = chats.create_folder(principal_of_user(owner, CredentialKind.SESSION), "Grant proposal")
    shown = ""
    for number, (title, model, question, answer) in enumerate(_CHATS):
        texts = {"title": title, "question": question, "answer": answer}
        place = folder.folder_id if number < 2 else ""
        shown = life.make_chat(owner, model, partial(_text, texts), place, is_plain=True)
    return shown


def _text(texts: dict[str, str], place: str) -> str:
    return texts.get(place, "")


def _make_keys(owner: User) -> list[ApiKey]:
    made = []
    for name, scopes, models, days in _KEYS:
        until = timezone.now() + timedelta(days=days) if days else None
        rules = keys.KeyRules(scopes=scopes, models=models, expires_at=until)
        made.append(keys.create_key(owner, name, rules)[0])
    return made


def _make_jobs(owner: User) -> None:
    now = timezone.now()
    total = 5_225_388_164
    error = {
        "code": "upstream_failed",
        "status": 502,
        "message": "hub.lab did not answer within 30 s",
    }
    rows: tuple[tuple[JobKind, str, JobState, float, int], ...] = (
        (JobKind.PULL, "qwen3:14b", JobState.RUNNING, 0.42, 2),
        (JobKind.QUANTIZE, "mira/abstracts:q4_K_M", JobState.SUCCEEDED, 1.0, 95),
        (JobKind.CREATE, "mira/notes-0", JobState.SUCCEEDED, 1.0, 180),
        (JobKind.PULL, "hub.lab/vision/plates:7b", JobState.FAILED, 0.13, 1500),
        (JobKind.PUSH, "mira/abstracts:q4_K_M", JobState.CANCELLED, 0.6, 2900),
    )
    for number, (kind, name, state, share, minutes) in enumerate(rows):
        began = now - timedelta(minutes=minutes)
        is_running = state == JobState.RUNNING
        done = int(total * share)
        digest = f"sha256:{number:064x}"
        event = {"status": f"{kind}ing", "digest": digest, "total": total, "completed": done}
        Job.objects.create(
            job_id=f"{number + 100:032x}",
            kind=kind,
            state=state,
            owner=owner,
            model_name=name,
            share_key=f"{number + 100:064x}",
            arguments="{}",
            is_detached=True,
            events=msgspec.json.encode([event]).decode(),
            version=9,
            total_bytes=total,
            completed_bytes=done,
            bytes_per_s=41_000_000 if is_running else 0,
            error=error if state == JobState.FAILED else None,
            attempt=1,
            created_at=began,
            started_at=began,
            heartbeat_at=now,
            ended_at=None if is_running else began + timedelta(minutes=2),
        )


def _limit(name: str) -> None:
    for unit, period, amount in (("tokens", "day", 400_000), ("requests", "minute", 60)):
        limit_rules.put_rule(
            None,
            limit_rules.NewRule(subject="user", name=name, unit=unit, period=period, amount=amount),
        )


def _use_for_a_year(chance: random.Random, people: dict[str, User], own: list[ApiKey]) -> str:
    """Write down what everybody has asked, working days most; return the id of one request."""
    models = [name for name, *_ in _MODELS]
    ended: list[tuple[Begin, End]] = []
    today = timezone.now()
    for day in range(_DAYS):
        at = today - timedelta(days=day)
        is_weekend = at.weekday() >= 5
        for person in people.values():
            share = (6 if person.username == OWNER else 2) * (0.2 if is_weekend else 1)
            share *= 0.6 + 0.4 * (_DAYS - day) / _DAYS
            for _ in range(int(chance.expovariate(1 / share))):
                key = chance.choice([*own, None]) if person.username == OWNER else None
                ended.append(_request(chance, len(ended), at, person, chance.choice(models), key))
    ledger.write(ended)
    return next(begin.request_id for begin, _ in ended if begin.user_name == OWNER)


def _request(
    chance: random.Random, number: int, day: datetime, person: User, model: str, key: ApiKey | None
) -> tuple[Begin, End]:
    at = day - timedelta(minutes=chance.randrange(20, 600))
    at_us = int(at.timestamp() * _US_PER_S)
    tokens = chance.randrange(40, 900)
    figures = Figures(
        tokens_in=chance.randrange(30, 1600),
        tokens_out=tokens,
        tokens_cached=chance.randrange(0, 30),
        queue_us=chance.randrange(200, 900_000),
        prefill_us=chance.randrange(20_000, 700_000),
        decode_us=tokens * 24_000,
        compute_us=tokens * 25_000,
    )
    begin = Begin(
        request_id=f"shown-{number}",
        at_us=at_us,
        user_id=person.pk,
        user_name=person.username,
        key_id=key.pk if key else 0,
        key_name=key.name if key else "",
        credential="key" if key else "session",
        model_name=model,
        model_digest="d" * 64,
        dialect=chance.choice(("native", "openai", "openai", "anthropic")),
        kind="embed" if "embed" in model else "chat",
        priority="interactive",
        parameters={"temperature": 0.2, "num_ctx": 8192},
        seed=number,
    )
    outcome = "failed" if chance.random() < 0.01 else "done"
    lasts_us = figures.queue_us + figures.prefill_us + figures.decode_us
    end = End(
        request_id=f"shown-{number}", at_us=at_us + lasts_us, outcome=outcome, figures=figures
    )
    return begin, end


if __name__ == "__main__":
    main()
