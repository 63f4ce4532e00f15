"""Prompts as the processor makes them: nested images, texts without images, and where a prompt is cut."""

from __future__ import annotations

from collections.abc import Callable
from itertools import permutations
from typing import Any

import pytest
import tiny
from opening import Tiny, noise

from llava_cot.core.question import PLACE
from llava_cot.errors import ModelError
from llava_cot.models.base import Message, Prompt, Sampling
from llava_cot.models.local.checkpoint import load_processor
from llava_cot.models.local.encoding import Encoder

PICTURES = (noise(1), noise(2, 30, 80))
CASES: tuple[tuple[Message, ...], ...] = (
    (Message("user", "How many?", PICTURES[:1]),),
    (Message("user", "Which?", PICTURES),),
    (Message("user", " Why?"),),
    (
        Message("user", "How many?", PICTURES[:1]),
        Message("assistant", "There are 3."),
        Message("user", "And here?", PICTURES[1:]),
    ),
    (Message("user", f"Which?\nA. {PLACE}\nB. {PLACE}", PICTURES),),
    (Message("user", f"Is it {PLACE} there?", PICTURES[:1]),),
)


@pytest.fixture(params=tiny.ALL_KINDS)
def kind(request: pytest.FixtureRequest, opened: Callable[[str], Tiny]) -> Tiny:
    return opened(request.param)


def fresh(kind: Tiny) -> Encoder:
    config, processor = load_processor(kind.folder)
    return Encoder(processor, config, double_bos=False)


def by_transformers(kind: Tiny, messages: tuple[Message, ...]) -> dict[str, Any]:
    """What `apply_chat_template` makes of messages with their images."""
    turns = [
        {
            "role": message.role,
            "content": [
                {"type": "text", "text": part}
                if isinstance(part, str)
                else {"type": "image", "image": part.pil}
                for part in message.parts
            ],
        }
        for message in messages
    ]
    made = kind.processor.apply_chat_template(
        turns, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
    )
    return dict(made)


def test_a_prompt_is_what_its_own_template_makes_of_it(kind: Tiny) -> None:
    for messages in CASES:
        encoder, expected = fresh(kind), by_transformers(kind, messages)
        encoded = encoder.encode(Prompt(messages))
        assert list(encoded.ids) == expected["input_ids"][0].tolist()
        if encoded.head is None:
            continue
        tensors = encoder.head_tensors(encoded)
        for name in ("pixel_values", "batch_num_images", "image_sizes", "image_grid_thw"):
            if name in expected:
                assert tensors[name].equal(expected[name]), name


async def test_several_images_are_answered_as_by_generate(kind: Tiny) -> None:
    for messages in CASES:
        expected = by_transformers(kind, messages)
        made = kind.network.generate(**expected, max_new_tokens=12, do_sample=False)
        [found] = await kind.model.sample(Prompt(messages), 1, Sampling(temperature=0, max_tokens=12))
        tokens = made[0, expected["input_ids"].shape[1] :].tolist()
        assert list(found.tokens) == tokens[: len(found.tokens)]
        assert len(found.tokens) >= len(tokens) - 1


def test_the_cut_does_not_depend_on_what_was_encoded_before(
    kind: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A processor that refuses some texts up to an image, though not the whole texts."""
    expected = {messages: fresh(kind).encode(Prompt(messages)) for messages in CASES}
    whole = type(fresh(kind)._processor).__call__

    def refuse(self: Any, *args: Any, text: Any = None, **kwargs: Any) -> Any:
        if text[0].count("<|user|>") > 1 and not text[0].endswith("<|assistant|>"):
            raise ValueError("no such text")
        return whole(self, *args, text=text, **kwargs)

    for order in list(permutations(CASES))[::9]:
        encoder = fresh(kind)
        monkeypatch.setattr(type(encoder._processor), "__call__", refuse)
        for messages in order:
            assert encoder.encode(Prompt(messages)).ids == expected[messages].ids


def test_a_processor_that_refuses_every_beginning_gets_the_whole_prompt(
    kind: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = {messages: fresh(kind).encode(Prompt(messages)) for messages in CASES}
    encoder = fresh(kind)
    whole = type(encoder._processor).__call__

    def refuse(self: Any, *args: Any, text: Any = None, **kwargs: Any) -> Any:
        if not text[0].endswith("<|assistant|>"):
            raise ValueError("no such text")
        return whole(self, *args, text=text, **kwargs)

    monkeypatch.setattr(type(encoder._processor), "__call__", refuse)
    for messages in CASES:
        encoded = encoder.encode(Prompt(messages))
        assert encoded.ids == expected[messages].ids
        if encoded.head is not None:
            assert encoder.head_tensors(encoded)["input_ids"].shape[1] == len(encoded.head.ids)


def test_a_text_without_images_goes_through_the_processor(
    opened: Callable[[str], Tiny], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Molmo2's, which begins each text with a token that its template does not write."""
    encoder = fresh(opened("llava"))
    whole = type(encoder._processor).__call__

    def begin(self: Any, *args: Any, text: Any = None, **kwargs: Any) -> Any:
        return whole(self, *args, text=["<|system|>" + one for one in text], **kwargs)

    prompt = Prompt(CASES[2])
    before = encoder.encode(prompt).ids
    monkeypatch.setattr(type(encoder._processor), "__call__", begin)
    encoder = fresh(opened("llava"))
    system = encoder._tokenizer.convert_tokens_to_ids("<|system|>")
    assert encoder.encode(prompt).ids == (system, *before)
    assert encoder.ids_with_placeholders(prompt.messages) == (system, *before)
    with_image = encoder.encode(Prompt(CASES[0])).ids
    assert with_image[0] == system


def test_a_processor_that_needs_images_leaves_texts_to_the_tokenizer(
    opened: Callable[[str], Tiny], monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = fresh(opened("llava"))
    before = encoder.encode(Prompt(CASES[2])).ids

    def refuse(*_: Any, **__: Any) -> Any:
        raise ValueError("give images")

    encoder = fresh(opened("llava"))
    monkeypatch.setattr(type(encoder._processor), "__call__", refuse)
    assert encoder.encode(Prompt(CASES[2])).ids == before


def test_a_template_that_moves_pictures_is_refused_where_their_order_matters(
    opened: Callable[[str], Tiny], monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = fresh(opened("llava"))
    template = (
        "{% for m in messages %}{% for p in m.content if p.type == 'image' %}<image>{% endfor %}"
        "{% for p in m.content if p.type == 'text' %}{{ p.text }}{% endfor %}{% endfor %}"
    )
    monkeypatch.setattr(encoder._processor, "chat_template", template)
    assert encoder.encode(Prompt((Message("user", "Which?", PICTURES),))).head is not None
    with pytest.raises(ModelError, match="cannot keep pictures at their places within a text"):
        encoder.encode(Prompt((Message("user", f"Is {PLACE} like {PLACE}?", PICTURES),)))
