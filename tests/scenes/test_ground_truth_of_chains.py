"""What is true of answers to hard questions, also where a caption makes a question senseless."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from scene_slips import misperceive
from scenes.text_solver import Senseless, numbers_of

from llava_cot.core.question import Question
from llava_cot.core.stages import Answer, parse, render
from llava_cot.scenes.chains import Step, chain_text, chain_type
from llava_cot.scenes.filters import Filter
from llava_cot.scenes.ground_truth import (
    GAP,
    believed,
    better,
    caption_error,
    check_verdict,
    known,
    read_caption,
    which_answer,
    which_reasoning,
    worth,
)
from llava_cot.scenes.items import SceneItem, make_item, make_items
from llava_cot.scenes.questions import SceneQuestion
from llava_cot.scenes.teacher import ORDINALS, caption, caption_of, describe, reasoning, steps
from llava_cot.scenes.world import Scene, SceneObject

ITEMS = [item for item in make_items("validation", 2, 300, "hard") if item.question.chain]
FREE = next(item for item in ITEMS if item.question.depth > 2)
CHOICE = next(item for item in make_items("validation", 2, 60) if item.question.options)


def thing(color: str, shape: str, x: float) -> SceneObject:
    return SceneObject("small", color, "metal", shape, x=x, y=0.5, turn=0.3)


SCENE = Scene(
    (thing("red", "cube", 0.2), thing("blue", "sphere", 0.4), thing("gray", "cube", 0.6)), (0.0, 1.0)
)


def asking(*chain: Step) -> SceneQuestion:
    text = chain_text(chain, random.Random(0))
    answer = str(numbers_of(text, SCENE.objects)[-1])
    return SceneQuestion(chain_type(chain), text, answer, chain=chain)


def answer(item: SceneItem, **other: str | None) -> Answer:
    return parse(render({**item.stages, **other}))


def asked(item: SceneItem) -> Question:
    return Question(item.question.text, (), item.id, item.question.options, item.answer)


LEFT = asking(Step("keep", relation="left", other=Filter(color="blue")))


@pytest.mark.parametrize(
    ("colors", "expected"),
    [
        (("red", "blue", "gray"), "1"),
        (("red", "gray", "blue", "gray"), "2"),
        (("red", "green", "gray"), None),  # none is blue
        (("blue", "blue", "gray"), None),  # two are
    ],
)
def test_a_caption_may_make_a_relation_senseless(colors: tuple[str, ...], expected: str | None) -> None:
    seen = caption([thing(color, "cube", 0.0) for color in colors])
    found = believed(SCENE, LEFT, seen)
    assert (found and found[0].answer) == expected
    if found:
        assert reasoning(found[1], found[0]).endswith(f": {expected}.")


def test_a_caption_may_leave_too_little_to_subtract_from() -> None:
    question = asking(Step("keep", Filter(shape="cube")), Step("subtract", number=2))
    one_cube = caption([SCENE.objects[0], *[SCENE.objects[1]] * 4])
    assert question.answer == "0" and believed(SCENE, question, one_cube) is None


def test_what_a_caption_makes_of_a_question_is_what_the_text_says() -> None:
    rng, senseless, other = random.Random(0), 0, 0
    for item in ITEMS:
        for _ in range(4):
            objects = misperceive(item.scene.objects, rng)
            found = believed(item.scene, item.question, caption(objects))
            # Places count, and a caption has no others than its order.
            placed = [replace(one, x=float(place)) for place, one in enumerate(objects)]
            try:
                expected = str(numbers_of(item.question.text, placed)[-1])
            except Senseless:
                assert found is None
                senseless += 1
                continue
            assert found is not None and found[0].answer == expected
            assert check_verdict(*found, reasoning(found[1], found[0]))[0]
            other += expected != item.question.answer
    assert senseless > 20 and other > 100


def test_what_a_caption_makes_of_a_question_is_among_its_options() -> None:
    rng, gone, other = random.Random(0), 0, 0
    items = [item for item in make_items("validation", 2, 400) if item.question.type == "count"]
    for item in items:
        if not item.question.options:
            continue
        for _ in range(8):
            objects = misperceive(item.scene.objects, rng)
            found = believed(item.scene, item.question, caption(objects))
            wanted = {*item.question.filters[0].one.split(" ")} - {"object"}
            expected = str(sum(wanted <= {*describe(one).split(" ")} for one in objects))
            if expected not in item.question.options:
                assert found is None
                gone += 1
                continue
            assert found is not None and found[0].answer == expected
            true = check_verdict(*found, reasoning(found[1], found[0]))
            assert true[0] and true[1].endswith(f", so option {found[0].conclusion}.")
            other += expected != item.question.answer
    assert gone > 3 and other > 3


def test_captions_of_up_to_twelve_objects_are_read() -> None:
    for item in ITEMS:
        names = [describe(one) for one in item.scene.objects]
        assert read_caption(item.stages["caption"]) == names
        assert caption_error(item.scene, item.stages["caption"]) == 0
        assert caption_error(item.scene, caption_of(names[1:])) == GAP
    assert max(len(item.scene.objects) for item in ITEMS) == len(ORDINALS) == 12
    assert read_caption("There are 13 objects. From left to right: first a small red metal cube.") is None


def test_a_false_step_is_found_and_named() -> None:
    for item in ITEMS[:60]:
        sentences = steps(item.scene, item.question)
        for place, sentence in enumerate(sentences):
            spoiled = " ".join([*sentences[:place], f"Perhaps {sentence}", *sentences[place + 1 :]])
            true, work = check_verdict(item.question, item.scene, spoiled)
            assert not true and work.count(". ") == place
            verdict = which_reasoning(
                item.scene, item.question, item.stages["caption"], spoiled, item.stages["reasoning"]
            )
            assert verdict == (2, f"{sentence[0].lower()}{sentence[1:-1]}")
        assert check_verdict(item.question, item.scene, item.stages["reasoning"])[0]


def test_a_reasoning_is_worth_its_end_and_true_ones_are_better() -> None:
    for item in (FREE, CHOICE):
        question, last = asked(item), steps(item.scene, item.question)[-1]
        assert known(question)
        true = answer(item, conclusion=None)
        lucky = answer(item, reasoning=f"So it is {item.answer}. {last}", conclusion=None)
        wrong = answer(item, reasoning=item.stages["reasoning"][:-2] + "99.", conclusion=None)
        assert [worth(question, "reasoning", one) for one in (true, lucky, wrong)] == [1, 1, 0]
        for first, second in ((true, lucky), (lucky, wrong), (true, wrong)):
            assert better(question, "reasoning", first, second) == 1
            assert better(question, "reasoning", second, first) == 2
        assert better(question, "reasoning", true, true) is None
    # After other captions the truth of a reasoning does not decide, and its end does.
    unread = {"caption": "Some objects.", "conclusion": None}
    ends = [answer(FREE, reasoning=f"It is {n}.", **unread) for n in (FREE.answer, f"1{FREE.answer}")]
    assert better(asked(FREE), "reasoning", *ends) == 1
    assert better(asked(FREE), "reasoning", ends[0], ends[0]) is None


def test_whole_answers_are_compared_by_caption_and_then_by_reasoning() -> None:
    item = FREE
    true = answer(item)
    fewer = caption(item.scene.objects[1:])
    assert which_answer(item.scene, item.question, true, answer(item, caption=fewer, conclusion="99")) == (
        which_answer(item.scene, item.question, true, answer(item, caption=fewer, conclusion="98"))
    )
    spoiled = answer(item, reasoning="It is 99.", conclusion="99")
    verdict = which_answer(item.scene, item.question, spoiled, true)
    assert verdict == (2, f"we start with {len(item.scene.objects)} objects")
    # The one with the better caption has the wrong conclusion: that does not decide.
    assert (
        which_answer(item.scene, item.question, answer(item, conclusion="99"), answer(item, caption=fewer))
        is None
    )


def test_ids_of_hard_items_are_known_in_records_too() -> None:
    for id in ("hard-test-0-3", "scenes/hard-test-0-3"):
        question = Question("", (), id)
        assert known(question)
        right = parse(f"<CONCLUSION>{make_item('test', 0, 3, 'hard').answer}</CONCLUSION>")
        assert worth(question, "answer", right) == 1
