"""The programmatic teacher: writes the four stages of a question about a scene, always truly.

Owns the wordings of the stages. The caption describes the objects from left to right; the reasoning
names objects by their place in the caption; the conclusion is the bare answer.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from llava_cot.scenes.questions import Filter, SceneQuestion, Step
from llava_cot.scenes.world import Object, Scene

ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth")


def teach(scene: Scene, question: SceneQuestion, rng: random.Random) -> dict[str, str]:
    """The stages by name: summary, caption, reasoning, conclusion."""
    return {
        "summary": summary(question, rng),
        "caption": caption(scene.objects),
        "reasoning": reasoning(scene, question),
        "conclusion": question.conclusion,
    }


def describe(item: Object) -> str:
    return f"{item.size} {item.color} {item.material} {item.shape}"


def caption(objects: Sequence[Object]) -> str:
    listed = ", ".join(f"{ORDINALS[i]} a {describe(item)}" for i, item in enumerate(objects))
    return f"There are {len(objects)} objects. From left to right: {listed}."


def summary(question: SceneQuestion, rng: random.Random) -> str:
    """How the question will be approached, with nothing of the answer."""
    start = rng.choice(("I will", "To answer, I will"))
    return f"{start} list the objects and {_plan(question)}."


def _plan(question: SceneQuestion) -> str:
    if question.type == "exist":
        return f"check for a {question.filters[0].one}"
    if question.type == "count":
        return f"count the {question.filters[0].many}"
    if question.type == "position" and question.attribute:
        return f"name the {question.attribute} of the {question.end}most one"
    if question.type == "position":
        return f"compare the places of the {question.filters[0].one} and the {question.filters[1].one}"
    if question.attribute and question.type != "compare":
        return f"name the {question.attribute} of the {question.filters[0].one}"
    if question.type == "compare":
        return f"compare the numbers of {question.filters[0].many} and {question.filters[1].many}"
    return "work out the number step by step"


def _list(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _which(objects: Sequence[Object], what: Filter, gone: set[int] = frozenset()) -> list[int]:  # type: ignore[assignment]
    return [i for i, item in enumerate(objects) if i not in gone and what.matches(item)]


def _matches(found: Sequence[int], what: Filter) -> str:
    """Which objects match: "The first and third are red objects"; "The third is a red object"; "None are …"."""
    if not found:
        return f"None are {what.many}"
    if len(found) == 1:
        return f"The {ORDINALS[found[0]]} is a {what.one}"
    return f"The {_list([ORDINALS[i] for i in found])} are {what.many}"


def reasoning(scene: Scene, question: SceneQuestion) -> str:
    text = _reason(scene, question)
    return f"{text} That is option {question.conclusion}." if question.options else text


def _reason(scene: Scene, question: SceneQuestion) -> str:
    objects, answer = scene.objects, question.answer
    if question.steps:
        return _arithmetic(objects, question.steps)
    if question.end and question.attribute:
        last = 0 if question.end == "left" else len(objects) - 1
        return f"The {ORDINALS[last]} object is the {question.end}most one, and its {question.attribute} is {answer}."
    found = [_which(objects, what) for what in question.filters]
    if question.type == "exist":
        return f"{_matches(found[0], question.filters[0])}, so the answer is {answer}."
    if question.type == "count":
        return f"{_matches(found[0], question.filters[0])}, which makes {answer}."
    if question.type == "position":
        a, b = (ORDINALS[places[0]] for places in found)
        first, second = question.filters
        return f"The {first.one} is the {a} object and the {second.one} is the {b}, so the answer is {answer}."
    if question.type == "compare":
        said = [
            f"{_matches(places, what)}, which makes {len(places)}."
            for places, what in zip(found, question.filters, strict=True)
        ]
        a_count, b_count = len(found[0]), len(found[1])
        relation = "equal to" if a_count == b_count else "more than" if a_count > b_count else "fewer than"
        return f"{said[0]} {said[1]} {a_count} is {relation} {b_count}, so the answer is {answer}."
    return f"The {question.filters[0].one} is the {ORDINALS[found[0][0]]} object, and its {question.attribute} is {answer}."


def _arithmetic(objects: Sequence[Object], steps: Sequence[Step]) -> str:
    left, gone = len(objects), set[int]()
    said = [f"We start with {left} objects."]
    for step in steps:
        if step.kind == "add":
            left += step.number
            said.append(f"Adding {step.number} makes {left}.")
            continue
        found = _which(objects, step.what, gone)
        if step.kind == "subtract":
            gone.update(found)
            left -= len(found)
        else:
            left = len(found)
        said.append(f"{_matches(found, step.what)}, so {left} {'is' if left == 1 else 'are'} left.")
    return " ".join(said)
