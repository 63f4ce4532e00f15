"""What mini-base is taught: true, the same for the same number, and learned where it should be."""

import random
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from llava_cot.core.question import lettered
from llava_cot.core.stages import LLAVA_COT
from llava_cot.core.tags import find_tags
from llava_cot.scenes.questions import ask_about, solve
from llava_cot.scenes.teacher import MENTION, describe
from llava_cot.scenes.world import COLORS, MATERIALS, SHAPES, SIZES, Scene, draw_scene, render, scene_rng
from research.mini import pictures
from research.mini.batches import Batches
from research.mini.examples import ASKED, MAKE, question_text
from research.mini.model import build_processor
from research.mini.recipe import TrainStep
from research.mini.rows import IGNORE, Rows

COLUMNS = (SIZES, COLORS, MATERIALS, SHAPES)
ROWS = Rows(build_processor().tokenizer)


def case(index: int) -> tuple[Scene, random.Random]:
    rng = scene_rng("train", 7, index, "hard")
    return draw_scene(rng, "hard"), rng


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> pictures.Pool:
    folder = tmp_path_factory.mktemp("pictures")
    pictures._CHUNK = 40
    pictures.draw_pictures(folder, 80, lambda done, all: None)
    return pictures.Pool(folder)


def test_a_mirrored_scene_is_its_picture_mirrored(pool: pictures.Pool) -> None:
    scene, other = pool.scene(3), pool.scene(83)
    assert [describe(item) for item in other.objects] == [describe(i) for i in reversed(scene.objects)]
    assert [item.x for item in other.objects] == sorted(item.x for item in other.objects)
    both = pool.batch([3, 83])["pixel_values"]
    assert torch.equal(both[0].flip(-1), both[1])
    # And it is what the renderer makes of it, but for the light at the rims.
    drawn = pictures.small(render(other)).astype(float)
    seen = (both[1, 0, 0].permute(1, 2, 0).numpy() * pictures.STD + pictures.MEAN) * 255
    assert np.abs(drawn - seen).mean() < 3


def test_rendering_goes_on_where_it_was_broken_off(tmp_path: Path, pool: pictures.Pool) -> None:
    class Stop(Exception):
        pass

    def stop(done: int, all: int) -> None:
        raise Stop

    with pytest.raises(Stop):
        pictures.draw_pictures(tmp_path, 80, stop)
    counts: list[int] = []
    pictures.draw_pictures(tmp_path, 80, lambda done, all: counts.append(done))
    assert counts == [80]
    again = pictures.Pool(tmp_path)
    assert np.array_equal(again.pixels, pool.pixels)
    for size, places in again.by_count.items():
        assert all(len(again.scene(int(place)).objects) == size for place in places)


def test_a_number_gives_the_same_batch(pool: pictures.Pool) -> None:
    step = TrainStep(
        name="x", steps=9, shares={"descriptions": 1, "perception": 1, "texts": 1}, batch=4, muon=1, rate=1
    )
    first, second = (Batches(step, 0, pool, ROWS) for _ in range(2))
    for number in (5, 0, 8):
        a, b = first[number]["batch"], second[number]["batch"]
        assert (a.kind, a.scenes, a.rows) == (b.kind, b.scenes, b.rows)
        assert torch.equal(a.pixels["pixel_values"], b.pixels["pixel_values"])
    assert len({first[number]["batch"].kind for number in range(9)}) == 3


def test_a_scene_comes_back_from_its_numbers(pool: pictures.Pool) -> None:
    for number in range(40):
        assert pool.scene(number) == draw_scene(scene_rng("train", pictures.SEED, number, "hard"), "hard")


@pytest.mark.parametrize("kind", MAKE)
def test_the_reply_alone_is_learned_and_has_no_stages(kind: str) -> None:
    for index in range(30):
        scene, rng = case(index)
        example = MAKE[kind](scene, rng)
        row = ROWS.row(example)
        learned = [token for token in row.labels if token != IGNORE]
        decode = ROWS.tokenizer.decode
        assert decode(learned) == example.reply + "<|end|>"
        assert decode(row.ids[: -len(learned)]).endswith(example.prompt + "<|assistant|>")
        assert not find_tags(example.prompt + example.reply, LLAVA_COT.pairs)
        ids, labels = ROWS.tensors([row, row])
        assert (
            labels[0, len(row.ids) - 2] == ROWS.end and (labels[0, :-1] == torch.tensor(row.labels[1:])).all()
        )
        assert ids.shape == labels.shape


@pytest.mark.parametrize("kind", ["perception", "chains"])
def test_questions_are_answered_by_the_truth(kind: str) -> None:
    for index in range(60):
        scene, rng = case(index)
        again = random.Random()
        again.setstate(rng.getstate())
        example = MAKE[kind](scene, rng)
        question = ask_about(scene, again, "chains" if kind == "chains" else again.choice(ASKED))
        reply, _, letter = example.reply.partition(", option ")
        assert reply == solve(scene, question) and example.prompt == question_text(question)
        assert (not letter and not question.options) or dict(lettered(question.options))[letter] == reply


