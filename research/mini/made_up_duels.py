"""Duels of made-up texts: the teacher's text against one with errors, in the self-judge's own prompt."""

from __future__ import annotations

import random
from collections.abc import Sequence

from llava_cot.core.stages import LLAVA_COT
from llava_cot.scenes.filters import VALUES
from llava_cot.scenes.ground_truth import AGREES, caption_verdict, reasoning_verdict, seen_answer
from llava_cot.scenes.questions import SceneQuestion
from llava_cot.scenes.teacher import caption, describe, reasoning, steps, summary, teach
from llava_cot.scenes.world import MAX_OBJECTS, Scene, SceneObject, draw_scene
from llava_cot.search.judge_prompts import choice_reply, default_prompts
from research.mini.examples import Example, misperceive, misreason, question_text, tagged


def duel(
    stage: str,
    question: SceneQuestion,
    hint: dict[str, str],
    texts: Sequence[str],
    verdict: tuple[int, str],
    direct: bool = False,
) -> Example:
    """The two texts in the self-judge's prompt; the verdict is the better one's number, and why."""
    choice, reason = verdict
    prompt = default_prompts().duel(stage, question_text(question), hint, texts[0], texts[1])
    return Example(prompt, choice_reply(choice, "" if direct else reason), direct=direct)


def made_up_duel(scene: Scene, question: SceneQuestion, rng: random.Random) -> Example | None:
    """A duel between the teacher's text and one with slips, both in the model's manner."""
    stage = rng.choices(
        ("caption", "reasoning", "answer", "conclusion", "summary", "sentence"), (56, 14, 16, 5, 5, 4)
    )[0]
    direct = rng.random() < 0.25
    swap = rng.random() < 0.5
    truth = teach(scene, question, rng)
    good, bad = list(scene.objects), misperceive(scene.objects, rng)
    if rng.random() < 0.15:
        bad = list(draw_scene(rng).objects)  # easy, to learn what judging is
    while rng.random() < 0.3:
        bad = misperceive(bad, rng)
    if rng.random() < 0.15:
        good = misperceive(good, rng)
    pair = (bad, good) if swap else (good, bad)
    described = [[describe(item) for item in side] for side in pair]
    true_words = [describe(item) for item in scene.objects]
    if stage == "caption" and rng.random() < 0.1:
        return _miscounted_duel(scene, question, truth, rng, direct, swap)
    if stage == "caption":
        verdict = caption_verdict(described[0], described[1], true_words)
        texts = [caption(side) for side in pair]
        return verdict and duel(stage, question, {"summary": truth["summary"]}, texts, verdict, direct)
    if stage == "sentence":
        verdict = caption_verdict(described[0], described[1], true_words)
        texts = ["From" + caption(side).partition("From")[2] for side in pair]
        start = LLAVA_COT.stages[0]
        so_far = (
            f"{start.open}{truth['summary']}{start.close}{LLAVA_COT.stages[1].open}"
            f"There are {len(true_words)} objects."
        )
        return verdict and duel(stage, question, {"sentence": so_far}, texts, verdict, direct)
    if stage == "answer":
        return _answer_duel(scene, question, pair, described, rng, direct)
    if stage == "summary":
        return _summary_duel(scene, question, truth, rng, direct, swap)
    if stage == "conclusion":
        wrong = rng.choice([o for o in _conclusions(question) if o != question.conclusion])
        texts = [wrong, question.conclusion] if swap else [question.conclusion, wrong]
        verdict = (2 if swap else 1, AGREES)
        hint = {key: truth[key] for key in ("summary", "caption", "reasoning")}
        return duel(stage, question, hint, texts, verdict, direct)
    return _reasoning_duel(scene, question, truth, rng, direct, swap)


def _reasoning_duel(
    scene: Scene, question: SceneQuestion, truth: dict[str, str], rng: random.Random, direct: bool, swap: bool
) -> Example | None:
    wrong = misreason(scene, question, rng)
    if wrong is None or wrong == truth["reasoning"]:
        return None
    texts = [wrong, truth["reasoning"]] if swap else [truth["reasoning"], wrong]
    verdict = reasoning_verdict(texts[0], texts[1], steps(scene, question))
    hint = {key: truth[key] for key in ("summary", "caption")}
    return verdict and duel("reasoning", question, hint, texts, verdict, direct)


