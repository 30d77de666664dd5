"""Chats as they are kept: whose they are, their branches, their bounds, lost answers."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from models_app import chat_list, chat_messages, chats, own_data
from models_app.chat_messages import Added, AnswerSoFar, NewImage, NewMessages
from models_app.chats import ChatSettings
from models_app.errors import (
    ChatFolderNotFound,
    ChatImageNotFound,
    ChatMessageNotFound,
    ChatNotFound,
    ChatsFull,
    TooManyAnswers,
)
from models_app.models import Chat, ChatFolder, ChatImage, ChatMessage, User
from models_app.permissions import CredentialKind, Principal
from models_app.principals import principal_of_user
from ollamasite.errors import BadRequest, Conflict

PROCESS = "here"


@pytest.fixture
def alice(db: None) -> User:
    return User.objects.create_user("alice")


@pytest.fixture
def owner(alice: User) -> Principal:
    return principal_of_user(alice, CredentialKind.SESSION)


@pytest.fixture
def stranger(db: None) -> Principal:
    admin = User.objects.create_user("mallory", is_superuser=True, is_staff=True)
    return principal_of_user(admin, CredentialKind.SESSION)


def ask(owner: Principal, text: str = "Hi", **fields: Any) -> Added:
    new = NewMessages(role="user", text=text, process=PROCESS, **fields)
    return chat_messages.add_messages(owner, new)


def end(added: Added, text: str = "Yes.", state: str = "done") -> bool:
    so_far = AnswerSoFar(
        message_id=added.answer_id, text=text, thinking="", calls="[]", version=1, state=state
    )
    return bool(chat_messages.save_answers(PROCESS, [so_far]))


def asked(owner: Principal, text: str = "Hi", **fields: Any) -> Added:
    added = ask(owner, text, **fields)
    end(added)
    return added


def texts(owner: Principal, chat_id: str) -> list[str]:
    return [record.text for record in chat_messages.read_branch(owner, chat_id)[1]]


def test_first_line_of_the_first_question_is_the_title(owner: Principal) -> None:
    added = ask(owner, "\n  What   is\tthis? \nmore")

    assert chats.find_chat(owner, added.chat_id).title == "What is this?"


@pytest.mark.parametrize("text", ["x" * 500, "é" * 201, "a\0" * 300])
def test_title_is_bounded(owner: Principal, text: str) -> None:
    title = chats.find_chat(owner, ask(owner, text).chat_id).title

    assert (len(title), title[-1]) == (chats.MAX_TITLE, "…")
    assert "\0" not in title


def test_nul_reaches_no_database(owner: Principal) -> None:
    added = ask(owner, "a\0b", settings=ChatSettings(model_name="m\0", system="\0"))
    end(added, "c\0d")

    assert texts(owner, added.chat_id) == ["a\ufffdb", "c\ufffdd"]
    assert len(chat_list.list_chats(owner, query="\0").chats) == 1


def test_branch_is_shown_to_its_head(owner: Principal) -> None:
    one = asked(owner, "one")
    two = asked(owner, "two", chat_id=one.chat_id, parent=one.answer_id)
    other = asked(owner, "other", chat_id=one.chat_id, parent=one.answer_id)

    assert texts(owner, one.chat_id) == ["one", "Yes.", "other", "Yes."]
    chat_messages.set_head(owner, one.chat_id, two.question_id)
    assert texts(owner, one.chat_id) == ["one", "Yes.", "two", "Yes."]
    _, branch = chat_messages.read_branch(owner, one.chat_id)
    assert branch[2].siblings == (two.question_id, other.question_id)


def test_head_is_the_newest_leaf_below(owner: Principal) -> None:
    one = asked(owner, "one")
    two = asked(owner, "two", chat_id=one.chat_id, parent=one.answer_id)
    again = chat_messages.add_messages(
        owner, NewMessages(chat_id=one.chat_id, parent=one.question_id, process=PROCESS)
    )
    assert chat_messages.newest_leaf(owner, one.chat_id, one.question_id) == again.answer_id
    assert chat_messages.newest_leaf(owner, one.chat_id, one.answer_id) == two.answer_id


@pytest.mark.parametrize("count", [2, 60])
def test_reading_a_branch_asks_as_often_however_long_it_is(
    owner: Principal, count: int, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    added = asked(owner)
    for _ in range(count):
        added = asked(owner, chat_id=added.chat_id, parent=added.answer_id)
    with django_assert_num_queries(4):  # chat, tree, messages, images
        _, branch = chat_messages.read_branch(owner, added.chat_id)
    assert len(branch) == 2 * count + 2


@pytest.mark.parametrize("count", [3, 45])
def test_listing_asks_as_often_however_many_there_are(
    owner: Principal, count: int, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    for number in range(count):
        folder = chats.create_folder(owner, f"folder {number}")
        chats.move_chat(owner, asked(owner).chat_id, folder.folder_id)
        asked(owner)
    with django_assert_num_queries(4):  # pinned, page, running; folders
        page = chat_list.list_chats(owner)
        folders = chat_list.folders_of(owner)
    assert (len(page.chats), len(folders)) == (count, count)


def test_list_is_read_in_pages_the_newest_first(owner: Principal) -> None:
    made = [asked(owner, str(number)).chat_id for number in range(120)]
    # Those of one moment have an order too.
    Chat.objects.filter(title__startswith="1").update(updated_at=timezone.now())
    found: list[str] = []
    before = ""
    for _ in range(3):
        page = chat_list.list_chats(owner, before=before)
        found += [chat.chat_id for chat in page.chats]
        before = page.before

    assert (before, len(found), set(found)) == ("", 120, set(made))


PLACES = (
    "x",
    "_",
    "2026-01-01_x",
    "x_1",
    "2026-01-01T00:00:00_9",
    "\0_1",
    "0001-01-01T00:00:00+14:00_1",
    "9999-12-31T23:59:59-14:00_1",
)


@pytest.mark.parametrize("before", PLACES)
def test_place_that_makes_no_sense_is_no_error(owner: Principal, before: str) -> None:
    asked(owner)

    assert len(chat_list.list_chats(owner, before=before).chats) <= 1


def test_search_finds_titles_and_texts_of_ones_own(owner: Principal, stranger: Principal) -> None:
    one = ask(owner, "Where is Paris?")
    end(one, "In France.")
    asked(owner, "something else")
    asked(stranger, "France")

    for query in ("paris", "FRANCE", " where is "):
        found = chat_list.list_chats(owner, query=query).chats
        assert [chat.chat_id for chat in found] == [one.chat_id], query
    assert chat_list.list_chats(owner, query="100%").chats == ()


def test_folders_hold_chats_and_leave_them_behind(owner: Principal) -> None:
    folder = chats.create_folder(owner, "  Work  ")
    added = asked(owner, folder_id=folder.folder_id)

    assert chat_list.list_chats(owner).chats == ()
    assert [c.chat_id for c in chat_list.list_chats(owner, folder_id=folder.folder_id).chats] == [
        added.chat_id
    ]
    assert [(f.name, f.count) for f in chat_list.folders_of(owner)] == [("Work", 1)]
    chats.rename_folder(owner, folder.folder_id, "Play")
    chats.delete_folder(owner, folder.folder_id)
    assert chats.find_chat(owner, added.chat_id).folder_id == ""


def test_pinned_chats_are_on_top_of_the_first_page(owner: Principal) -> None:
    added = asked(owner)
    asked(owner)
    chats.pin_chat(owner, added.chat_id, is_pinned=True)
    page = chat_list.list_chats(owner)

    assert [chat.chat_id for chat in page.pinned] == [added.chat_id]
    assert added.chat_id not in [chat.chat_id for chat in page.chats]


def test_folder_is_named_once_and_not_nothing(owner: Principal) -> None:
    chats.create_folder(owner, "Work")
    with pytest.raises(Conflict):
        chats.create_folder(owner, "Work")
    for name in ("", " \n", "x" * 101):
        with pytest.raises(BadRequest):
            chats.create_folder(owner, name)


def acts_on_chat(who: Principal, chat: str, message: str) -> list[Callable[[], object]]:
    """Return all that names a chat."""
    return [
        lambda: chats.find_chat(who, chat),
        lambda: chats.rename_chat(who, chat, "x"),
        lambda: chats.pin_chat(who, chat, is_pinned=True),
        lambda: chats.move_chat(who, chat, ""),
        lambda: chats.set_settings(who, chat, ChatSettings()),
        lambda: chats.delete_chat(who, chat),
        lambda: chat_messages.read_branch(who, chat),
        lambda: chat_messages.read_tree(who, chat),
        lambda: chat_messages.set_head(who, chat, message),
        lambda: ask(who, chat_id=chat, parent=message),
    ]


@pytest.mark.parametrize("which", ["there", "not there", "nonsense"])
def test_nobody_else_can_tell_that_a_chat_exists(
    owner: Principal, stranger: Principal, which: str
) -> None:
    image = NewImage(name="a", media_type="image/png", data=b"x")
    folder = chats.create_folder(owner, "Work").folder_id
    added = asked(owner, images=(image,), folder_id=folder)
    image_id = ChatImage.objects.get().image_id
    there = (added.chat_id, added.answer_id, image_id, folder)
    names = {"there": there, "not there": ("0" * 32,) * 4, "nonsense": ("x\0",) * 4}
    chat, message, picture, place = names[which]

    for act in acts_on_chat(stranger, chat, message):
        with pytest.raises(ChatNotFound):
            act()
    with pytest.raises(ChatMessageNotFound):
        chat_messages.find_message(stranger, message)
    with pytest.raises(ChatMessageNotFound):
        chat_messages.ask_to_stop(stranger, message)
    with pytest.raises(ChatImageNotFound):
        chat_messages.find_image(stranger, picture)
    with pytest.raises(ChatFolderNotFound):
        chats.rename_folder(stranger, place, "x")
    with pytest.raises(ChatFolderNotFound):
        ask(stranger, folder_id=place)
    assert chat_messages.read_images(stranger, [image_id]) == {}
    assert (chat_list.list_chats(stranger).chats, chat_list.folders_of(stranger)) == ((), [])
    assert chat_messages.find_image(owner, image_id).data == b"x"


def test_message_of_another_chat_is_no_parent(owner: Principal) -> None:
    one, two = asked(owner), asked(owner)
    with pytest.raises(ChatMessageNotFound):
        ask(owner, chat_id=one.chat_id, parent=two.answer_id)
    with pytest.raises(ChatMessageNotFound):
        chat_messages.set_head(owner, one.chat_id, two.answer_id)


def test_full_chats_take_nothing_more(owner: Principal, settings: Any) -> None:
    settings.CHATS_BYTES = 20_000
    added = asked(owner, "x" * 10_000)
    with pytest.raises(ChatsFull):
        ask(owner, "x" * 10_000)
    assert Chat.objects.count() == 1
    chats.delete_chat(owner, added.chat_id)
    asked(owner, "x" * 10_000)


def test_answers_and_images_count_as_well(owner: Principal) -> None:
    image = NewImage(name="a", media_type="image/png", data=b"x" * 5_000)
    added = ask(owner, images=(image,))
    before = Chat.objects.get().size_bytes
    end(added, "y" * 3_000)

    assert before > 5_000
    assert Chat.objects.get().size_bytes >= before + 3_000


def test_settings_count_as_well(owner: Principal, settings: Any) -> None:
    chat_id = asked(owner, settings=ChatSettings(system="s" * 2000)).chat_id
    chats.set_settings(owner, chat_id, ChatSettings(system="s" * 3000))
    settings.CHATS_BYTES = Chat.objects.get().size_bytes + 500

    with pytest.raises(ChatsFull):
        chats.set_settings(owner, chat_id, ChatSettings(system="s" * 3000, tools="t" * 1000))
    with pytest.raises(ChatsFull):
        ask(owner, settings=ChatSettings(system="s" * 1000))
    chats.set_settings(owner, chat_id, ChatSettings())
    assert ask(owner, settings=ChatSettings(system="s" * 1000)).chat_id != chat_id
    assert Chat.objects.get(chat_id=chat_id).size_bytes < 3000


def test_number_of_chats_is_bounded(owner: Principal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat_messages, "MAX_CHATS", 1)
    added = asked(owner)
    with pytest.raises(ChatsFull):
        ask(owner)
    asked(owner, chat_id=added.chat_id)


def test_number_of_running_answers_is_bounded(owner: Principal, stranger: Principal) -> None:
    running = [ask(owner) for _ in range(chat_messages.MAX_RUNNING)]
    with pytest.raises(TooManyAnswers):
        ask(owner)
    ask(stranger)
    end(running[0])
    ask(owner)


@pytest.mark.parametrize(
    "since",
    [timedelta(seconds=chat_messages.SILENCE_S + 1), -timedelta(hours=1)],
    ids=["silent", "the clock was set back"],
)
def test_lost_answers_do_not_count_and_end_when_they_are_seen(
    owner: Principal, since: timedelta
) -> None:
    running = [ask(owner) for _ in range(chat_messages.MAX_RUNNING)]
    long_ago = timezone.now() - since
    ChatMessage.objects.filter(state="running").update(beat_at=long_ago, text="So far")
    ask(owner)
    _, branch = chat_messages.read_branch(owner, running[0].chat_id)

    assert (branch[-1].state, branch[-1].text, branch[-1].version) == ("interrupted", "So far", 1)
    assert "stopped while" in branch[-1].error
    assert not end(running[0])  # the process was only slow: too late


def test_row_that_has_ended_is_not_written_to(owner: Principal) -> None:
    added = ask(owner)

    assert end(added, "first")
    assert not end(added, "second", state="failed")
    assert texts(owner, added.chat_id)[-1] == "first"


def test_another_process_does_not_write_a_row(owner: Principal) -> None:
    added = ask(owner)
    so_far = AnswerSoFar(
        message_id=added.answer_id, text="x", thinking="", calls="[]", version=1, state="done"
    )

    assert chat_messages.save_answers("elsewhere", [so_far]) == frozenset()
    assert chat_messages.still_wanted([added.answer_id]) == {added.answer_id: True}


def test_stop_is_a_wish_that_the_process_finds(owner: Principal) -> None:
    added = ask(owner)
    chat_messages.ask_to_stop(owner, added.answer_id)

    assert chat_messages.still_wanted([added.answer_id]) == {added.answer_id: False}


def test_own_data_has_the_chats_and_they_go_with_the_account(
    owner: Principal, stranger: Principal
) -> None:
    image = NewImage(name="cat.png", media_type="image/png", data=b"\x89PNG")
    folder = chats.create_folder(owner, "Work")
    asked(owner, "My question", images=(image,), folder_id=folder.folder_id)
    asked(stranger, "Theirs")
    text = b"".join(own_data.export("alice")).decode()
    own_data.forget("alice", by=None)

    assert all(words in text for words in ("My question", "Yes.", "cat.png", "iVBORw==", "Work"))
    assert "Theirs" not in text
    assert [chat.title for chat in Chat.objects.all()] == ["Theirs"]
    assert (ChatImage.objects.count(), ChatFolder.objects.count()) == (0, 0)
    assert ChatMessage.objects.count() == 2