def test_questions_about_a_text_are_answered_by_it() -> None:
    """Read again from the prompt alone: the description, which of the objects, and what is asked of them."""
    kinds = Counter[str]()
    for index in range(400):
        scene, rng = case(index)
        example = MAKE["texts"](scene, rng)
        listed = MENTION.finditer(example.prompt)
        objects = {match[1]: match[0].split(" a ", 1)[1].split(" ") for match in listed}
        places, reply = list(objects), example.reply
        first, *lines = example.prompt.split("\n")
        last = first.rsplit(". ", 1)[-1]
        if last.endswith(" What are the steps?"):
            asked = first.split(". ")[:-1]  # the last asks for the number
            written = reply.removesuffix(".").split(". ")
            assert len(asked) == len(written)
            for instruction, name in zip(asked, written, strict=True):
                words = {*re.findall(r"[a-z]+|\d+", name[1:])} - {"the", "of", "number", "if"}
                shared = words & {*re.findall(r"[a-z]+|\d+", instruction)}
                assert len(shared) >= len(words) - 1, (instruction, name)  # but for "adding"
            kinds["steps"] += 1
            continue
        if lines:
            options = dict(line.split(". ") for line in lines)
            if last.endswith(", and which option is that?"):
                last = last.replace(", and which option is that?", "?")
                written, letter = reply.removeprefix("The answer is ").removesuffix(".").split(", option ")
                assert written == options[letter]
                reply = letter
            if match := re.fullmatch(r"Which one is (\d+)\?", last):
                assert options[reply] == match[1]
            else:
                match = re.fullmatch(r"What is the (\w+) of the (\w+)\?", last)
                assert match
                column = ("size", "color", "material", "shape").index(match[1])
                assert options[reply] == objects[match[2]][column]
            assert len(set(options.values())) == len(options)
            kinds["option"] += 1
            continue
        if match := re.fullmatch(r"Which of them are (left|right) of the (\w+)\?", last):
            at = places.index(match[2])
            sides = ["left"] * at + ["itself"] + ["right"] * (len(places) - at - 1)
            seen = [f"{p} {side} {yes(side == match[1])}" for p, side in zip(places, sides, strict=True)]
            assert reply == f"{', '.join(seen)}: {sides.count(match[1])}."
            kinds["beside"] += 1
        elif match := re.fullmatch(r"Which of them are (.*)\?", last):
            replies = []
            for named in match[1].split(", "):
                seen = looked(named, objects)
                replies.append(f"{named}: {', '.join(seen)}: {sum(look.endswith('yes') for look in seen)}.")
            assert reply == " ".join(replies)
            kinds["looks"] += 1
        elif match := re.fullmatch(r"Which one is the (.*)\?", last):
            seen = looked(match[1], objects)
            assert [look.endswith("yes") for look in seen].count(True) == 1
            until = next(i for i, look in enumerate(seen) if look.endswith("yes"))
            assert reply == f"{', '.join(seen[: until + 1])}."
            kinds["found"] += 1
        elif match := re.fullmatch(r"What is the (\w+) of (.*)\?", last):
            column = ("size", "color", "material", "shape").index(match[1])
            named_places = match[2].split(", ")
            assert sorted(named_places) == sorted(places)
            assert reply == f"{', '.join(f'{place} {objects[place][column]}' for place in named_places)}."
            kinds["attributes"] += 1
        elif match := re.fullmatch(r"How many are (.*)\?", last):
            assert reply == str(len(match[1].split(", ")))
            kinds["count"] += 1
        else:
            match = re.fullmatch(r"What is (.*)\? Is (\d+) odd or even\?", last)
            assert match
            sums, parity = reply.split(". ")
            assert [part.split(" = ")[0] for part in sums.split(", ")] == match[1].split(", ")
            for a, sign, b, result in re.findall(r"(\d+) ([+-]) (\d+) = (\d+)", sums):
                assert int(result) == (int(a) + int(b) if sign == "+" else int(a) - int(b))
            number = int(match[2])
            assert parity == f"{number} is {'odd' if number % 2 else f'even, half of it is {number // 2}'}."
            kinds["number"] += 1
    assert len(kinds) == 8 and min(kinds.values()) > 12


def looked(named: str, objects: dict[str, list[str]]) -> list[str]:
    """Each object's look for a description, by the words of both."""
    wanted = [word for word in re.sub(r"s$", "", named).split(" ") if word != "object"]
    columns = [next(i for i, values in enumerate(COLUMNS) if word in values) for word in wanted]
    return [
        f"{place} {' '.join(words[i] for i in columns)} {yes({*wanted} <= {*words})}"
        for place, words in objects.items()
    ]


def yes(true: bool) -> str:
    return "yes" if true else "no"


def test_scenes_grow(pool: pictures.Pool) -> None:
    step = TrainStep(name="x", steps=60, shares={"texts": 1}, batch=2, muon=1, rate=1, grow=10)
    batches = Batches(step, 0, pool, ROWS)
    sizes = [len(batches[number]["batch"].scenes[0].objects) for number in range(60)]
    assert all(size <= 4 + number // 10 for number, size in enumerate(sizes))
    assert max(sizes[50:]) > 6


def test_a_description_is_found_at_its_last_word() -> None:
    seen = 0
    for index in range(60):
        scene, rng = case(index)
        row = ROWS.row(MAKE["perception"](scene, rng))
        for what, token in row.described:
            assert ROWS.tokenizer.decode(row.ids[token]).strip().rstrip("s") == what.one.split(" ")[-1]
            seen += 1
    assert seen > 40


@pytest.mark.parametrize("kind", ["perception", "texts"])
def test_an_option_is_found_at_its_last_word_and_one_is_right(kind: str) -> None:
    seen = 0
    for index in range(60):
        scene, rng = case(index)
        row = ROWS.row(MAKE[kind](scene, rng))
        lines = row.example.prompt.split("\n")[1:]
        assert len(lines) == len(row.options)
        for line, (right, token) in zip(lines, row.options, strict=True):
            assert ROWS.tokenizer.decode(row.ids[: token + 1]).endswith(line)
            assert right == (line[0] == row.example.reply.removesuffix(".").split(" ")[-1])
            seen += 1
    assert seen > 20
