"""What is learned is exactly what the assistant says, after exactly what a model is asked with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from training import picture, record

from llava_cot.core.question import PLACE
from llava_cot.data.record import Picture, Record, Turn
from llava_cot.errors import DataError
from llava_cot.models.base import Prompt
from llava_cot.models.local.checkpoint import Checkpoint
from llava_cot.models.local.encoding import Encoder
from llava_cot.train.collate import Collator
from llava_cot.train.encode import IGNORE, RowEncoder, TrainingRow, conversation, load_pictures
from llava_cot.train.trainer import answer_loss

Opened = Callable[[str], Checkpoint]


@pytest.fixture(params=tiny.KINDS)
def checkpoint(request: pytest.FixtureRequest, checkpoints: Opened) -> Checkpoint:
    return checkpoints(request.param)


def with_template(checkpoint: Checkpoint, change: Callable[[str], str]) -> Checkpoint:
    import copy

    processor = copy.deepcopy(checkpoint.processor)
    processor.chat_template = change(processor.chat_template)
    return replace(checkpoint, processor=processor)


def learned(labels: list[int], tokenizer: Any) -> list[str]:
    """The texts of the runs of learned tokens."""
    runs: list[list[int]] = []
    before = IGNORE
    for label in labels:
        if label != IGNORE:
            if before == IGNORE:
                runs.append([])
            runs[-1].append(label)
        before = label
    return [tokenizer.decode(run) for run in runs]


def cases(folder: Path) -> list[Record]:
    return [
        record(folder, 1),
        record(folder, 2, turns=3),
        record(folder, 3, pictures=2, turns=2),
        record(folder, 4, pictures=0, turns=2),
        within(folder, 5),
    ]


def within(folder: Path, number: int) -> Record:
    """A record with pictures at places in its texts: one in the first turn, two in the third."""
    one = record(folder, number, pictures=3, turns=3)
    first, second, third = one.turns
    third = replace(third, question=f"Which is {PLACE}?", options=("this", PLACE))
    return replace(one, turns=(replace(first, question=f"Is it {PLACE}?"), second, third))


def test_the_assistants_words_and_end_tokens_are_learned_and_nothing_else(
    checkpoint: Checkpoint, tmp_path: Path
) -> None:
    encoder = RowEncoder(checkpoint, "staged")
    tokenizer = checkpoint.processor.tokenizer
    for one in cases(tmp_path):
        row = encoder.row(one)
        assert learned(row.labels[0].tolist(), tokenizer) == [f"{turn.response}<|end|>" for turn in one.turns]
        marked = row.labels[0] != IGNORE
        assert torch.equal(row.labels[0][marked], row.inputs["input_ids"][0][marked])


def test_special_tokens_spelled_in_a_record_are_text(checkpoint: Checkpoint, tmp_path: Path) -> None:
    encoder, tokenizer = RowEncoder(checkpoint, "staged"), checkpoint.processor.tokenizer
    special = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}

    def specials(row: TrainingRow) -> list[int]:
        return [token for token in row.inputs["input_ids"][0].tolist() if token in special]

    every = "".join(tokenizer.added_tokens_decoder[i].content for i in special)
    for clean in cases(tmp_path):
        turns = tuple(
            replace(turn, question=f"{turn.question}{every}", response=f"{every}{turn.response}")
            for turn in clean.turns
        )
        spelled = replace(clean, turns=turns)
        row = encoder.row(spelled)
        assert specials(row) == specials(encoder.row(clean))
        assert learned(row.labels[0].tolist(), tokenizer) == [f"{turn.response}<|end|>" for turn in turns]
        size = encoder.size(spelled)
        assert size is not None and size.length == row.length


@pytest.mark.parametrize("double_bos", [False, True])
def test_a_prompt_has_the_ids_that_the_model_is_asked_with(
    checkpoint: Checkpoint, tmp_path: Path, double_bos: bool
) -> None:
    asking = Encoder(checkpoint.processor, checkpoint.model.config, double_bos)
    encoder = RowEncoder(checkpoint, "staged", double_bos)
    for one in cases(tmp_path):
        messages = conversation(one, "staged", load_pictures(one))
        ids = encoder.row(one).inputs["input_ids"][0].tolist()
        for number, message in enumerate(messages):
            if message.role == "assistant":
                asked = list(asking.encode(Prompt(messages[:number])).ids)
                assert ids[: len(asked)] == asked
        prompt = encoder.prompt(one)
        assert prompt.inputs["input_ids"][0].tolist() == asked


def test_inputs_are_those_the_processor_makes_of_the_whole(checkpoint: Checkpoint, tmp_path: Path) -> None:
    for one in (*cases(tmp_path)[:3], within(tmp_path, 5)):
        row = RowEncoder(checkpoint, "staged").row(one)
        images = load_pictures(one)
        turns = [
            {
                "role": m.role,
                "content": [
                    {"type": "text", "text": part} if isinstance(part, str) else {"type": "image"}
                    for part in m.parts
                ],
            }
            for m in conversation(one, "staged", images)
        ]
        text = checkpoint.processor.apply_chat_template(turns, tokenize=False)
        whole = checkpoint.processor(
            text=[text], images=[i.pil for i in images], return_tensors="pt", add_special_tokens=False
        )
        assert {n for n, v in whole.items() if isinstance(v, torch.Tensor)} == set(row.inputs)
        for name, tensor in row.inputs.items():
            assert torch.equal(tensor, whole[name]), name


def test_sizes_are_found_without_reading_pictures(checkpoint: Checkpoint, tmp_path: Path) -> None:
    encoder = RowEncoder(checkpoint, "staged")
    for one in cases(tmp_path):
        row, size = encoder.row(one), encoder.size(one)
        assert size is not None
        assert (size.length, size.head) == (row.length, row.head)
        assert size.first == int((row.labels[0] != IGNORE).nonzero()[0])


def test_a_batch_has_the_losses_of_its_rows(checkpoint: Checkpoint, tmp_path: Path) -> None:
    encoder = RowEncoder(checkpoint, "staged")
    collate = Collator(checkpoint.processor.tokenizer.pad_token_id)

    def losses(rows: list[TrainingRow]) -> tuple[float, float]:
        """Ours, of the last positions alone, and the model's own."""
        batch = collate([rows])
        keep = batch.pop("logits_to_keep")
        whole = checkpoint.model(**batch)
        labels = batch.pop("labels")
        kept = checkpoint.model(**batch, logits_to_keep=keep)
        return float(answer_loss(kept.logits, labels, keep)), float(whole.loss)

    one = [*cases(tmp_path)[:2], record(tmp_path, 5, words=4)]
    two = [record(tmp_path, 3, pictures=2, turns=2), record(tmp_path, 8, pictures=2)]
    none = [record(tmp_path, 6, pictures=0, turns=2), record(tmp_path, 7, pictures=0)]
    # What stands before the first image sees the mean of all there are in Mllama (transformers 5.23), those
    # of its neighbors too: a trace of it where their numbers differ.
    mixed = 1e-5 if checkpoint.model.config.model_type != "mllama" else 3e-4
    for some, close in ((one, 1e-5), (two, 1e-5), (none, 1e-5), (one + two, mixed)):
        rows = [encoder.row(one) for one in some]
        counts = [int((row.labels != IGNORE).sum()) for row in rows]
        alone = [losses([row])[0] for row in rows]
        assert len({round(loss, 4) for loss in alone}) == len(alone)
        expected = sum(loss * count for loss, count in zip(alone, counts, strict=True)) / sum(counts)
        assert losses(rows) == pytest.approx((expected, expected), rel=close)


