"""The list of models, as the server writes it."""

import html
import re
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.test import AsyncClient, Client
from pytest_django import DjangoAssertNumQueries

from inference.pages import model_list
from models_app.models import Alias, LanguageModel, User, Visibility
from models_app.permissions import TeamRole
from models_app.teams import create_team, set_member
from registry import manifests
from tests.conftest import MakeModel
from tests.model_layers import add_layer
from tests.pages.catalogue import STARTER, add_model
from tests.pages.test_home import load, node

__all__ = ["node"]


def cards(page: Any) -> list[str]:
    """Return the names on the cards, in order."""
    return re.findall(
        r'<h2 class="model-name">\s*<a href="[^"]*">([^<]*)</a>', page.content.decode()
    )


def card(page: Any, name: str) -> str:
    """Return the words of a card, single-spaced."""
    found = re.search(
        rf'<li class="card model-card">(?:(?!</li>).)*?>{re.escape(name)}</a>.*?</li>',
        page.content.decode(),
        re.DOTALL,
    )
    assert found
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", found[0])).split())


def test_stranger_is_sent_to_the_sign_in_page(browser: Client, db: None) -> None:
    assert browser.get("/models")["Location"] == "/signin?next=%2Fmodels"


def test_card_says_what_one_chooses_by(as_bob: Client) -> None:
    add_model(STARTER, capabilities=("completion", "tools"))
    words = card(as_bob.get("/models"), STARTER)
    assert "Chat Tools" in words
    assert "Size 145 MB Parameters 134.52M Quantization Q4_1 Context 8K License –" in words
    assert "Library" in words
    assert "just now" in words


def test_others_private_models_are_not_there(as_bob: Client, alice: User) -> None:
    add_model("alice/private:latest", owner_id=alice.pk)
    assert "alice/private" not in as_bob.get("/models?q=private").content.decode()


def test_what_others_share_is_there(as_bob: Client, alice: User) -> None:
    add_model("alice/open:latest", owner_id=alice.pk)
    LanguageModel.objects.update(visibility=Visibility.EVERYONE)
    assert cards(as_bob.get("/models?whose=others")) == ["alice/open:latest"]


def test_list_is_narrowed_by_whose_a_model_is(as_bob: Client, bob: User) -> None:
    create_team("vision", by=None)
    set_member("vision", "bob", TeamRole.VIEWER, by=None)
    add_model(STARTER)
    add_model("bob/own:latest", owner_id=bob.pk)
    add_model("vision/base:latest")
    LanguageModel.objects.filter(name="base").update(
        team=bob.memberships.get().team, visibility="team"
    )
    assert cards(as_bob.get("/models?whose=mine")) == ["bob/own:latest"]
    assert cards(as_bob.get("/models?whose=team")) == ["vision/base:latest"]
    assert cards(as_bob.get("/models?whose=library")) == [STARTER]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("q=SMOL", [STARTER]),
        ("q=q4_1+qwen", ["qwen3:8b"]),
        ("q=llama", ["qwen3:8b", STARTER]),  # the family of both
        ("q=nothing+like+it", []),
        ("capability=vision", ["qwen3:8b"]),
        ("capability=embedding", []),
        ("capability=nonsense", ["qwen3:8b", STARTER]),
        ("sort=size", [STARTER, "qwen3:8b"]),
        ("sort=name", ["qwen3:8b", STARTER]),
        ("sort=nonsense&page=-1&whose=x", ["qwen3:8b", STARTER]),
        ("page=99999999999999999999", ["qwen3:8b", STARTER]),
        ("loaded=1", []),
        ("q=%00", ["qwen3:8b", STARTER]),
    ],
)
def test_list_is_searched_filtered_and_ordered(
    as_bob: Client, query: str, found: list[str]
) -> None:
    add_model(STARTER)
    add_model("qwen3:8b", size_bytes=100_000, capabilities=("completion", "vision"))
    assert cards(as_bob.get(f"/models?{query}")) == found


def test_what_was_asked_stays_in_the_form(as_bob: Client) -> None:
    add_model(STARTER)
    text = as_bob.get('/models?q="><b>x&capability=tools&loaded=1&sort=name').content.decode()
    assert 'value="&quot;&gt;&lt;b&gt;x"' in text
    assert re.search(r'value="tools"\s+selected', text)
    assert re.search(r'value="name"\s+selected', text)
    assert re.search(r'name="loaded"\s+value="1"\s+checked', text)


