"""The policy table is what the site does: each route × credential × role is tried.

What is expected of a cell is worked out from `models_app.policy` and the principal alone; what
comes is what the whole ASGI application answers. All pairs of route, method, credential and role
are there, and every role with every credential that is somebody's at the first method of each kind
of access of a route; a credential that is nobody's has no role, nor has a key where sessions alone
get in, and the other three ways to send a key are compared with Bearer. Objects are the business
of test_things.
"""

import logging
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

import pytest
from asgiref.sync import sync_to_async

from models_app import nodes, policy, principal_cache
from models_app.demands import Demand, Thing, refusal
from models_app.permissions import Principal
from ollamasite.error_responses import Dialect, dialect_of
from tests.access.cells import Cell, admin_routes, cells
from tests.access.presented import KEY_WAYS, Person, Role, Shown, make_person
from tests.fakes.http import Answer, AsgiClient

UNAUTHENTICATED, FORBIDDEN, NO_ENGINE = 401, 403, 503
SAFE = {"GET", "HEAD"}
WITH_TOKEN = {Shown.SESSION, Shown.LEFT_SESSION}
# What is asked where a request names no thing.
OF_THE_SITE = {Demand.ADMIN, Demand.INVITER}
ALL = cells()
PARTS = sorted({cell.route.split("/")[0] for cell in ALL if not cell.route.startswith("api/")})
# Whoever is told this has been let in.
ASKED_FURTHER_IN = ("the password is wrong", "a key cannot give more than")
# Answers that are not the same a moment later.
MOVING = {"api/keys", "api/me", "api/audit", "api/status", "api/usage", "api/me/export", "v2/token"}


@pytest.fixture
def people(transactional_db: None) -> dict[Role, Person]:
    """One of each role."""
    made = {role: make_person(role) for role in Role}
    principal_cache.forget_all()
    return made


def expected(cell: Cell, shown: Shown, principal: Principal | None) -> int | None:
    """Return the status with which the table refuses; None: the view has its say."""
    rule = policy.rule_of(cell.route)
    if not rule.is_open(cell.method):
        if principal is None:
            return UNAUTHENTICATED
        if not rule.admits(principal, cell.method):
            return FORBIDDEN
    if cell.wants_token and cell.method not in SAFE and shown not in WITH_TOKEN:
        return FORBIDDEN  # a form without its CSRF token
    if principal and rule.demand(cell.method) in OF_THE_SITE:
        return refusal(rule.demand(cell.method), principal, Thing())
    return None


def refused(answer: Answer) -> int | None:
    """Return the status of a refusal; a page's is the way to sign in."""
    is_sent_away = answer.headers.get("location", "").startswith("/signin")
    status = UNAUTHENTICATED if is_sent_away else answer.status
    if any(words in answer.text for words in ASKED_FURTHER_IN):
        return None
    return status if status in {UNAUTHENTICATED, FORBIDDEN} else None


def principal_shown(person: Person, cell: Cell, shown: Shown) -> Principal | None:
    """Return who a credential makes of somebody; pages take a session's cookie for what it is.

    A token is asked for with a signature of another text, so that none can be had by a request.
    """
    if shown is Shown.SIGNATURE and cell.route == "v2/token":
        return None
    if shown is Shown.NO_CSRF and dialect_of(cell.path) is Dialect.PAGE:
        return person.principals[Shown.SESSION]
    return person.principals.get(shown)


async def ask(person: Person, cell: Cell, shown: Shown) -> Answer:
    path = cell.path_for(person.holder.user.username)
    path, headers = person.request(shown, cell.method, path)
    body = b"{}" if cell.method not in SAFE else b""
    answer = await AsgiClient(headers).request(cell.method, path, body=body)
    if cell.route == "sessions/end-others" and cell.method == "POST":
        await sync_to_async(sign_in_again)(person)
    return answer


def sign_in_again(person: Person) -> None:
    """Have somebody signed in whose session goes on by another key, or is over."""
    person.holder.user.refresh_from_db()
    person.holder.browser.force_login(person.holder.user)


def of_part(part: str) -> Iterator[Cell]:
    for cell in ALL:
        first, _, rest = cell.route.partition("/")
        if part == (f"api/{rest.split('/')[0]}" if first == "api" else first):
            yield cell


API_PARTS = sorted(
    {"/".join(cell.route.split("/")[:2]) for cell in ALL if cell.route[:4] == "api/"}
)
PAGE_PARTS = [part for part in PARTS if part not in {"v1", "v2"}]
GROUPS = {
    **{f"pages {number}": PAGE_PARTS[number::3] for number in range(3)},
    "v1": ["v1"],
    "v2": ["v2"],
    **{f"api {number}": API_PARTS[number::5] for number in range(5)},
}


@pytest.fixture
def no_log() -> Iterator[None]:
    """Thousands of refusals are not worth a line each."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def tried(cell: Cell, number: int) -> Iterator[tuple[Shown, Role]]:
    """Tell which credentials of which roles to try, the roles in turn where they do not matter."""
    is_first = is_first_of_its_kind(cell)
    is_routes_first = next(other for other in ALL if other.route == cell.route) == cell
    for shown in Shown:
        turn = number + shown.value[0]
        is_like_another = shown in KEY_WAYS[1:] or not is_told_apart(cell, shown)
        if is_first and not is_like_another:
            yield from ((shown, role) for role in Role)
        elif is_routes_first or turn % 4 == 0 or shown in {Shown.NONE, Shown.BEARER}:
            yield shown, list(Role)[turn % len(Role)]


def is_told_apart(cell: Cell, shown: Shown) -> bool:
    """Whether who shows a credential may make a difference, going by the table's words alone."""
    rule = policy.rule_of(cell.route)
    is_sessions = rule.is_for_sessions and rule.access is policy.Access.SIGNED_IN
    is_refused = is_sessions and not rule.is_open(cell.method) and shown is not Shown.SESSION
    return shown.is_somebody and not is_refused