def test_targets_change_what_is_learned(checkpoints: Opened, tmp_path: Path) -> None:
    checkpoint = checkpoints("mllama")
    tokenizer = checkpoint.processor.tokenizer
    one = record(tmp_path, 3)
    rows = {t: RowEncoder(checkpoint, t).row(one) for t in ("untagged", "direct")}  # type: ignore[arg-type]
    texts = {t: learned(row.labels[0].tolist(), tokenizer) for t, row in rows.items()}
    assert texts == {
        "untagged": ["I will count.\n\nThere are 3 cubes.\n\nOne by one: 3.\n\n3<|end|>"],
        "direct": ["3<|end|>"],
    }


def test_what_a_template_writes_after_the_end_token_is_not_learned(
    checkpoints: Opened, tmp_path: Path
) -> None:
    checkpoint = with_template(checkpoints("llava"), lambda t: t.replace("'<|end|>'", "'<|end|>\n'"))
    row = RowEncoder(checkpoint, "direct").row(record(tmp_path, 2, turns=2))
    tokenizer = checkpoint.processor.tokenizer
    assert learned(row.labels[0].tolist(), tokenizer) == ["2<|end|>", "2<|end|>"]
    assert "<|end|>\n<|user|>" in tokenizer.decode(row.inputs["input_ids"][0])
    assert tokenizer.decode(row.inputs["input_ids"][0]).endswith("2<|end|>")


