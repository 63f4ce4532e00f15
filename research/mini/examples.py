"""The texts that mini learns from: staged answers, captions, endings, checks of a reasoning.

Each function returns plain text; `rows.py` turns text into token ids. Duels are `made_up.py`'s and
`sampled.py`'s.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Literal

from llava_cot.core import prompting
from llava_cot.core.question import Question
from llava_cot.core.stages import LLAVA_COT
from llava_cot.scenes.ground_truth import check_verdict
from llava_cot.scenes.questions import SceneQuestion
from llava_cot.scenes.teacher import caption, reasoning, teach
from llava_cot.scenes.world import Scene
from llava_cot.search.judge_prompts import check_reply, default_prompts
from research.mini.slips import misreason

Target = Literal["staged", "untagged", "direct"]


@dataclass(frozen=True)
class Example:
    """A prompt's text and the reply to learn.

    Only the choice is learned of a `direct` duel, and only what follows from the rest (an option's letter,
    yes or no) of an `ending`. What stands in the reply from the character `after` on weighs more: it needs to
    be worked out.
    """

    prompt: str
    reply: str
    picture: bool = True
    direct: bool = False
    ending: bool = False
    after: int | None = None


def question_text(question: SceneQuestion) -> str:
    return prompting.question_text(Question(question.text, options=question.options))


def tagged(stages: dict[str, str]) -> str:
    """Some of the stages, in order, each between its tags."""
    return "".join(f"{s.open}{stages[s.name]}{s.close}" for s in LLAVA_COT.stages if s.name in stages)


def answer(scene: Scene, question: SceneQuestion, rng: random.Random, target: Target) -> Example:
    """The teacher's answer: in stages, the same text without tags, or the conclusion alone."""
    stages, asked = teach(scene, question, rng), question_text(question)
    if target == "direct":
        return Example(asked, stages["conclusion"], after=0)
    seen = {name: stages[name] for name in ("summary", "caption")}
    worked = {name: stages[name] for name in ("reasoning", "conclusion")}
    if target == "staged":
        return Example(asked, tagged(seen) + tagged(worked), after=len(tagged(seen)))
    start = "\n".join(seen.values())
    return Example(asked, "\n".join([start, *worked.values()]), after=len(start))


def description(scene: Scene) -> Example:
    """The caption alone, of no question in particular."""
    return Example("Describe the picture.", tagged({"caption": caption(scene.objects)}))


def ending(scene: Scene, question: SceneQuestion) -> Example | None:
    """Reasoning and conclusion without a picture, where the last word follows from what was said before."""
    if not question.options and question.answer not in ("yes", "no"):
        return None
    reply = tagged({"reasoning": reasoning(scene, question), "conclusion": question.conclusion})
    return Example(question_text(question), reply, picture=False, ending=True)


def check(scene: Scene, question: SceneQuestion, rng: random.Random) -> Example | None:
    """The check of one reasoning, without the picture."""
    said = reasoning(scene, question) if rng.random() < 0.5 else misreason(scene, question, rng)
    return check_example(question, scene, said) if said else None


def check_example(question: SceneQuestion, seen: Scene, said: str) -> Example:
    """The reply does the work of every step, up to the first that is wrong, and then gives its verdict."""
    prompt = default_prompts().reasoning_check(question_text(question), caption(seen.objects), said)
    return Example(prompt, check_reply(*check_verdict(question, seen, said)), picture=False)
