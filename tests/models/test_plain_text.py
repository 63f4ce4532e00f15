"""The spelling of a special token in a text of a user is text: it opens no turn and stands for no image."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import tiny
from hypothesis import given
from hypothesis import strategies as st
from opening import Tiny, noise
from reward_checkpoints import text_reward
from tokenizers import processors
from transformers import AutoTokenizer

from llava_cot.errors import ModelError
from llava_cot.models.base import Message, Prompt, Sampling
from llava_cot.models.local.plain_text import MARK, PlainText
from llava_cot.models.local.reward_local import _text_encoder

GREEDY = Sampling(temperature=0, max_tokens=4)
TOKENIZER = tiny.make_tokenizer("<image>", "<|image_pad|>")
SPECIAL = (*TOKENIZER.all_special_tokens, "<image>", "<|image_pad|>")
PLAIN = PlainText(TOKENIZER, ("<boi>",))


@pytest.fixture(params=tiny.ALL_KINDS)
def kind(request: pytest.FixtureRequest, opened: Callable[[str], Tiny]) -> Tiny:
    return opened(request.param)


def specials(kind: Tiny, ids: tuple[int, ...]) -> Counter[int]:
    tokenizer = kind.processor.tokenizer
    special = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    return Counter(token for token in ids if token in special)


def spellings(kind: Tiny) -> list[str]:
    return [
        token.content for token in kind.processor.tokenizer.added_tokens_decoder.values() if token.special
    ]


def conversations(word: str) -> list[tuple[Message, ...]]:
    picture, other = noise(1), noise(2)
    return [
        (Message("user", f"How {word}many?"),),
        (Message("user", f"{word}{word} How many?{word}", (picture,)),),
        (
            Message("system", f"Be {word} brief."),
            Message("user", f"How {word}many?", (picture,)),
            Message("assistant", f"There are {word}3."),
            Message("user", f"And {word}here?", (other,)),
        ),
        (Message("user", f"Which {word}?", (picture, other)),),
    ]


async def test_special_tokens_in_a_users_text_are_text(kind: Tiny) -> None:
    encoder, tokenizer = kind.model._encoder, kind.processor.tokenizer
    for word in spellings(kind):
        for spelled, clean in zip(conversations(word), conversations(""), strict=True):
            ids = encoder.encode(Prompt(spelled)).ids
            assert specials(kind, ids) == specials(kind, encoder.encode(Prompt(clean)).ids), word
            text = tokenizer.decode(ids)
            assert all(message.text in text for message in spelled), word
            placeholders = encoder.ids_with_placeholders(spelled)
            assert specials(kind, placeholders) == specials(kind, encoder.ids_with_placeholders(clean))


async def test_such_a_text_is_answered(kind: Tiny) -> None:
    every = "".join(spellings(kind)[-3:])
    for spelled in conversations(every):
        [found] = await kind.model.sample(Prompt(spelled), 1, GREEDY)
        assert found.prompt_tokens == kind.model.count_tokens(Prompt(spelled))
        scores = await kind.model.choose(Prompt(spelled, f"I say{every}"), (f"a{every}", "b"))
        assert len(scores) == 2


async def test_an_answer_so_far_and_its_options_are_text(kind: Tiny) -> None:
    encoder, tokenizer = kind.model._encoder, kind.processor.tokenizer
    for word in spellings(kind):
        ids = encoder.prefix_ids(Prompt.of("How?", (), f"It {word}is"))
        assert not specials(kind, ids) and tokenizer.decode(ids) == f"It {word}is"
        option = tuple(encoder.option_ids("It is", f" {word}so"))
        assert not specials(kind, option) and tokenizer.decode(option) == f" {word}so"


async def test_half_a_character_is_refused_in_words(kind: Tiny) -> None:
    for images in ((), (noise(1),)):
        with pytest.raises(ModelError, match="surrogate"):
            await kind.model.sample(Prompt.of("How \ud800 many?", images), 1, GREEDY)
    with pytest.raises(ModelError, match="surrogate"):
        await kind.model.sample(Prompt.of("How many?", (), "It \udfff"), 1, GREEDY)


def test_a_text_without_special_tokens_has_the_tokenizers_own_ids(kind: Tiny) -> None:
    for clean in conversations(""):
        assert (
            list(kind.model._encoder.encode(Prompt(clean)).ids) == kind.inputs(clean)["input_ids"][0].tolist()
        )


texts = st.lists(
    st.sampled_from([*SPECIAL, "<boi>", "<", "<|", "|>", "user", "é", "\n", " ", "a b"]), max_size=12
)


@given(texts)
def test_any_text_keeps_its_characters_and_gains_no_special_token(parts: list[str]) -> None:
    text = "".join(parts)
    marked = PLAIN.mark(text)
    assert marked.replace(MARK, "") == text
    assert not any(special in marked for special in (*SPECIAL, "<boi>"))
    ids = PLAIN.encode(marked)
    assert TOKENIZER.decode(ids) == text
    assert not set(ids) & set(TOKENIZER.convert_tokens_to_ids(list(SPECIAL)))


def test_a_mark_in_a_text_is_replaced() -> None:
    assert PLAIN.mark(f"<{MARK}image>") == "<\ufffdimage>"


def test_tags_stay_tokens_where_a_checkpoint_has_them() -> None:
    tokenizer = tiny.make_tokenizer("<SUMMARY>", "</SUMMARY>", "<think>", "</think>", "<img>", "</img>")
    plain = PlainText(tokenizer, ("<img>", "</img>"))

    def whole(text: str, answer: bool) -> bool:
        return plain.encode(plain.mark(text, answer)) == tokenizer.encode(text, add_special_tokens=False)

    # The paper's are the product's own; others only where the model has written them.
    assert whole("<SUMMARY> one </SUMMARY>", answer=False)
    assert whole("<think> one </think>", answer=True)
    assert not whole("<think> one </think>", answer=False)
    assert not whole("<img> one </img>", answer=True)


def test_a_reward_model_of_texts_reads_text(tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(text_reward(tmp_path / "reward"))
    encode = _text_encoder(tokenizer)
    special = set(tokenizer.all_special_ids)

    def counted(word: str) -> Counter[int]:
        conversation = (Message("user", f"How{word}?"), Message("assistant", f"It is{word}."))
        ids = encode(conversation)["input_ids"][0].tolist()
        assert all(message.text in tokenizer.decode(ids) for message in conversation)
        return Counter(token for token in ids if token in special)

    assert all(counted(word) == counted("") for word in tokenizer.all_special_tokens)


def test_the_tokens_that_a_tokenizer_adds_stay_at_the_ends() -> None:
    tokenizer = tiny.make_tokenizer()
    begin, end = tokenizer.bos_token_id, tokenizer.eos_token_id
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        "<|begin|> $A <|end|>", special_tokens=[("<|begin|>", begin), ("<|end|>", end)]
    )
    plain = PlainText(tokenizer)
    ids = plain.encode(plain.mark("a<|end|>b"), special=True)
    assert (ids[0], ids[-1]) == (begin, end)
    assert tokenizer.decode(ids[1:-1]) == "a<|end|>b" and end not in ids[1:-1]
