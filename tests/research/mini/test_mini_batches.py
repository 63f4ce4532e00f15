"""What mini is taught: true, the same for the same number, and learned where it should be."""

import random
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from llava_cot.core.stages import parse
from llava_cot.scenes.ground_truth import align
from llava_cot.scenes.questions import ask_about, solve
from llava_cot.scenes.teacher import MENTION, describe, reasoning
from llava_cot.scenes.world import draw_scene, render, scene_rng
from llava_cot.search.judge_prompts import default_prompts
from research.mini import pictures
from research.mini.batches import Batches
from research.mini.examples import answer, check, question_text
from research.mini.made_up_duels import made_up_duel
from research.mini.model import build_processor
from research.mini.recipe import TrainStep
from research.mini.rows import IGNORE, Rows

ROWS = Rows(build_processor().tokenizer)


def case(index: int):
    rng = scene_rng("train", 7, index)
    scene = draw_scene(rng)
    return scene, ask_about(scene, rng), rng


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
        name="x", steps=9, shares={"answers": 1, "duels": 1, "checks": 1}, batch=4, muon=1, rate=1
    )
    first, second = (Batches(step, "staged", 0, pool, ROWS, None) for _ in range(2))
    for number in (5, 0, 8):
        a, b = first[number]["batch"], second[number]["batch"]
        assert (a.kind, a.scenes, a.rows, a.questions) == (b.kind, b.scenes, b.rows, b.questions)
        assert torch.equal(a.pixels["pixel_values"], b.pixels["pixel_values"])
    assert len({first[number]["batch"].kind for number in range(9)}) == 3


@pytest.mark.parametrize("index", range(20))
def test_the_three_targets_say_the_same(index: int) -> None:
    scene, question, _ = case(index)
    staged, untagged, direct = (
        answer(scene, question, random.Random(1), target).reply for target in ("staged", "untagged", "direct")
    )
    told = parse(staged)
    assert told.conclusion == direct == question.conclusion
    assert untagged.split("\n") == list(told.stages.values())
    assert "<" not in untagged


@pytest.mark.parametrize("target", ["staged", "untagged", "direct"])
def test_the_reply_is_learned_and_what_is_worked_out_weighs_more(target: str) -> None:
    scene, question, rng = case(4)
    example = answer(scene, question, rng, target)  # type: ignore[arg-type]
    row = ROWS.row(example)
    learned = [token for token in row.labels if token != IGNORE]
    decode = ROWS.tokenizer.decode
    assert decode(learned) == example.reply + "<|end|>"
    assert decode(row.ids[: -len(learned)]).endswith(question_text(question) + "<|assistant|>")
    heavy = [t for t, label, weight in zip(row.ids, row.labels, row.weights, strict=True) if weight > 1]
    assert decode(heavy).lstrip("\n") == example.reply[example.after :].lstrip("\n") + "<|end|>"
    ids, labels, _, _ = ROWS.tensors([row, row])
    assert labels[0, len(row.ids) - 2] == ROWS.end and (labels[0, :-1] == torch.tensor(row.labels[1:])).all()
    assert ids.shape == labels.shape


def test_of_a_direct_duel_the_number_alone_is_learned() -> None:
    for index in range(60):
        scene, question, rng = case(index)
        example = made_up_duel(scene, question, rng)
        if example and example.direct:
            row = ROWS.row(example)
            assert ROWS.tokenizer.decode([t for t in row.labels if t != IGNORE]).strip() in ("1", "2")
            assert row.deciding == len(row.ids) - 1


def test_duels_are_labeled_by_the_truth() -> None:
    seen = 0
    for index in range(400):
        scene, question, rng = case(index)
        example = made_up_duel(scene, question, rng)
        if example is None or "caption" not in example.prompt.lower():
            continue
        truth = tuple(describe(item) for item in scene.objects)
        told: list[list[str]] = []
        for match in MENTION.finditer(example.prompt):
            place, *words = match.groups()
            if place == "first":
                told.append([])
            told[-1].append(" ".join(words))
        if len(told) != 2 or told[0] == told[1]:
            continue
        costs = [align(tuple(side), truth)[0] for side in told]
        choice = int(re.search(rf"{default_prompts().choice} (\d)", example.reply).group(1))
        if costs[0] != costs[1]:
            assert choice == (1 if costs[0] < costs[1] else 2)
            seen += 1
    assert seen > 100


def test_a_check_passes_what_is_true_and_nothing_else() -> None:
    verdicts = set()
    for index in range(100):
        scene, question, rng = case(index)
        example = check(scene, question, rng)
        if example is None:
            continue
        said = solve(scene, question)
        assert said == question.answer
        true = reasoning(scene, question) in example.prompt
        assert example.reply.endswith(f"Verdict: {'correct' if true else 'incorrect'}.")
        verdicts.add(true)
    assert verdicts == {True, False}