def is_first_of_its_kind(cell: Cell) -> bool:
    """Whether no method before it is let in by the same credentials."""
    kinds = {other.method: kind_of(other) for other in ALL if other.route == cell.route}
    same = [method for method, kind in kinds.items() if kind == kinds[cell.method]]
    return cell.method == same[0]


def kind_of(cell: Cell) -> tuple[Any, ...]:
    rule = policy.rule_of(cell.route)
    is_reading = cell.method in SAFE and rule.access is policy.Access.AUDITOR
    is_admins = rule.demand(cell.method) in OF_THE_SITE
    is_change = cell.method in rule.changing_methods | rule.account_methods
    is_unlimited = cell.method in rule.unlimited_methods
    return rule.is_open(cell.method), is_reading, is_change, is_unlimited, is_admins


@pytest.mark.parametrize("group", GROUPS)
async def test_every_credential_of_every_role_gets_what_the_table_says(
    people: dict[Role, Person], no_log: None, group: str
) -> None:
    wrong = {}
    for number, cell in enumerate(cell for part in GROUPS[group] for cell in of_part(part)):
        wrong.update(await tell_wrong(people, cell, number))
        if cell.route == "signout":
            for person in people.values():
                await sync_to_async(person.holder.browser.force_login)(person.holder.user)

    assert wrong == {}


async def tell_wrong(people: dict[Role, Person], cell: Cell, number: int) -> dict[Any, str]:
    """Return what is not as it should be, by request, role and credential."""
    wrong = {}
    answers: dict[tuple[Shown, Role], Answer] = {}
    for shown, role in tried(cell, number):
        answer = answers[shown, role] = await ask(people[role], cell, shown)
        wanted = expected(cell, shown, principal_shown(people[role], cell, shown))
        bearers = answers.get((Shown.BEARER, role))
        if refused(answer) != wanted or is_broken(answer):
            told = f"{answer.status}, not {wanted}: {answer.text[:80]}"
            wrong[cell.method, cell.path, role.value, shown.name] = told
        elif shown in KEY_WAYS and bearers and not are_alike(cell, [bearers, answer]):
            wrong[cell.method, cell.path, role.value, shown.name] = "not as with Bearer"
    return wrong


def is_broken(answer: Answer) -> bool:
    """Whether an answer is an error of the site; that there is no engine is none."""
    return answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR and answer.status != NO_ENGINE


def are_alike(cell: Cell, answers: list[Answer]) -> bool:
    """Whether the same key got the same answer, however it was presented."""
    is_page = dialect_of(cell.path) is Dialect.PAGE  # each with a token of its own
    is_text_told = cell.method == "GET" and cell.route not in MOVING and not is_page
    texts = {
        answer.text.replace(answer.headers.get("x-request-id", "-"), "") if is_text_told else ""
        for answer in answers
    }
    return len({answer.status for answer in answers}) == len(texts) == 1


def test_the_matrix_has_every_row_of_the_table() -> None:
    grouped = {cell.route for parts in GROUPS.values() for part in parts for cell in of_part(part)}

    assert grouped == policy.ROUTES.keys()


async def test_token_of_a_node_opens_its_own_two_routes_and_no_other(
    transactional_db: None, no_log: None
) -> None:
    """Wherever one is let in without a credential, it is as good as none."""
    token = await sync_to_async(nodes.allow)("gpu1", by=None)
    node = AsgiClient({"authorization": f"Bearer {token}"})
    let_in, wrong = set(), {}
    for cell in ALL:
        answer = await node.request(cell.method, cell.path_for("gpu1"), body=b"")
        rule = policy.rule_of(cell.route)
        if rule.access is policy.Access.NODE:
            let_in.add(cell.route)
            is_right = refused(answer) is None
        else:
            is_right = rule.is_open(cell.method) or refused(answer) is not None
        if not is_right or is_broken(answer):
            wrong[cell.method, cell.path] = answer.status

    assert wrong == {}
    assert let_in == {"api/nodes/join", "api/nodes/blobs/<str:digest>"}


async def test_only_staff_that_has_signed_in_gets_into_the_admin_panel(
    people: dict[Role, Person], no_log: None
) -> None:
    wrong = {}
    for number, route in enumerate(admin_routes()):
        cell = Cell(route, "GET", "/" + route.translate(str.maketrans("", "", "<>:")))
        turn = list(Role)[number % len(Role)]
        for shown, role in (
            (Shown.NONE, turn),
            (KEY_WAYS[number % 3], turn),
            (Shown.SESSION, Role.USER),
        ):
            answer = await ask(people[role], cell, shown)
            wanted = expected(cell, shown, people[role].principals.get(shown))
            if refused(answer) != wanted or wanted is None:
                wrong[cell.path, role.value, shown.name] = answer.status

    assert wrong == {}


@pytest.mark.parametrize("role", [Role.OPERATOR, Role.AUDITOR, Role.ADMIN])
async def test_staff_gets_to_the_first_page_of_the_admin_panel(
    people: dict[Role, Person], role: Role
) -> None:
    answer = await ask(people[role], Cell("admin/", "GET", "/admin/"), Shown.SESSION)

    assert answer.status == 200
