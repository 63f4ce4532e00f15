"""The programmatic teacher: writes the four true stages of an answer to a question about a scene.

Its reasoning looks at one object after the other: what it is, and whether that matches. A small model learns
this within minutes, and to name all that match in one glance not in an hour (research/mini/README.md).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

from llava_cot.core.question import lettered
from llava_cot.scenes.chains import State, Step, states, step_name
from llava_cot.scenes.filters import Filter
from llava_cot.scenes.questions import SceneQuestion
from llava_cot.scenes.world import Scene, SceneObject

ORDINALS = (
    "first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth", "eleventh",
    "twelfth",
)  # fmt: skip
# An object in a caption: its place and its four words.
MENTION = re.compile(rf"\b({'|'.join(ORDINALS)}) a (\w+) (\w+) (\w+) (\w+)")


def teach(scene: Scene, question: SceneQuestion) -> dict[str, str]:
    """The stages by name: summary, caption, reasoning, conclusion."""
    return {
        "summary": summary(question),
        "caption": caption(scene.objects),
        "reasoning": reasoning(scene, question),
        "conclusion": question.conclusion,
    }


def describe(item: SceneObject) -> str:
    return f"{item.size} {item.color} {item.material} {item.shape}"


def described(words: str) -> SceneObject:
    """The object with this description, at no place."""
    size, color, material, shape = words.split(" ")
    return SceneObject(size, color, material, shape, x=0.0, y=0.0, turn=0.0)


def caption(objects: Sequence[SceneObject]) -> str:
    return caption_of([describe(item) for item in objects])


def caption_of(descriptions: Sequence[str]) -> str:
    """The caption that lists these objects, at most twelve, from left to right."""
    listed = ", ".join(f"{ORDINALS[i]} a {what}" for i, what in enumerate(descriptions))
    return f"There are {len(descriptions)} objects. From left to right: {listed}."


def summary(question: SceneQuestion) -> str:
    """How the question will be approached, without anything of the answer.

    It has one wording: with several, answers would part here though none of them is the better one.
    """
    return f"I will list the objects and {_plan(question)}."


def _plan(question: SceneQuestion) -> str:
    if question.type == "exist":
        return f"check for a {question.filters[0].one}"
    if question.type == "count":
        return f"count the {question.filters[0].many}"
    if question.type == "position" and question.attribute:
        return f"name the {question.attribute} of the {question.end}most one"
    if question.type == "position":
        return f"compare the places of the {question.filters[0].one} and the {question.filters[1].one}"
    if question.type == "compare":
        return f"compare the numbers of {question.filters[0].many} and {question.filters[1].many}"
    if question.attribute:
        return f"name the {question.attribute} of the {question.filters[0].one}"
    return "work out the number step by step"


def reasoning(scene: Scene, question: SceneQuestion) -> str:
    """The steps and their results, as sentences."""
    return " ".join(steps(scene, question))


def steps(scene: Scene, question: SceneQuestion) -> list[str]:
    """The sentences of the reasoning."""
    to_sentences = chain_sentences if question.chain else _perceived
    sentences = to_sentences(scene.objects, question)
    if question.options:
        sentences.append(_option_sentence(question))
    return sentences


def _option_sentence(question: SceneQuestion) -> str:
    """The answer, the options one after the other, and the right one's letter.

    (Models that went from the answer to its letter at once chose the letter by chance.)
    """
    seen = [
        (f"{letter} {option}", "yes" if option == question.answer else "no")
        for letter, option in lettered(question.options)
    ]
    return f"The answer is {question.answer}: {_looked(seen)}, so option {question.conclusion}."


def _perceived(objects: Sequence[SceneObject], question: SceneQuestion) -> list[str]:
    """The sentences about a question of perception, or about a comparison."""
    answer, filters = question.answer, question.filters
    if question.end and question.attribute:
        last = ORDINALS[0 if question.end == "left" else len(objects) - 1]
        return [f"The {question.end}most object is the {last}; its {question.attribute} is {answer}."]
    if question.type in ("exist", "count"):
        what = filters[0]
        return [f"{_capital(what.many)}: {_counted(objects, what)}, so the answer is {answer}."]
    if question.type == "compare":
        a, b = (len(what.places(objects)) for what in filters)
        relation = "equal to" if a == b else "more than" if a > b else "fewer than"
        counted = [f"{_capital(what.many)}: {_counted(objects, what)}." for what in filters]
        return [*counted, f"{a} is {relation} {b}, so the answer is {answer}."]
    found = [f"The {what.one}: {_found(objects, what)}" for what in filters]
    if question.type == "position":
        a, b = (what.places(objects)[0] for what in filters)
        result = f"{_capital(ORDINALS[a])} is {'left' if a < b else 'right'} of {ORDINALS[b]}"
        return [*(f"{one}." for one in found), f"{result}, so the answer is {answer}."]
    return [f"{found[0]}; its {question.attribute} is {answer}."]


def _capital(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}"


def chain_sentences(objects: Sequence[SceneObject], question: SceneQuestion) -> list[str]:
    """The sentences of a chain's reasoning: each step and its result.

    A step on sets says of each object what it is, whether that matches, and what becomes of it.
    """
    passed = states(objects, question.chain)
    assert passed is not None  # the question makes sense in this scene
    sentences = [f"We start with {len(objects)} objects."]
    for step, (before, after) in zip(question.chain, pairwise(passed), strict=True):
        work = _set_work if step.of_sets else _number_work
        sentences.append(f"{step_name(step)}: {work(objects, step, before, after)}.")
    return sentences


def _number_work(objects: Sequence[SceneObject], step: Step, before: State, after: State) -> str:
    old, new = before.number, after.number
    match step.kind:
        case "add":
            return f"{old} + {step.number} = {new}"
        case "subtract":
            return f"{old} - {step.number} = {new}"
        case "double":
            return f"{old} + {old} = {new}"
        case "halve" if old % 2:
            return f"{old} is odd, so it stays {new}"
        case "halve":
            return f"{old} is even, half of it is {new}"
    counted, come = _counted(objects, step.other), len(step.other.places(objects))
    if step.kind == "more":
        return f"{counted}; {old} + {come} = {new}"
    gone = len(before.left) - len(after.left)
    swapped = _fates(looks(objects, step.what), before, after)
    return f"{swapped}: {gone}; {counted}; {old} - {gone} + {come} = {new}"


def _set_work(objects: Sequence[SceneObject], step: Step, before: State, after: State) -> str:
    if step.relation is None:
        return f"{_fates(looks(objects, step.what), before, after)}: {after.number}"
    place, found = step.other.places(objects)[0], _found(objects, step.other)
    if step.relation in ("left", "right"):
        seen = [side_look(other, place, step.relation) for other in range(len(objects))]
    else:
        value = getattr(objects[place], step.relation)
        found, seen = f"{found}, {value}", looks(objects, Filter(**{step.relation: value}))
    return f"{found}; {_fates(seen, before, after)}: {after.number}"


def _fates(seen: Sequence[tuple[str, str]], before: State, after: State) -> str:
    """What becomes of each object that is left: "first red yes goes, second blue no stays"."""
    listed = [
        f"{' '.join(seen[place])} {'stays' if place in after.left else 'goes'}" for place in before.left
    ]
    return ", ".join(listed) or "none"


def looks(objects: Sequence[SceneObject], what: Filter) -> list[tuple[str, str]]:
    """Of each object, its place with what a description asks for, and "yes" or "no": "first red", "no"."""
    return [
        (f"{ORDINALS[place]} {what.of(item)}", "yes" if what.matches(item) else "no")
        for place, item in enumerate(objects)
    ]


def _counted(objects: Sequence[SceneObject], what: Filter) -> str:
    """The objects one after the other, and how many match: "first red yes, second blue no: 1"."""
    return f"{_looked(looks(objects, what))}: {len(what.places(objects))}"


def _found(objects: Sequence[SceneObject], what: Filter) -> str:
    """The objects up to the first that matches: "first red sphere no, second red cube yes"."""
    return _looked(looks(objects, what)[: what.places(objects)[0] + 1])


def _looked(seen: Sequence[tuple[str, str]]) -> str:
    return ", ".join(f"{look} {verdict}" for look, verdict in seen)


def side_look(other: int, place: int, side: str) -> tuple[str, str]:
    """The same of an object's side, seen from the one at a place: "first left", "yes"."""
    where = "itself" if other == place else "left" if other < place else "right"
    return f"{ORDINALS[other]} {where}", "yes" if where == side else "no"
