"""The programmatic teacher: writes the four true stages of an answer to a question about a scene.

Each step of a reasoning also has its work: which objects, by their place in the caption, it comes from. The
steps of arithmetic and of comparisons are longer, and write their work themselves; those of perception give
results alone.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from itertools import pairwise

from llava_cot.scenes.chains import State, Step, states
from llava_cot.scenes.filters import Filter
from llava_cot.scenes.questions import SceneQuestion
from llava_cot.scenes.world import Scene, SceneObject

ORDINALS = (
    "first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth", "eleventh",
    "twelfth",
)  # fmt: skip
# An object in a caption: its place and its four words.
MENTION = re.compile(rf"\b({'|'.join(ORDINALS)}) a (\w+) (\w+) (\w+) (\w+)")


def teach(scene: Scene, question: SceneQuestion, rng: random.Random) -> dict[str, str]:
    """The stages by name: summary, caption, reasoning, conclusion."""
    return {
        "summary": summary(question, rng),
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


def summary(question: SceneQuestion, rng: random.Random) -> str:
    """How the question will be approached, without anything of the answer."""
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
    if question.type == "compare":
        return f"compare the numbers of {question.filters[0].many} and {question.filters[1].many}"
    if question.attribute:
        return f"name the {question.attribute} of the {question.filters[0].one}"
    return "work out the number step by step"


def reasoning(scene: Scene, question: SceneQuestion) -> str:
    """The results of the steps, as sentences."""
    return " ".join(sentence for sentence, _ in steps(scene, question))


def steps(scene: Scene, question: SceneQuestion) -> list[tuple[str, str]]:
    """The sentences of the reasoning, each with its work."""
    if question.chain:
        done = chain_sentences(scene.objects, question.chain)
        sentences = [(sentence, f"{sentence[0].lower()}{sentence[1:-1]}") for sentence in done]
    else:
        sentences = _steps(scene, question)
    if question.options:
        letter = question.conclusion
        sentences.append((f"That is option {letter}.", f"{question.answer} is option {letter}"))
    return sentences


def _steps(scene: Scene, question: SceneQuestion) -> list[tuple[str, str]]:
    objects, answer = scene.objects, question.answer
    if question.end and question.attribute:
        last = 0 if question.end == "left" else len(objects) - 1
        result = f"The {question.attribute} of the {question.end}most object is {answer}."
        return [(result, f"the {ORDINALS[last]} is a {describe(objects[last])}")]
    found = [what.places(objects) for what in question.filters]
    what, places = question.filters[0], found[0]
    if question.type == "exist":
        there = f"There is a {what.one}" if places else f"There is no {what.one}"
        return [(f"{there}, so the answer is {answer}.", _matches(places, what))]
    if question.type == "count":
        return [(f"{_number(len(places), what)}, so the answer is {answer}.", _matches(places, what))]
    if question.type == "position":
        side = "left" if places[0] < found[1][0] else "right"
        first, second = question.filters
        a_place, b_place = ORDINALS[places[0]], ORDINALS[found[1][0]]
        result = f"The {first.one} is to the {side} of the {second.one}, so the answer is {answer}."
        return [(result, f"the {first.one} is the {a_place} and the {second.one} is the {b_place}")]
    if question.type == "compare":
        a, b = len(places), len(found[1])
        relation = "equal to" if a == b else "more than" if a > b else "fewer than"
        counted = [f"{one.many}: {_counted(objects, one)}" for one in question.filters]
        return [
            *((f"{one[0].upper()}{one[1:]}.", one) for one in counted),
            (f"{a} is {relation} {b}, so the answer is {answer}.", f"{a} is {relation} {b}"),
        ]
    result = f"The {question.attribute} of the {what.one} is {answer}."
    return [(result, f"the {what.one} is the {ORDINALS[places[0]]}, a {describe(objects[places[0]])}")]


def _number(count: int, what: Filter) -> str:
    """ "3 of them are red objects"."""
    return f"1 of them is a {what.one}" if count == 1 else f"{count} of them are {what.many}"


def _matches(found: Sequence[int], what: Filter) -> str:
    """The objects that match: "the first and third are red objects", "none are red objects"."""
    if not found:
        return f"none are {what.many}"
    if len(found) == 1:
        return f"the {ORDINALS[found[0]]} is a {what.one}"
    names = [ORDINALS[i] for i in found]
    return f"the {', '.join(names[:-1])} and {names[-1]} are {what.many}"


def chain_sentences(objects: Sequence[SceneObject], chain: Sequence[Step]) -> list[str]:
    """The sentences of a chain's reasoning: each step with its work and its result.

    A step looks at one object after the other: what it is, whether that matches, and what becomes of it. A
    small model learns this within minutes, and to name all that match in one glance not in an hour
    (research/mini/README.md).
    """
    passed = states(objects, chain)
    assert passed is not None  # the question makes sense in this scene
    sentences = [f"We start with {len(objects)} objects."]
    for step, (before, after) in zip(chain, pairwise(passed), strict=True):
        to_sentence = _set_sentence if step.of_sets else _number_sentence
        sentences.append(to_sentence(objects, step, before, after))
    return sentences


def _number_sentence(objects: Sequence[SceneObject], step: Step, before: State, after: State) -> str:
    old, new = before.number, after.number
    match step.kind:
        case "add":
            return f"Adding {step.number}: {old} + {step.number} = {new}."
        case "subtract":
            return f"Subtracting {step.number}: {old} - {step.number} = {new}."
        case "double":
            return f"Doubling: {old} + {old} = {new}."
        case "halve" if old % 2:
            return f"{old} is odd, so it stays {new}."
        case "halve":
            return f"{old} is even, so half of it is {new}."
    counted, come = _counted(objects, step.other), len(step.other.places(objects))
    if step.kind == "more":
        return f"Adding {step.other.many}: {counted}; {old} + {come} = {new}."
    looked = looks(objects, step.what)
    swapped = _listed(
        [f"{' '.join(looked[place])} {_fate(place, after)}" for place in before.left],
    )
    gone = len(before.left) - len(after.left)
    return (
        f"Swapping {step.what.many}: {swapped}: {gone}; for {step.other.many}: {counted}; "
        f"{old} - {gone} + {come} = {new}."
    )


def _set_sentence(objects: Sequence[SceneObject], step: Step, before: State, after: State) -> str:
    doing, what = "Removing" if step.kind == "remove" else "Keeping", step.what
    lead, seen = f"{doing} {what.many}", looks(objects, what)
    if step.relation is not None:
        place = step.other.places(objects)[0]
        lead = f"The {step.other.one}: " + ", ".join(
            f"{look} {verdict}" for look, verdict in looks(objects, step.other)[: place + 1]
        )
        if step.relation in ("left", "right"):
            lead += f"; {doing.lower()} what is {step.relation} of it"
            seen = [side_look(other, place, step.relation) for other in range(len(objects))]
        else:
            value = getattr(objects[place], step.relation)
            what = Filter(**{step.relation: value})
            lead += f", {value}; {doing.lower()} {what.many}"
            seen = looks(objects, what)
    listed = _listed([f"{' '.join(seen[other])} {_fate(other, after)}" for other in before.left])
    return f"{lead}: {listed}: {after.number}."


def looks(objects: Sequence[SceneObject], what: Filter) -> list[tuple[str, str]]:
    """Of each object, its place with what a description asks for, and "yes" or "no": "first red", "no"."""
    return [
        (f"{ORDINALS[place]} {what.of(item)}", "yes" if what.matches(item) else "no")
        for place, item in enumerate(objects)
    ]


def _counted(objects: Sequence[SceneObject], what: Filter) -> str:
    """The objects one after the other, and how many match: "first red yes, second blue no: 1"."""
    seen = ", ".join(f"{look} {verdict}" for look, verdict in looks(objects, what))
    return f"{seen}: {len(what.places(objects))}"


def side_look(other: int, place: int, side: str) -> tuple[str, str]:
    """The same of an object's side, seen from the one at a place: "first left", "yes"."""
    where = "itself" if other == place else "left" if other < place else "right"
    return f"{ORDINALS[other]} {where}", "yes" if where == side else "no"


def _fate(place: int, after: State) -> str:
    return "stays" if place in after.left else "goes"


def _listed(parts: Sequence[str]) -> str:
    return ", ".join(parts) or "none"
