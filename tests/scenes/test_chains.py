"""Questions about hard scenes: true answers and reasonings by another reading of their text, depths, ids."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from dataclasses import asdict
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scenes.text_solver import Senseless, numbers_of

from llava_cot.core.stages import parse, render, validate
from llava_cot.scenes.chains import CHAIN_TYPES, DEEPEST, LARGEST, Step, chain_text, chain_type, states
from llava_cot.scenes.filters import Filter
from llava_cot.scenes.items import make_item, make_items, named_item
from llava_cot.scenes.questions import HARD_TYPES, PERCEPTION, SceneQuestion
from llava_cot.scenes.teacher import ORDINALS, chain_sentences, describe
from llava_cot.scenes.world import DIFFICULTIES, SHAPES, SPLITS, Scene, SceneObject, scene_rng
from llava_cot.search.judges.arithmetic import equations

SEEDS = (("train", 0), ("validation", 5), ("test", 1))
# Of the first 100 items of each split with seed 0. Models are trained on these words.
DIGESTS = {"standard": "8de40b539f94c351", "hard": "489393c8cfd36fef"}


# Of several splits and seeds; three in four are chains.
ALL = [item for split, seed in SEEDS for item in make_items(split, seed, 500, "hard")]
ITEMS = [item for item in ALL if item.question.chain]


def test_answers_are_those_of_the_text() -> None:
    assert len(ITEMS) >= 1000
    for item in ITEMS:
        numbers = numbers_of(item.question.text, item.scene.objects)
        assert item.question.answer == str(numbers[-1]), item.id
        assert len(numbers) == item.question.depth + 1
        passed = states(item.scene.objects, item.question.chain)
        assert passed and [state.number for state in passed] == numbers


def test_each_step_of_a_reasoning_follows_from_the_one_before() -> None:
    """Read again: the numbers of the text, the sums, and the objects that are listed."""
    for item in ITEMS:
        numbers = numbers_of(item.question.text, item.scene.objects)
        first, *sentences = item.stages["reasoning"].removesuffix(".").split(". ")
        assert first == f"We start with {numbers[0]} objects"
        listed = list(ORDINALS[: numbers[0]])
        for sentence, (before, after) in zip(sentences, pairwise(numbers), strict=True):
            assert int(sentence.split(" ")[-1]) == after, (item.id, sentence)
            fates = re.findall(r"(\w+) [\w ]+? (yes|no) (stays|goes)", sentence)
            if fates or "none:" in sentence:
                assert [place for place, _, _ in fates] == listed
                listed = [place for place, _, fate in fates if fate == "stays"]
                keeping = re.search("[Kk]eeping", sentence)
                assert all((match == "yes") == (fate == "stays") for _, match, fate in fates) or not keeping
                assert all((match == "yes") == (fate == "goes") for _, match, fate in fates) or keeping
            if found := re.search(r"(\d+) ([+-]) (\d+)(?: \+ (\d+))? = \d+$", sentence):
                second = int(found[3]) * (1 if found[2] == "+" else -1)
                assert int(found[1]) == before and before + second + int(found[4] or 0) == after
                groups = re.findall(r"[:;] ([a-z, ]+): \d+;", sentence)
                counts = [len(re.findall(" yes", group)) for group in groups]
                assert counts == [int(n) for n in (found[3], found[4]) if n][: len(counts)]
            elif fates or "none:" in sentence:
                assert len(listed) == after
            else:
                even = f"{before} is even, half of it is {before // 2}"
                result = f"{before} is odd, so it stays {before}" if before % 2 else even
                assert sentence == f"Halving if even: {result}"


RELATION = re.compile(r"objects (?:(left|right)|of the (\w+)) of the ([a-z ]+)")


def looked_for(name: str, lists: list[str]) -> list[str]:
    """What each list of looks of a step is about: a description, or "left" or "right"."""
    what = re.sub(r"^(Removing|Keeping|Swapping|Adding the number of) ", "", name)
    if relation := RELATION.fullmatch(what):
        side, _, other = relation.groups()
        value = lists[0].rsplit(", ", 1)[-1]  # "fifth green yes, cube"
        return [other, side or (f"{value}s" if value in SHAPES else f"{value} objects")]
    return what.split(" for ")


def test_the_objects_of_a_reasoning_are_those_of_the_caption() -> None:
    """Every look is right by the caption: what stands at a place, and whether the description fits it."""
    checked = Counter[str]()
    for item in ITEMS:
        stages = item.stages
        words = dict(re.findall(r"(\w+) a (\w+ \w+ \w+ \w+)", stages["caption"]))
        assert list(words) == list(ORDINALS[: len(item.scene.objects)])
        assert list(words.values()) == [describe(thing) for thing in item.scene.objects]
        for sentence in stages["reasoning"].split(". ")[1:]:
            name, *rest = sentence.split(": ", 1)
            parts = re.split("; |: ", "".join(rest))
            lists = [part for part in parts if part == "none" or re.search(" (yes|no)", part)]
            if not lists:
                continue
            for named, looks in zip(looked_for(name, lists), lists, strict=True):
                if looks == "none":
                    continue
                for look in looks.split(", "):
                    found = re.fullmatch(r"(\w+) ([\w ]+?) (yes|no)(?: (?:stays|goes))?", look)
                    if found is None:  # the value that is shared
                        assert look in words[looks.split(", ")[-2].split(" ")[0]].split(" ")
                        continue
                    place, seen, verdict = found.groups()
                    if named in ("left", "right"):
                        fits = seen == named
                    else:
                        *adjectives, noun = named.split(" ")
                        wanted = [*adjectives, noun.removesuffix("s")]
                        have = words[place].split(" ")
                        assert {*seen.split(" ")} <= {*have}
                        assert len(seen.split(" ")) == len([word for word in wanted if word != "object"])
                        fits = {*wanted} - {"object"} <= {*have}
                    assert fits == (verdict == "yes"), (item.id, named, look)
                    checked[verdict] += 1
    assert checked["yes"] > 1000 and checked["no"] > 1000


def test_the_rule_of_arithmetic_reads_every_sum() -> None:
    wrong = 0
    for item in ITEMS[:400]:
        text = item.stages["reasoning"]
        sums = [step for step in item.question.chain if not step.of_sets and step.kind != "halve"]
        found = equations(render(item.stages))
        assert len(found) == len(sums) and all(equation.holds for equation in found)
        if sums:
            spoiled = re.sub(r"= (\d+)", lambda number: f"= {int(number[1]) + 1}", text, count=1)
            assert [equation.holds for equation in equations(spoiled)].count(False) == 1
            wrong += 1
    assert wrong > 100


def test_every_depth_and_every_type_occurs() -> None:
    types = Counter(item.question.type for item in ALL)
    assert set(types) == set(HARD_TYPES)
    depths = Counter(item.question.depth for item in ALL)
    assert set(depths) == {*range(DEEPEST + 1)}
    assert depths[0] == sum(types[name] for name in PERCEPTION)
    assert sum(types[name] for name in CHAIN_TYPES) / len(ALL) == pytest.approx(0.75, abs=0.04)
    assert all(depths[depth] / len(ALL) > 0.06 for depth in range(1, DEEPEST + 1))
    sizes = Counter(len(item.scene.objects) for item in ALL)
    assert set(sizes) == {*range(3, 13)}


def test_no_answer_is_frequent_and_none_is_too_large() -> None:
    answers = Counter(item.question.answer for item in ITEMS)
    assert max(answers.values()) < 0.2 * len(ITEMS)
    for item in ITEMS:
        assert max(numbers_of(item.question.text, item.scene.objects)) <= LARGEST


def test_most_steps_matter() -> None:
    """Without one step, wherever it stands, nearly all chains have another answer."""
    idle, total = Counter[int](), Counter[int]()
    for item in ITEMS:
        chain, objects = item.question.chain, item.scene.objects
        for place, step in enumerate(chain):
            before = states(objects, chain[:place])
            assert before is not None
            if step.kind == "halve" and before[-1].number % 2:  # to be left out
                continue
            after = states(objects, [*chain[:place], *chain[place + 1 :]])
            idle[place] += after is not None and str(after[-1].number) == item.question.answer
            total[place] += 1
    assert all(idle[place] < 0.25 * total[place] for place in range(DEEPEST))
    assert idle.total() < 0.15 * total.total()


def test_options_are_looked_at_one_after_the_other() -> None:
    items = [item for item in make_items("train", 0, 300) if item.question.options]
    for item in items:
        question = item.question
        last = item.stages["reasoning"].rsplit(". ", 1)[-1]
        found = re.fullmatch(r"The answer is (\w+): (.+), so option ([A-D])\.", last)
        assert found and (found[1], found[3]) == (question.answer, item.answer)
        looks = [look.split(" ") for look in found[2].split(", ")]
        assert [option for _, option, _ in looks] == list(question.options)
        assert [letter for letter, _, verdict in looks if verdict == "yes"] == [item.answer]
    assert len(items) > 50 and not any(item.question.options for item in ITEMS)


@given(st.sampled_from(SPLITS), st.integers(0, 10**6), st.integers(0, 10**6))
def test_items_are_well_formed(split: str, seed: int, index: int) -> None:
    item = make_item(split, seed, index, "hard")
    assert item == make_item(split, seed, index, "hard") == named_item(f"scenes/{item.id}")
    text = render(item.stages)
    assert validate(text) == [] and parse(text).answer == item.answer
    question = item.question
    assert question.type in HARD_TYPES and (question.depth == 0) == (question.type in PERCEPTION)
    assert not question.options or question.options["ABCD".index(item.answer)] == question.answer
    assert len(set(question.options)) == len(question.options)
    assert item.has_question(question.text, question.options, item.answer)


def test_ids_and_scenes_of_splits_seeds_and_difficulties_do_not_overlap() -> None:
    ids, scenes = set(), set()
    for difficulty in DIFFICULTIES:
        for split in SPLITS:
            for seed in (0, 1):
                for item in make_items(split, seed, 60, difficulty):
                    assert named_item(item.id) == item
                    ids.add(item.id)
                    scenes.add(item.scene)
    assert len(ids) == len(scenes) == 2 * 3 * 2 * 60
    assert make_item("test", 3, 4, "hard").id == "hard-test-3-4" and named_item("easy-test-3-4") is None
    with pytest.raises(ValueError, match="unknown difficulty 'easy': choose one of standard, hard"):
        scene_rng("test", 3, 4, "easy")


@pytest.mark.parametrize("difficulty", DIFFICULTIES)
def test_items_are_the_same_in_every_version(difficulty: str) -> None:
    digest = hashlib.sha256()
    for split in SPLITS:
        for item in make_items(split, 0, 100, difficulty):
            question = item.question
            parts = (item.id, asdict(item.scene), question.text, question.options, item.answer, item.stages)
            digest.update(repr(parts).encode())
    assert digest.hexdigest()[:16] == DIGESTS[difficulty]


def thing(size: str, color: str, material: str, shape: str, x: float) -> SceneObject:
    return SceneObject(size, color, material, shape, x=x, y=0.5, turn=0.3)


SCENE = Scene(
    (
        thing("small", "red", "metal", "cube", 0.1),
        thing("large", "blue", "rubber", "sphere", 0.3),
        thing("small", "blue", "metal", "sphere", 0.5),
        thing("large", "red", "rubber", "cylinder", 0.7),
        thing("small", "green", "rubber", "cube", 0.9),
    ),
    (0.0, 1.0),
)
CUBES, RED = Filter(shape="cube"), Filter(color="red")
CUBES_GO = (
    "first cube yes goes, second sphere no stays, third sphere no stays, "
    "fourth cylinder no stays, fifth cube yes goes: 3."
)


@pytest.mark.parametrize(
    ("steps", "sentences", "kind"),
    [
        (
            [Step("remove", CUBES), Step("keep", Filter("large", "red"))],
            [
                f"Removing cubes: {CUBES_GO}",
                "Keeping large red objects: second large blue no goes, third small blue no goes, "
                "fourth large red yes stays: 1.",
            ],
            "sets",
        ),
        (
            [Step("keep", Filter(color="gray")), Step("keep", CUBES)],
            [
                "Keeping gray objects: first red no goes, second blue no goes, third blue no goes, "
                "fourth red no goes, fifth green no goes: 0.",
                "Keeping cubes: none: 0.",
            ],
            "sets",
        ),
        (
            [Step("remove", RED), Step("keep", relation="left", other=Filter("large", "red"))],
            [
                "Removing red objects: first red yes goes, second blue no stays, third blue no stays, "
                "fourth red yes goes, fifth green no stays: 3.",
                "Keeping objects left of the large red object: first small red no, second large blue no, "
                "third small blue no, fourth large red yes; second left yes stays, "
                "third left yes stays, fifth right no goes: 2.",
            ],
            "relations",  # to an object that has been removed, but is in the picture
        ),
        (
            [Step("remove", relation="shape", other=Filter(color="green")), Step("double")],
            [
                "Removing objects of the shape of the green object: first red no, second blue no, "
                f"third blue no, fourth red no, fifth green yes, cube; {CUBES_GO}",
                "Doubling: 3 + 3 = 6.",
            ],
            "relations",
        ),
        (
            [Step("keep", CUBES), Step("swap", RED, other=Filter(material="rubber")), Step("halve")],
            [
                "Keeping cubes: first cube yes stays, second sphere no goes, third sphere no goes, "
                "fourth cylinder no goes, fifth cube yes stays: 2.",
                "Swapping red objects for rubber objects: first red yes goes, fifth green no stays: 1; "
                "first metal no, second rubber yes, third metal no, fourth rubber yes, fifth rubber yes: 3; "
                "2 - 1 + 3 = 4.",
                "Halving if even: 4 is even, half of it is 2.",
            ],
            "numbers",
        ),
        (
            [Step("remove", CUBES), Step("halve"), Step("more", other=CUBES), Step("subtract", number=5)],
            [
                f"Removing cubes: {CUBES_GO}",
                "Halving if even: 3 is odd, so it stays 3.",
                "Adding the number of cubes: first cube yes, second sphere no, third sphere no, "
                "fourth cylinder no, fifth cube yes: 2; 3 + 2 = 5.",
                "Subtracting 5: 5 - 5 = 0.",
            ],
            "numbers",
        ),
    ],
)
def test_chains_by_hand(steps: list[Step], sentences: list[str], kind: str) -> None:
    question = SceneQuestion("sets", "", "", chain=tuple(steps))
    assert chain_sentences(SCENE.objects, question) == ["We start with 5 objects.", *sentences]
    assert chain_type(steps) == kind
    numbers = numbers_of(chain_text(steps, scene_rng("train", 0, 0)), SCENE.objects)
    passed = states(SCENE.objects, steps)
    assert passed and [state.number for state in passed] == numbers


@pytest.mark.parametrize(
    "steps",
    [
        [Step("keep", relation="left", other=RED)],  # two of them
        [Step("remove", relation="color", other=Filter(color="gray"))],  # none
        [Step("keep", CUBES), Step("subtract", number=3)],
    ],
)
def test_chains_that_make_no_sense(steps: list[Step]) -> None:
    assert states(SCENE.objects, steps) is None
    with pytest.raises(Senseless):
        numbers_of(chain_text(steps, scene_rng("train", 0, 0)), SCENE.objects)
