"""The texts that mini learns from: staged answers, captions, endings, and checks of reasonings.

Duels of such texts are in `made_up_duels.py` and `sampled_duels.py`; `rows.py` turns text into token ids.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from llava_cot.core.question import Question
from llava_cot.core.question import question_text as text_with_options
from llava_cot.core.stages import LLAVA_COT
from llava_cot.scenes.filters import VALUES
from llava_cot.scenes.ground_truth import check_verdict, seen_answer
from llava_cot.scenes.questions import SceneQuestion
from llava_cot.scenes.teacher import caption, reasoning, teach
from llava_cot.scenes.world import MAX_OBJECTS, Scene, SceneObject
from llava_cot.search.judge_prompts import check_reply, default_prompts

Target = Literal["staged", "untagged", "direct"]


@dataclass(frozen=True)
class Example:
    """A prompt's text and the reply to learn.

    Only the choice is learned of a `direct` duel, and only what follows from the rest (an option's letter,
    yes or no) of an `ending`. The reply from the character `after` on has a larger weight: it has to be
    worked out.
    """

    prompt: str
    reply: str
    picture: bool = True
    direct: bool = False
    ending: bool = False
    after: int | None = None


def question_text(question: SceneQuestion) -> str:
    return text_with_options(Question(question.text, options=question.options))


def tagged(stages: dict[str, str]) -> str:
    """Some of the stages, in order, each between its tags."""
    return "".join(f"{s.open}{stages[s.name]}{s.close}" for s in LLAVA_COT.stages if s.name in stages)


def answer(scene: Scene, question: SceneQuestion, rng: random.Random, target: Target) -> Example:
    """The teacher's answer: in stages, the same text without tags, or the conclusion alone."""
    stages, prompt = teach(scene, question, rng), question_text(question)
    if target == "direct":
        return Example(prompt, stages["conclusion"], after=0)
    seen = {name: stages[name] for name in ("summary", "caption")}
    worked = {name: stages[name] for name in ("reasoning", "conclusion")}
    if target == "staged":
        return Example(prompt, tagged(seen) + tagged(worked), after=len(tagged(seen)))
    start = "\n".join(seen.values())
    return Example(prompt, "\n".join([start, *worked.values()]), after=len(start))


def description(scene: Scene) -> Example:
    """The caption alone, of no question in particular."""
    return Example("Describe the picture.", tagged({"caption": caption(scene.objects)}))


def ending(scene: Scene, question: SceneQuestion) -> Example | None:
    """Reasoning and conclusion without a picture, where the last word follows from the text before."""
    if not question.options and question.answer not in ("yes", "no"):
        return None
    reply = tagged({"reasoning": reasoning(scene, question), "conclusion": question.conclusion})
    return Example(question_text(question), reply, picture=False, ending=True)


def check(scene: Scene, question: SceneQuestion, rng: random.Random) -> Example | None:
    """The check of one reasoning, without the picture."""
    reasoned = reasoning(scene, question) if rng.random() < 0.5 else misreason(scene, question, rng)
    return check_example(question, scene, reasoned) if reasoned else None


def check_example(question: SceneQuestion, seen: Scene, reasoned: str) -> Example:
    """The reply does the work of every step, up to the first that is wrong, and then gives its verdict."""
    prompt = default_prompts().reasoning_check(question_text(question), caption(seen.objects), reasoned)
    return Example(prompt, check_reply(*check_verdict(question, seen, reasoned)), picture=False)


# What mini gets wrong when it samples: shapes more often than anything else that it sees.
_SLIPS = ("shape", "shape", "shape", "size", "material", "color")


def misperceive(objects: Sequence[SceneObject], rng: random.Random) -> list[SceneObject]:
    """The objects with one slip: a wrong attribute, or one missed, seen twice, imagined or out of order."""
    seen = list(objects)
    kind, at = rng.random(), rng.randrange(len(seen))
    if kind < 0.4:
        name = rng.choice(_SLIPS)
        wrong = rng.choice([value for value in VALUES[name] if value != getattr(seen[at], name)])
        seen[at] = _changed(seen[at], name, wrong)
    elif kind < 0.66 and len(seen) > 2:
        del seen[at]
    elif kind < 0.92 and len(seen) < MAX_OBJECTS:
        at = rng.choice((at, len(seen) - 1))  # the last one is repeated where the count reasoned more
        again = seen[at]
        for name in rng.sample(tuple(VALUES), rng.choice((0, 0, 0, 1, 2))):
            again = _changed(again, name, rng.choice(VALUES[name]))
        seen.insert(at + 1, again)
    else:
        other = max(0, at - 1)
        seen[at], seen[other] = seen[other], seen[at]
    return seen


def _changed(item: SceneObject, attribute: str, value: str) -> SceneObject:
    values: dict[str, Any] = {attribute: value}
    return replace(item, **values)


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