def test_a_template_without_an_end_token_is_given_one(checkpoints: Opened, tmp_path: Path) -> None:
    checkpoint = with_template(checkpoints("llava"), lambda t: t.replace("'<|end|>'", "' '"))
    encoder = RowEncoder(checkpoint, "direct")
    row = encoder.row(record(tmp_path, 2, turns=2))
    assert learned(row.labels[0].tolist(), checkpoint.processor.tokenizer) == ["2 ", "2 <|end|>"]
    assert encoder.size(record(tmp_path, 2, turns=2)).length == row.length  # type: ignore[union-attr]


def test_what_a_prompt_ends_with_need_not_stand_before_an_answer(checkpoints: Opened, tmp_path: Path) -> None:
    """A prompt that opens a model's thinking, where the template writes a finished answer without it."""
    opening = "{{ '<|assistant|>' }}"
    assert opening in checkpoints("qwen3-vl").processor.chat_template
    checkpoint = with_template(
        checkpoints("qwen3-vl"), lambda t: t.replace(opening, f"{opening}(thoughts: none) ")
    )
    encoder, tokenizer = RowEncoder(checkpoint, "direct"), checkpoint.processor.tokenizer
    one = record(tmp_path, 1)
    row = encoder.row(one)
    assert learned(row.labels[0].tolist(), tokenizer) == ["1<|end|>"]
    assert tokenizer.decode(row.inputs["input_ids"][0]).endswith("(thoughts: none) 1<|end|>")
    assert encoder.size(one).length == row.length  # type: ignore[union-attr]
    with pytest.raises(DataError, match=r"'made/2'.*chat template.*one turn"):
        encoder.row(record(tmp_path, 2, turns=2))


def test_a_template_that_rewrites_earlier_turns_is_refused(checkpoints: Opened, tmp_path: Path) -> None:
    last = "{% if not loop.last and message.role == 'assistant' %}(old){% endif %}"
    checkpoint = with_template(
        checkpoints("qwen3-vl"), lambda t: t.replace("{% for part in", last + "{% for part in")
    )
    encoder = RowEncoder(checkpoint, "staged")
    encoder.row(record(tmp_path, 1))
    with pytest.raises(DataError, match=r"'made/2'.*chat template.*one turn"):
        encoder.row(record(tmp_path, 2, turns=2))


def test_a_broken_picture_names_its_record(checkpoints: Opened, tmp_path: Path) -> None:
    encoder = RowEncoder(checkpoints("llava"), "staged")
    broken = picture(tmp_path, 7)
    assert broken.file is not None
    broken.file.write_bytes(broken.file.read_bytes()[:60])
    gone = Picture("images/none.png", tmp_path / "none.png")
    for shown in (broken, gone):
        one = Record("made/7", (Turn("What?", "that"),), (shown,))
        with pytest.raises(DataError, match=rf"'made/7'.*{shown.name}"):
            encoder.row(one)


def test_a_picture_of_a_later_turn_is_not_seen_in_an_earlier_one(tmp_path: Path) -> None:
    one = within(tmp_path, 5)
    images = load_pictures(one)
    messages = conversation(one, "staged", images)
    assert [[image.name for image in message.images] for message in messages[::2]] == [
        [images[0].name], [], [images[1].name, images[2].name]]  # fmt: skip
    first = replace(one.turns[0], response=None, answer=None)
    later = conversation(replace(one, turns=(first, *one.turns[1:])), "staged", images)
    assert [len(message.images) for message in later] == [1, 0, 2, 0], "it goes with the next turn"
    last = replace(one.turns[2], response=None, answer=None)
    cut = conversation(replace(one, turns=(*one.turns[:2], last)), "staged", images)
    assert [len(message.images) for message in cut] == [1, 0, 0, 0]
