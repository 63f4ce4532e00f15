"""The texts that mini learns from: staged answers, duels between two stages, checks of a reasoning.

Owns how a duel is labelled by the truth and how the reply gives its reason. Each function returns plain
text; `rows.py` turns text into token ids.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from comparing import caption_verdict

from llava_cot import prompting
from llava_cot.judges.prompts import CHOICE, check_prompt, judge_prompt
from llava_cot.question import Question
from llava_cot.scenes.questions import VALUES, SceneQuestion, solve
from llava_cot.scenes.teacher import caption, describe, reasoning, steps, summary, teach
from llava_cot.scenes.world import MAX_OBJECTS, Object, Scene, draw_scene
from llava_cot.stages import LLAVA_COT


@dataclass(frozen=True)
class Example:
    """A prompt's text and the reply to learn. Only the choice is learned of a `direct` duel, and only what
    follows from the rest (an option's letter, yes or no) of an `ending`."""

    prompt: str
    reply: str
    picture: bool = True
    direct: bool = False
    ending: bool = False


def question_text(question: SceneQuestion) -> str:
    return prompting.question_text(Question(question.text, options=question.options))


def tagged(stages: dict[str, str]) -> str:
    return "".join(f"{s.open}{stages[s.name]}{s.close}" for s in LLAVA_COT.stages)


def answer(scene: Scene, question: SceneQuestion, rng: random.Random) -> Example:
    return Example(question_text(question), tagged(teach(scene, question, rng)))


def description(scene: Scene) -> Example:
    """The caption alone, of no question in particular."""
    stage = LLAVA_COT.stage("caption")
    return Example("Describe the picture.", f"{stage.open}{caption(scene.objects)}{stage.close}")


def ending(scene: Scene, question: SceneQuestion) -> Example | None:
    """Reasoning and conclusion without a picture, where the last word follows from what was said before."""
    if not question.options and question.answer not in ("yes", "no"):
        return None
    stages = (LLAVA_COT.stage("reasoning"), LLAVA_COT.stage("conclusion"))
    texts = (reasoning(scene, question), question.conclusion)
    reply = "".join(f"{stage.open}{text}{stage.close}" for stage, text in zip(stages, texts, strict=True))
    return Example(question_text(question), reply, picture=False, ending=True)


# What mini gets wrong when it samples: shapes more often than anything else that it sees.
_SLIPS = ("shape", "shape", "shape", "size", "material", "color")


def misperceive(objects: Sequence[Object], rng: random.Random) -> list[Object]:
    """The objects with one slip: a wrong attribute, or one missed, seen twice, imagined or out of order."""
    seen = list(objects)
    kind, at = rng.random(), rng.randrange(len(seen))
    if kind < 0.4:
        name = rng.choice(_SLIPS)
        wrong = rng.choice([value for value in VALUES[name] if value != getattr(seen[at], name)])
        seen[at] = replace(seen[at], **{name: wrong})
    elif kind < 0.66 and len(seen) > 2:
        del seen[at]
    elif kind < 0.92 and len(seen) < MAX_OBJECTS:
        at = rng.choice((at, len(seen) - 1))  # the last one is repeated where the count said more
        again = seen[at]
        for name in rng.sample(tuple(VALUES), rng.choice((0, 0, 0, 1, 2))):
            again = replace(again, **{name: rng.choice(VALUES[name])})
        seen.insert(at + 1, again)
    else:
        other = max(0, at - 1)
        seen[at], seen[other] = seen[other], seen[at]
    return seen


def reasoning_verdict(a: str, b: str, truth: Sequence[tuple[str, str]]) -> tuple[int, str] | None:
    """Which of two reasonings is the true one; why: the work of the first step that the other gets wrong."""
    text = " ".join(said for said, _ in truth)
    if (a == text) == (b == text):
        return None
    choice, other = (1, b) if a == text else (2, a)
    sentences = [f"{said}." for said in other.rstrip(".").split(". ")]
    for place, (said, work) in enumerate(truth):
        if place >= len(sentences) or sentences[place] != said:
            return choice, work
    return choice, truth[-1][1]


def duel(
    stage: str,
    question: SceneQuestion,
    hint: dict[str, str],
    a: str,
    b: str,
    verdict: tuple[int, str],
    direct: bool,
) -> Example:
    choice, reason = verdict
    prompt = judge_prompt(stage, question_text(question), hint, a, b)
    reply = f"{CHOICE} {choice}." if direct else f"Since {reason}, {CHOICE} {choice}."
    return Example(prompt, reply, direct=direct)


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
        return verdict and duel(stage, question, {"summary": truth["summary"]}, *texts, verdict, direct)
    if stage == "sentence":
        verdict = caption_verdict(described[0], described[1], true_words)
        texts = ["From" + caption(side).partition("From")[2] for side in pair]
        start = LLAVA_COT.stages[0]
        so_far = (
            f"{start.open}{truth['summary']}{start.close}{LLAVA_COT.stages[1].open}"
            f"There are {len(true_words)} objects."
        )
        return verdict and duel(stage, question, {"sentence": so_far}, *texts, verdict, direct)
    if stage == "answer":
        return _answer_duel(scene, question, pair, described, rng, direct)
    if stage == "summary":
        return _summary_duel(scene, question, truth, rng, direct, swap)
    if stage == "conclusion":
        wrong = rng.choice([o for o in _conclusions(question) if o != question.conclusion])
        texts = [wrong, question.conclusion] if swap else [question.conclusion, wrong]
        verdict = (2 if swap else 1, "it agrees with the reasoning")
        hint = {key: truth[key] for key in ("summary", "caption", "reasoning")}
        return duel(stage, question, hint, texts[0], texts[1], verdict, direct)
    wrong = misreason(scene, question, rng)
    if wrong is None or wrong == truth["reasoning"]:
        return None
    texts = [wrong, truth["reasoning"]] if swap else [truth["reasoning"], wrong]
    verdict = reasoning_verdict(texts[0], texts[1], steps(scene, question))
    hint = {key: truth[key] for key in ("summary", "caption")}
    return verdict and duel(stage, question, hint, texts[0], texts[1], verdict, direct)


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
    return duel("caption", question, hint, texts[0], texts[1], (2 if swap else 1, reason), direct)


def _conclusions(question: SceneQuestion) -> list[str]:
    if question.options:
        return list("ABCD"[: len(question.options)])
    if question.answer.isdigit():
        return [str(n) for n in range(MAX_OBJECTS + 5)]
    return next((list(v) for v in (("yes", "no"), *VALUES.values()) if question.answer in v), ["yes", "no"])


def seen_answer(
    scene: Scene, objects: Sequence[Object], question: SceneQuestion
) -> tuple[SceneQuestion, Scene] | None:
    """The question as it is answered by someone who sees these objects instead."""
    seen = Scene(tuple(objects), scene.light)
    result = solve(seen, question)
    if result is None or (question.options and result not in question.options):
        return None
    return replace(question, answer=result), seen


def misreason(scene: Scene, question: SceneQuestion, rng: random.Random) -> str | None:
    """A reasoning with a slip: an object misread, or a number off by one."""
    truth = reasoning(scene, question)
    if rng.random() < 0.3:
        words = truth.split(" ")
        numbers = [i for i, word in enumerate(words) if word.rstrip(".,").isdigit()]
        if numbers:
            at = rng.choice(numbers)
            number = words[at].rstrip(".,")
            words[at] = words[at].replace(number, str(max(0, int(number) + rng.choice((-1, 1)))))
            return " ".join(words)
    seen = seen_answer(scene, misperceive(scene.objects, rng), question)
    return seen and reasoning(seen[1], seen[0])


def _answer_duel(
    scene: Scene,
    question: SceneQuestion,
    pair: Sequence[Sequence[Object]],
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
    return duel("answer", question, {}, texts[0], texts[1], verdict, direct)


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
    return duel("answer", question, {}, sides[0], sides[1], verdict, direct)


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
    return duel("summary", question, {}, texts[0], texts[1], verdict, direct)


def check(scene: Scene, question: SceneQuestion, rng: random.Random) -> Example | None:
    """The check of one reasoning, without the picture."""
    said = reasoning(scene, question) if rng.random() < 0.5 else misreason(scene, question, rng)
    return said and check_example(question, scene, said)


def check_example(question: SceneQuestion, seen: Scene, said: str) -> Example:
    """The reply does the work of every step, up to the first that is wrong, and then gives its verdict."""
    truth = steps(seen, question)
    sentences = [f"{sentence}." for sentence in said.rstrip(".").split(". ")]
    done: list[str] = []
    for place, (sentence, work) in enumerate(truth):
        done.append(f"{work[0].upper()}{work[1:]}.")
        if place >= len(sentences) or sentences[place] != sentence:
            break
    right = said == " ".join(sentence for sentence, _ in truth)
    reply = " ".join([*done, f"Verdict: {'correct' if right else 'incorrect'}."])
    return Example(check_prompt(question_text(question), caption(seen.objects), said), reply, picture=False)
