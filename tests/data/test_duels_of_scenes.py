"""Judge examples of scenes: labelled by the truth about them, with its reason."""

import random
import re

import pytest
from scene_slips import misperceive, misreason

from llava_cot.core.question import question_text
from llava_cot.core.stages import LLAVA_COT, render
from llava_cot.data.record import Record, Turn
from llava_cot.data.rollouts.duels import DuelSettings, JudgeExample, examples_of
from llava_cot.data.rollouts.labeling import scene_of
from llava_cot.models.base import Prompt
from llava_cot.models.scripted import ScriptedModel
from llava_cot.scenes.ground_truth import align, check_verdict, seen_answer
from llava_cot.scenes.items import SceneItem, make_item, make_items
from llava_cot.scenes.teacher import MENTION, caption, describe, reasoning, summary, teach
from llava_cot.scenes.world import DIFFICULTIES
from llava_cot.search.judge_prompts import check_reply, default_prompts, parse_check, parse_choice

TAGS = LLAVA_COT.closing_tags


def mini(item: SceneItem, sees_wrongly: float = 0.5, reasons_wrongly: float = 0.5) -> ScriptedModel:
    """In the teacher's manner, with slips; it concludes from what it saw."""

    def script(prompt: Prompt, rng: random.Random) -> str:
        objects = list(item.scene.objects)
        if rng.random() < sees_wrongly:
            objects = misperceive(objects, rng)
        seen = seen_answer(item.scene, objects, item.question) or (item.question, item.scene)
        stages = teach(seen[1], seen[0]) | {"caption": caption(objects)}
        stages["summary"] = summary(item.question)
        if rng.random() < reasons_wrongly:
            stages["reasoning"] = misreason(item.scene, item.question, rng) or stages["reasoning"]
        whole = "".join(f"{s.open}{stages[s.name]}{s.close}" for s in LLAVA_COT.stages)
        done = sum(tag in prompt.prefix for tag in TAGS)
        return whole[whole.index(TAGS[done - 1]) + len(TAGS[done - 1]) :] if done else whole

    return ScriptedModel(script)


async def many(
    stages: tuple[str, ...], count: int = 40, difficulty: str = "standard", **slips: float
) -> list[tuple[SceneItem, JudgeExample]]:
    made = []
    for index in range(count):
        item = make_item("train", 3, index, difficulty)
        model = mini(item, **slips)
        found = await examples_of(item.ask(), item, model, DuelSettings(stages=stages), random.Random(index))
        made += [(item, one) for one in found.examples]
        if "caption" in stages:  # the truth is known: no rollouts of a caption
            assert not [call for call in model.calls if call.prompt.prefix and not call.sampling.stop]
    return made


def choice(example: JudgeExample) -> int:
    found = parse_choice(example.reply)
    assert found is not None
    return found


@pytest.mark.parametrize("difficulty", DIFFICULTIES)
async def test_the_caption_nearer_to_the_scene_is_chosen_for_what_is_seen_there(difficulty: str) -> None:
    made = await many(("caption",), difficulty=difficulty)
    assert len(made) > 30
    for item, one in made:
        truth = tuple(describe(o) for o in item.scene.objects)
        described: list[list[str]] = []
        for match in MENTION.finditer(one.prompt):
            place, *words = match.groups()
            if place == "first":
                described.append([])
            described[-1].append(" ".join(words))
        first, second = (align(tuple(side), truth)[0] for side in described)
        assert choice(one) == (1 if first < second else 2)
        assert (one.by, one.worths, one.picture) == ("truth", (None, None), True)
        assert re.fullmatch(r"Since the \w+ is .* in the image, I choose response [12]\.", one.reply)
    assert 0.3 < sum(choice(one) == 1 for _, one in made) / len(made) < 0.7


@pytest.mark.parametrize("difficulty", DIFFICULTIES)
async def test_the_true_reasoning_is_chosen_and_each_check_does_the_teacher_s_work(difficulty: str) -> None:
    made = await many(("caption", "reasoning"), difficulty=difficulty, sees_wrongly=0.2)
    duels = [(item, one) for item, one in made if one.kind == "duel" and one.stage == "reasoning"]
    checks = [(item, one) for item, one in made if one.kind == "check"]
    assert len(duels) > 10 and len(checks) > 20
    for item, one in duels:
        found = re.search(rf"Response {choice(one)}:\n(.*?)\n", one.prompt)
        assert found and found[1] == reasoning(item.scene, item.question)
        assert one.reply.startswith("Since ") and one.by == "truth"
    verdicts = set()
    for item, one in checks:
        found = re.search(r"Reasoning:\n(.*)\n\nReply", one.prompt)
        assert found
        if caption(item.scene.objects) in one.prompt:
            seen = caption(item.scene.objects)
            assert one.prompt == default_prompts().reasoning_check(question_text(item.ask()), seen, found[1])
            assert one.reply == check_reply(*check_verdict(item.question, item.scene, found[1]))
            assert not one.picture
        verdicts.add(parse_check(one.reply))
    assert verdicts == {True, False}


@pytest.mark.parametrize("difficulty", DIFFICULTIES)
async def test_of_two_answers_never_the_one_that_concludes_wrongly(difficulty: str) -> None:
    made = await many(("answer",), difficulty=difficulty)
    assert len(made) > 20
    for item, one in made:
        conclusions = re.findall(r"<CONCLUSION>(.*?)</CONCLUSION>", one.prompt)
        right = [text == item.answer for text in conclusions]
        assert right[0] == right[1] or right[choice(one) - 1]
        assert one.reply.startswith("Since ")


async def test_another_manner_of_writing_is_judged_by_what_comes_of_it() -> None:
    item = next(item for item in make_items("train", 3, 40) if item.answer.isdigit())

    def script(prompt: Prompt, rng: random.Random) -> str:
        good = "good" in prompt.prefix or ("bad" not in prompt.prefix and rng.random() < 0.5)
        stages = {"summary": "so", "caption": "A good look." if good else "A bad look.", "reasoning": "so"}
        whole = render({**stages, "conclusion": item.answer if good else "99"})
        done = sum(tag in prompt.prefix for tag in TAGS)
        return whole[whole.index(TAGS[done - 1]) + len(TAGS[done - 1]) :] if done else whole

    settings = DuelSettings(stages=("caption",))
    found = await examples_of(item.ask(), item, ScriptedModel(script), settings, random.Random(1))
    assert [one.by for one in found.examples] == ["rollouts"]
    assert f"Response {choice(found.examples[0])}:\nA good look." in found.examples[0].prompt


def test_a_scene_is_known_by_its_id_and_question() -> None:
    item = make_item("train", 3, 1)
    turn = Turn(item.question.text, item.answer, item.question.options)
    for id in ("train-3-1", "scenes/train-3-1"):
        assert scene_of(Record(id, (turn,))) == item
    assert scene_of(Record("hard-train-3-1", (turn,))) is None
    assert scene_of(Record("train-3-2", (turn,))) is None
    assert scene_of(Record("chartqa/train-3-1", (turn,))) is None
