"""Chains: the reasoning questions of hard scenes, as programs of 1 to 8 steps that depend on one another.

A chain starts with all objects. Steps on sets come first: remove or keep the objects that match a description,
that stand left or right of an object, or that share an attribute with it. Steps on numbers follow: add, subtract,
double, halve if even, add as many as another group has, swap some for as many as another group has. Objects
that a step on numbers adds match no description.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from llava_cot.scenes.filters import VALUES, Filter, draw_filter, draw_unique
from llava_cot.scenes.world import Scene, SceneObject

TYPES = ("sets", "relations", "numbers")
DEEPEST = 8
LARGEST = 40  # no number on the way is larger
_SET_STEPS = 4  # at most
_TRIES = 12  # descriptions drawn for a step on sets, of which the first that changes the set is taken
_NO_CHANGE = 0.1  # how often a step on sets may change nothing


@dataclass(frozen=True)
class Step:
    """One step. `relation` is "left", "right", or the attribute that objects share with the one `other` names.

    For "more" and "swap", `other` describes the group that is counted, in the whole scene.
    """

    kind: str  # "remove", "keep"; "add", "subtract", "double", "halve", "more", "swap"
    what: Filter = Filter()
    number: int = 0
    relation: str | None = None
    other: Filter = Filter()

    @property
    def of_sets(self) -> bool:
        return self.kind in ("remove", "keep")


@dataclass(frozen=True)
class State:
    """After a step: the places of the scene's objects that are left, and the number so far."""

    left: tuple[int, ...]
    number: int


def states(objects: Sequence[SceneObject], steps: Sequence[Step]) -> list[State] | None:
    """The state before the first step and after each one; None where a step names no single object."""
    state = State(tuple(range(len(objects))), len(objects))
    found = [state]
    for step in steps:
        after = _after(objects, state, step)
        if after is None:
            return None
        state = after
        found.append(state)
    return found


def matches(objects: Sequence[SceneObject], step: Step) -> set[int] | None:
    """The places of the objects that a step on sets is about; None if `other` does not name a single one."""
    places = set(step.what.places(objects))
    if step.relation is None:
        return places
    one = step.other.places(objects)
    if len(one) != 1:
        return None
    if step.relation == "left":
        return {place for place in places if place < one[0]}
    if step.relation == "right":
        return {place for place in places if place > one[0]}
    value = getattr(objects[one[0]], step.relation)
    return {place for place in places if getattr(objects[place], step.relation) == value}


def _after(objects: Sequence[SceneObject], state: State, step: Step) -> State | None:
    number = state.number
    if step.of_sets:
        matching = matches(objects, step)
        if matching is None:
            return None
        left = tuple(place for place in state.left if (place in matching) == (step.kind == "keep"))
        return State(left, len(left))
    if step.kind == "swap":
        goes = step.what.places([objects[place] for place in state.left])
        left = tuple(place for i, place in enumerate(state.left) if i not in goes)
        return State(left, number - len(goes) + len(step.other.places(objects)))
    if step.kind == "halve":
        return State(state.left, number if number % 2 else number // 2)
    change = {
        "add": step.number,
        "subtract": -step.number,
        "double": number,
        "more": len(step.other.places(objects)),
    }
    return State(state.left, number + change[step.kind])


def draw_chain(scene: Scene, rng: random.Random) -> tuple[Step, ...]:
    """Draw a chain; each depth, and each number of steps on sets at it, is equally likely."""
    depth = rng.randint(1, DEEPEST)
    of_sets = rng.randint(max(1, depth - _SET_STEPS), min(_SET_STEPS, depth))
    state, steps = State(tuple(range(len(scene.objects))), len(scene.objects)), list[Step]()
    for place in range(depth):
        draw = _set_step if place < of_sets else _number_step
        step = draw(scene, rng, state, place == of_sets)
        after = _after(scene.objects, state, step)
        assert after is not None
        state = after
        steps.append(step)
    return tuple(steps)


def _set_step(scene: Scene, rng: random.Random, state: State, _: bool) -> Step:
    any_change = rng.random() < _NO_CHANGE
    for _try in range(_TRIES):
        step = _any_set_step(scene, rng)
        after = _after(scene.objects, state, step)
        if after and (any_change or 0 < after.number < state.number):
            break
    return step


def _any_set_step(scene: Scene, rng: random.Random) -> Step:
    kind = rng.choice(("remove", "remove", "keep"))
    other = draw_unique(rng, scene) if rng.random() < 0.4 else None
    if other is None:
        return Step(kind, draw_filter(rng, scene, rng.choice((1, 1, 2)) if kind == "remove" else 1, 0.15))
    unnamed = [name for name in VALUES if getattr(other, name) is None]
    relation = rng.choice(("left", "right", rng.choice(unnamed))) if unnamed else rng.choice(("left", "right"))
    return Step(kind, relation=relation, other=other)


def _number_step(scene: Scene, rng: random.Random, state: State, first: bool) -> Step:
    """A step whose number is not below 0 and not above `LARGEST`; "swap" is only the first one."""
    while True:
        step = _any_number_step(scene, rng, first)
        after = _after(scene.objects, state, step)
        if after and 0 <= after.number <= LARGEST:
            return step


def _any_number_step(scene: Scene, rng: random.Random, first: bool) -> Step:
    kind = rng.choice(("add", "subtract", "double", "halve", "more", *(["swap"] if first else [])))
    if kind in ("double", "halve"):
        return Step(kind)
    if kind in ("add", "subtract"):
        return Step(kind, number=rng.randint(1, 5))
    group = draw_filter(rng, scene, rng.choice((1, 1, 2)), 0.1)
    if kind == "more":
        return Step(kind, other=group)
    swapped = draw_filter(rng, scene, 1, 0.1)
    return Step(kind, swapped, other=group) if swapped != group else _any_number_step(scene, rng, first)


def chain_type(steps: Sequence[Step]) -> str:
    """"relations" for a chain with a relation, else "numbers" for one with steps on numbers, else "sets"."""
    if any(step.relation for step in steps):
        return "relations"
    return "sets" if all(step.of_sets for step in steps) else "numbers"


def wording(steps: Sequence[Step], rng: random.Random) -> str:
    """The question's text."""
    end = rng.choice(("How many are there now?", "How many do you have now?", "What is the number now?"))
    return " ".join([*(_worded(step, rng) for step in steps), end])


def _worded(step: Step, rng: random.Random) -> str:
    match step.kind:
        case "remove":
            return f"{rng.choice(('Remove', 'Take away'))} all {_objects(step)}."
        case "keep":
            return f"{rng.choice(('Keep only the', 'Leave only the'))} {_objects(step)}."
        case "add":
            return f"Add {step.number}."
        case "subtract":
            return f"Subtract {step.number}."
        case "double":
            return rng.choice(("Double the number.", "Double it."))
        case "halve":
            return rng.choice(("If the number is even, halve it.", "Halve it if it is even."))
        case "more":
            return f"Add as many as there are {step.other.many}."
        case _:
            return f"Swap the {step.what.many} for as many as there are {step.other.many}."


def _objects(step: Step) -> str:
    if step.relation is None:
        return step.what.many
    if step.relation in ("left", "right"):
        return f"{step.what.many} {step.relation} of the {step.other.one}"
    return f"{step.what.many} of the {step.relation} of the {step.other.one}"
