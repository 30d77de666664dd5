"""One answer, token by token, where tokens are words: tags and a text can share one."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from msgspec import structs

from inference.engine.answer import Answer, Said, output_format
from inference.engine.model import DecodeError, Logits
from inference.messages import ChatMessage, ChatPrompt, Generate, TokenLogprob
from tests.inference.engine.fake_model import FakeModel
from tests.inference.engine.loop_bench import asked
from tests.inference.engine.test_batch_structure import CALL, LOOK, chat

END = "<|end_of_text|>"
ENDS = {END, "<|return|>", "<|call|>"}
CHANNEL_MARKS = ("<|channel|>", "<|message|>", "<|end|>", "<|start|>")
CONTROLS = {*ENDS, *CHANNEL_MARKS, "</tool_call>", "<|channel>", "<channel|>"}


class Words(FakeModel):
    """A vocabulary of whole words, some of them control tokens."""

    def __init__(self, *words: str) -> None:
        super().__init__()
        self.words = list(words)

    def piece(self, token: int) -> bytes:
        return b"" if self._is_control(token) else self.words[token].encode()

    def named_piece(self, token: int) -> bytes:
        return self.words[token].encode()

    def is_end(self, token: int) -> bool:
        return self.words[token] in ENDS

    def _is_control(self, token: int) -> bool:
        return self.words[token] in CONTROLS


class Liking:
    """A sampler that likes the earlier words of its list better, as far as logits allow them."""

    def __init__(self, *tokens: int) -> None:
        self.tokens = tokens
        self.asked = 0

    def see(self, tokens: Sequence[int]) -> None:
        raise AssertionError(tokens)

    def choose(self, logits: Logits) -> int:
        self.asked += 1
        return next(token for token in self.tokens if logits[token] > -np.inf)

    def close(self) -> None:
        raise AssertionError


class Spelling:
    """Allows a text, cut anywhere into words, and nothing else."""

    def __init__(self, words: Words, text: str) -> None:
        self.words = words
        self.left = text

    @property
    def is_complete(self) -> bool:
        return not self.left

    def apply(self, logits: Logits) -> None:
        for token, word in enumerate(self.words.words):
            if not self.left.startswith(word):
                logits[token] = -np.inf

    def accept(self, token: int) -> None:
        if not self.accept_text(self.words.words[token]):
            raise DecodeError("not allowed")

    def accept_text(self, text: str) -> bool:
        if not self.left.startswith(text):
            return False
        self.left = self.left[len(text) :]
        return True

    def fresh(self) -> "Spelling":
        return Spelling(self.words, self.left)


def answer_of(
    words: Words,
    request: Generate | None = None,
    *,
    allowed: str = "",
    prompt_end: str = "",
    **fields: Any,
) -> Answer:
    """Return an answer to a chat; `allowed` is all that its schema allows."""
    request = request or chat(**fields)
    constraint = Spelling(words, allowed) if allowed else None
    form = output_format(request)
    return Answer(words, request, form=form, prompt_end=prompt_end, constraint=constraint)


def channelled(words: Words, **fields: Any) -> Answer:
    """Return an answer of a model that divides it into channels."""
    prompt_end = "<|start|>assistant"
    return answer_of(words, output_parser="harmony", prompt_end=prompt_end, **fields)


def spoken(answer: Answer, words: Words, *likings: Liking) -> tuple[str, str]:
    """Choose a token with each sampler; return what was thought and said."""
    everything = []
    for sampler in likings:
        token = answer.choose(sampler, np.zeros(len(words.words), np.float32))
        everything.append(answer.push(token))
    everything.append(answer.close())
    return "".join(s.thinking for s in everything), "".join(s.text for s in everything)


def said_of(answer: Answer, *tokens: int) -> list[Said]:
    return [*(answer.push(token) for token in tokens), answer.close()]


def test_text_in_the_token_that_ends_the_thinking_counts_for_the_schema() -> None:
    words = Words("<think>", "hm", '</think>\n{"', 'a"', "}", "x")
    answer = answer_of(words, allowed='{"a"}')
    likes = [Liking(0), Liking(1), Liking(2), Liking(5, 3), Liking(5, 4)]
    assert spoken(answer, words, *likes) == ("hm", '{"a"}')
    assert answer.is_complete


def test_text_in_the_token_that_ends_the_thinking_is_dropped_where_no_schema_allows_it() -> None:
    words = Words("<think>", "hm", "</think>Well", "{", "}")
    answer = answer_of(words, allowed="{}")
    likes = [Liking(0), Liking(1), Liking(2), Liking(3), Liking(4)]
    assert spoken(answer, words, *likes) == ("hm", "{}")


def test_a_model_that_does_not_think_is_asked_again_under_the_schema_once() -> None:
    words = Words("Well", "{", "}")
    answer = answer_of(words, allowed="{}")
    first, second = Liking(0, 1), Liking(0, 2)
    assert spoken(answer, words, first, second) == ("", "{}")
    assert (first.asked, second.asked) == (2, 1)


def test_a_model_that_would_end_at_once_has_to_keep_to_the_schema() -> None:
    words = Words(END, "{}")
    answer = answer_of(words, allowed="{}")
    assert spoken(answer, words, Liking(0, 1)) == ("", "{}")


def test_a_stop_string_that_begins_like_the_tag_does_not_hide_the_thinking() -> None:
    words = Words("<", "think>", "hm", "</think>", "{}")
    answer = answer_of(words, allowed="{}", stop=("<|im_end|>",))
    likes = [Liking(0), Liking(1), Liking(2), Liking(3), Liking(0, 4)]
    assert spoken(answer, words, *likes) == ("hm", "{}")


def test_the_model_may_end_in_its_thinking() -> None:
    words = Words("<think>", END)
    answer = answer_of(words, allowed="{}")
    assert answer.choose(Liking(0), np.zeros(2, np.float32)) == 0
    answer.push(0)
    assert answer.choose(Liking(1), np.zeros(2, np.float32)) == 1


def test_logits_are_not_touched_before_the_schema_holds() -> None:
    words = Words("<think>", "hm", "{}")
    answer = answer_of(words, allowed="{}")
    logits = np.zeros(3, np.float32)
    answer.push(answer.choose(Liking(0), logits))
    answer.push(answer.choose(Liking(1), logits))
    assert not logits.any()


@pytest.mark.parametrize("allowed", ["", "{}"])
def test_only_a_schema_changes_logits(allowed: str) -> None:
    assert answer_of(Words("{}"), allowed=allowed).changes_logits is bool(allowed)


def test_a_call_is_whole_where_the_token_of_its_closing_tag_ends_the_answer() -> None:
    answer = answer_of(Words(CALL.removesuffix("</tool_call>")), tools=True)
    assert [call.name for said in said_of(answer, 0) for call in said.tool_calls] == ["look"]


def test_the_token_of_a_thinking_tag_is_seen_where_the_tag_is_longer() -> None:
    words = Words("<|channel>", "thought\n", "hm", "<channel|>", "Well")
    answer = answer_of(words, output_parser="gemma4")
    said = said_of(answer, *range(5))
    assert "".join(each.thinking for each in said) == "hm"
    assert "".join(each.text for each in said) == "Well"


CHANNELS = (
    *("<|channel|>", "analysis", "<|message|>", "hm", "<|end|>"),
    *("<|start|>", "assistant", "<|channel|>", "final", "<|message|>"),
)


def test_a_schema_holds_in_the_last_channel_only() -> None:
    words = Words(*CHANNELS, "Well", "{}")
    answer = channelled(words, allowed="{}")
    likes = [*map(Liking, range(len(CHANNELS))), Liking(10, 11)]
    assert spoken(answer, words, *likes) == ("hm", "{}")
    assert answer.is_complete


def test_a_schema_holds_where_there_is_the_last_channel_only() -> None:
    words = Words(*CHANNELS, "Well", "{}")
    answer = channelled(words, allowed="{}")
    likes = [*(Liking(token) for token in (0, 8, 9)), Liking(10, 11)]
    assert spoken(answer, words, *likes) == ("", "{}")


def test_channels_are_parsed_whatever_was_asked_for() -> None:
    answer = channelled(Words(*CHANNELS, "Well"), splits_thinking=False)
    assert "".join(said.text for said in said_of(answer, 0, 8, 9, 10)) == "Well"


def test_a_channels_call_ends_with_the_answer() -> None:
    words = Words("<|channel|>", "commentary to=functions.look", "<|message|>", "{}")
    answer = channelled(words, tools=True)
    calls = [call.name for said in said_of(answer, 0, 1, 2, 3) for call in said.tool_calls]
    assert calls == ["look"]


def test_log_probabilities_go_on_while_the_parser_holds_their_text() -> None:
    answer = answer_of(Words("<thi", "nk>"))
    (first, second) = (TokenLogprob(token=word, logprob=-1.0) for word in (b"<thi", b"nk>"))
    assert answer.push(0, first) == Said(logprobs=(first,))
    assert answer.push(1, second) == Said(logprobs=(second,))


def test_of_a_chat_with_neither_thinking_nor_tools_nothing_is_told_apart() -> None:
    assert output_format(chat(splits_thinking=False)) is None


@pytest.mark.parametrize(("thinks", "calls"), [(True, False), (False, True)])
def test_thinking_and_tools_are_told_apart(*, thinks: bool, calls: bool) -> None:
    assert output_format(chat(splits_thinking=thinks, tools=calls)) is not None


def test_of_what_is_no_chat_nothing_is_told_apart() -> None:
    assert output_format(asked("r1", splits_thinking=True)) is None


def test_a_template_that_cannot_be_read_does_no_harm() -> None:
    prompt = ChatPrompt(
        messages=(ChatMessage(role="user", content="Hi"),), template="{{ if }}", tools=(LOOK,)
    )
    answer = answer_of(Words("yes"), structs.replace(chat(), prompt=prompt))
    assert "".join(said.text for said in said_of(answer, 0)) == "yes"