def test_nothing_found_leads_back_to_all(as_bob: Client) -> None:
    add_model(STARTER)
    text = as_bob.get("/models?q=zzz").content.decode()
    assert "No model is like that. There are 1 in all." in text
    assert '<a class="button button-small button-calm" href="/models">Show all</a>' in text


def test_no_model_at_all_says_the_next_step(as_bob: Client) -> None:
    text = as_bob.get("/models").content.decode()
    assert "There is no model for you yet" in text
    assert "Pull one from a registry" in text


def test_long_list_has_pages_that_keep_the_search(as_bob: Client) -> None:
    count = model_list.PAGE_SIZE + 2
    for number in range(count):
        add_model(f"many-{number:03}:latest")
    first = as_bob.get("/models?q=many&sort=name")
    assert len(cards(first)) == model_list.PAGE_SIZE
    assert f"1 to {model_list.PAGE_SIZE} of {count} models" in first.content.decode()
    assert 'href="/models?q=many&amp;sort=name&amp;page=2"' in first.content.decode()
    second = as_bob.get("/models?q=many&sort=name&page=2")
    assert cards(second) == [f"many-{count - 2:03}:latest", f"many-{count - 1:03}:latest"]
    assert 'rel="prev"' in second.content.decode()


@pytest.mark.parametrize("count", [1, 40])
def test_number_of_queries_does_not_grow_with_the_models(
    as_bob: Client, count: int, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    for number in range(count):
        add_model(f"model-{number}:latest")
    as_bob.get("/models")  # the session's first page writes when it was last used
    # session, user, teams; models, aliases, whose they are, licences
    with django_assert_num_queries(7):
        as_bob.get("/models")


def test_license_is_told_by_its_layer(as_bob: Client, make_model: MakeModel) -> None:
    name = make_model("licensed")
    add_layer(name, manifests.LICENSE, b"\n\n  Apache License\n  Version 2.0\n")
    assert "License Apache 2.0" in card(as_bob.get("/models"), name)


def test_license_may_be_anything_and_is_cut(as_bob: Client, make_model: MakeModel) -> None:
    name = make_model("licensed")
    add_layer(name, manifests.LICENSE, b"<script>alert(1)</script>" + b"x" * 100_000)
    text = as_bob.get("/models").content.decode()
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "x" * 40 not in text


def test_alias_is_marked(as_bob: Client) -> None:
    add_model(STARTER)
    Alias.objects.create(name="gpt-4o-mini:latest", target=STARTER)
    assert "Alias" in card(as_bob.get("/models"), "gpt-4o-mini:latest")


def test_model_behind_ones_own_of_the_same_name_can_be_opened(as_bob: Client, bob: User) -> None:
    add_model(STARTER)
    add_model(f"bob/{STARTER}", owner_id=bob.pk)
    text = as_bob.get("/models").content.decode()
    assert f'href="/models/library/{STARTER}"' in text
    assert f'href="/models/bob/{STARTER}"' in text


def test_tag_behind_ones_own_of_the_same_name_can_be_opened(as_bob: Client, bob: User) -> None:
    add_model("smollm2:latest")
    add_model(STARTER)
    add_model(f"bob/{STARTER}", owner_id=bob.pk)
    text = as_bob.get("/models/smollm2:latest").content.decode()
    assert f'href="/models/library/{STARTER}"' in text
    assert f'href="/models/{STARTER}"' not in text


def test_page_cannot_be_posted_to(as_bob: Client) -> None:
    as_bob.get("/models")
    token = as_bob.cookies["csrftoken"].value
    answer = as_bob.post("/models", {"csrfmiddlewaretoken": token})
    assert (answer.status_code, answer["Allow"]) == (405, "GET, HEAD")


@pytest.mark.django_db(transaction=True)
async def test_what_is_in_memory_is_marked_and_found(node: Any) -> None:
    digest = await sync_to_async(add_model)(STARTER)
    await sync_to_async(add_model)("other:latest")
    await load(node, digest)
    user = await sync_to_async(User.objects.create_user)("bob")
    client = AsyncClient(headers={"accept": "text/html"})
    await client.aforce_login(user)
    page = await client.get("/models?loaded=1")
    assert cards(page) == [STARTER]
    assert "In memory" in card(page, STARTER)
