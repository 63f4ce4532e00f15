"""Duels of a model's own samples: labeled by the truth, and the same after an interruption."""

import json
import random
import re
from pathlib import Path

import pytest

from llava_cot.core.question import load_image
from llava_cot.models.base import Prompt
from llava_cot.models.scripted import ScriptedModel
from llava_cot.scenes.ground_truth import align
from llava_cot.scenes.teacher import MENTION, caption, describe
from llava_cot.scenes.world import Scene, draw_scene, render, scene_rng
from llava_cot.search.judge_prompts import default_prompts
from research.mini.examples import misperceive, tagged
from research.mini.pictures import SEED
from research.mini.recipe import SampleStep
from research.mini.sampled_duels import Sampled, sample_duels

SCENES = 60
STEP = SampleStep(name="duels", sample_captions=96, sample_answers=48)


@pytest.fixture(scope="module")
def by_picture() -> dict[str, Scene]:
    scenes = [draw_scene(scene_rng("train", SEED, number)) for number in range(SCENES)]
    return {load_image(render(scene)).sha256: scene for scene in scenes}


def model(by_picture: dict[str, Scene]) -> ScriptedModel:
    """Sees rightly or with a slip; reasons "yes" whatever it is asked."""

    def script(prompt: Prompt, rng: random.Random) -> str:
        objects = list(by_picture[prompt.messages[0].images[0].sha256].objects)
        if rng.random() < 0.5:
            objects = misperceive(objects, rng)
        stages = {"summary": "I will look.", "caption": caption(objects)}
        return tagged({**stages, "reasoning": "So it is.", "conclusion": "yes"})

    return ScriptedModel(script)


def test_the_better_one_is_chosen_and_every_check_is_true(
    tmp_path: Path, by_picture: dict[str, Scene]
) -> None:
    path = tmp_path / "duels.jsonl"
    sample_duels(model(by_picture), STEP, SCENES, path, lambda done, all: None)
    items = [json.loads(line) for line in path.read_text().splitlines()]
    assert {item["kind"] for item in items} == {"duels", "checks"}
    choices = []
    for item in items:
        if item["kind"] == "checks":  # "So it is." is no reasoning of the teacher's
            assert item["reply"].endswith("Verdict: incorrect.")
            continue
        truth = tuple(describe(o) for o in draw_scene(scene_rng("train", SEED, item["scene"])).objects)
        told: list[list[str]] = []
        for match in MENTION.finditer(item["prompt"]):
            place, *words = match.groups()
            if place == "first":
                told.append([])
            told[-1].append(" ".join(words))
        first, second = (align(tuple(side), truth)[0] for side in told)
        found = re.search(rf"{default_prompts().choice} (\d)", item["reply"])
        assert found and found.group(1) == ("1" if first < second else "2")
        choices.append(found.group(1))
    assert 0.3 < choices.count("1") / len(choices) < 0.7


def test_broken_off_it_goes_on_and_ends_the_same(tmp_path: Path, by_picture: dict[str, Scene]) -> None:
    class Stop(Exception):
        pass

    def stop(done: int, all: int) -> None:
        raise Stop

    whole, broken = tmp_path / "whole.jsonl", tmp_path / "broken.jsonl"
    sample_duels(model(by_picture), STEP, SCENES, whole, lambda done, all: None)
    with pytest.raises(Stop):
        sample_duels(model(by_picture), STEP, SCENES, broken, stop)
    with broken.with_suffix(".part").open("a") as torn:
        torn.write('{"kind": "duels", "scene": 3, "pro')
    assert not broken.exists()
    again = model(by_picture)
    sample_duels(again, STEP, SCENES, broken, lambda done, all: None)
    assert len(again.calls) == 2 * 48  # the first lot is not asked for again
    assert broken.read_bytes() == whole.read_bytes()


def test_a_batch_is_the_same_for_the_same_number(tmp_path: Path, by_picture: dict[str, Scene]) -> None:
    path = tmp_path / "duels.jsonl"
    sample_duels(model(by_picture), STEP, SCENES, path, lambda done, all: None)
    first, second = Sampled(path, 0), Sampled(path, 0)
    assert second.batch("duels", 4, 8) == first.batch("duels", 4, 8)
    assert first.batch("duels", 5, 8) != first.batch("duels", 4, 8)
    assert any(item.example.direct for number in range(9) for item in first.batch("duels", number, 8))
    assert not any(item.example.picture for item in first.batch("checks", 0, 8))