def _miscounted_duel(
    scene: Scene, question: SceneQuestion, truth: dict[str, str], rng: random.Random, direct: bool, swap: bool
) -> Example:
    """Two captions with the same list, of which one gives its length wrongly."""
    right = len(scene.objects)
    wrong = right + rng.choice((-1, 1))
    texts = [truth["caption"], truth["caption"].replace(str(right), str(wrong), 1)]
    counts = [right, wrong]
    if swap:
        texts, counts = texts[::-1], counts[::-1]
    reason = (
        f"there are {counts[0]} objects in response 1, {counts[1]} in response 2 and {right} in the image"
    )
    hint = {"summary": truth["summary"]}
    return duel("caption", question, hint, texts, (2 if swap else 1, reason), direct)


def _conclusions(question: SceneQuestion) -> list[str]:
    if question.options:
        return list("ABCD"[: len(question.options)])
    if question.answer.isdigit():
        return [str(n) for n in range(MAX_OBJECTS + 5)]
    return next((list(v) for v in (("yes", "no"), *VALUES.values()) if question.answer in v), ["yes", "no"])


def _answer_duel(
    scene: Scene,
    question: SceneQuestion,
    pair: Sequence[Sequence[SceneObject]],
    described: Sequence[Sequence[str]],
    rng: random.Random,
    direct: bool,
) -> Example | None:
    if rng.random() < 0.4:
        return _same_caption_duel(scene, question, rng, direct)
    texts, right = [], []
    for side in pair:
        seen = seen_answer(scene, side, question)
        if seen is None:
            return None
        texts.append(tagged(teach(seen[1], seen[0], rng)))
        right.append(seen[0].answer == question.answer)
    verdict = caption_verdict(described[0], described[1], [describe(item) for item in scene.objects])
    if verdict is None or (right[0] != right[1] and verdict[0] != (1 if right[0] else 2)):
        return None
    return duel("answer", question, {}, texts, verdict, direct)


def _same_caption_duel(
    scene: Scene, question: SceneQuestion, rng: random.Random, direct: bool
) -> Example | None:
    """Two answers that see the same and differ in their reasoning."""
    wrong = misreason(scene, question, rng)
    if wrong is None or wrong == reasoning(scene, question):
        return None
    last = wrong.rstrip(".").split(" ")[-1]
    conclusion = last if last in _conclusions(question) else rng.choice(_conclusions(question))
    sides = [
        tagged(teach(scene, question, rng)),
        tagged({**teach(scene, question, rng), "reasoning": wrong, "conclusion": conclusion}),
    ]
    verdict = reasoning_verdict(reasoning(scene, question), wrong, steps(scene, question))
    if verdict is None:
        return None
    if rng.random() < 0.5:
        sides, verdict = sides[::-1], (2, verdict[1])
    return duel("answer", question, {}, sides, verdict, direct)


def _summary_duel(
    scene: Scene, question: SceneQuestion, truth: dict[str, str], rng: random.Random, direct: bool, swap: bool
) -> Example:
    good = truth["summary"]
    kind = rng.random()
    if kind < 0.4:  # two wordings, equally good
        texts, verdict = [good, summary(question, rng)], (1, "both fit the question")
    elif kind < 0.7:
        texts, verdict = [good, f"{good[:-1]}, which is {question.conclusion}."], (1, "it gives nothing away")
    else:
        name = rng.choice(tuple(VALUES))
        texts = [
            good,
            f"I will list the objects and name the {name} of the {describe(rng.choice(scene.objects))}.",
        ]
        verdict = (1, "it fits the question")
    if swap and kind >= 0.4:
        texts, verdict = texts[::-1], (2, verdict[1])
    return duel("summary", question, {}, texts, verdict, direct)
