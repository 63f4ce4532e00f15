"""Chains: the reasoning questions of hard scenes, as programs of 1 to 8 steps that depend on one another.

A chain starts with all objects. Steps on sets come first: remove or keep the objects that match a
description, that stand left or right of an object, or that share an attribute with it. Steps on numbers
follow: add, subtract, double, halve if even, add as many as another group has, swap some for as many as
another group has. An object or group that a step refers to is looked up in the whole picture, whatever was
removed before.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from llava_cot.scenes.filters import ANYTHING, VALUES, Filter, draw_filter, draw_unique
from llava_cot.scenes.world import Scene, SceneObject

CHAIN_TYPES = ("sets", "relations", "numbers")
DEEPEST = 8
LARGEST = 40  # no number on the way is larger
_SET_STEPS = 4  # at most
_TRIES = 12  # descriptions drawn for a step on sets, of which the first that changes the set is taken
_CHAIN_TRIES = 20  # chains drawn for a question, of which the one with the fewest idle steps is taken
_ANY_CHAIN = 0.1  # how often the first one is taken instead


@dataclass(frozen=True)
class Step:
    """One step, on sets or on numbers.

    A step on sets with a `relation` is about the objects that have it to the one object that `other` names.
    Of "more" and "swap", `other` is the group whose number is added.
    """

    kind: str  # "remove" or "keep"; "add", "subtract", "double", "halve", "more" or "swap"
    what: Filter = ANYTHING  # the objects that are removed, kept or swapped
    number: int = 0  # of "add" and "subtract"
    relation: str | None = None  # "left", "right", or an attribute that is the same
    other: Filter = ANYTHING

    @property
    def of_sets(self) -> bool:
        return self.kind in ("remove", "keep")


@dataclass(frozen=True)
class State:
    """After a step: the places of the scene's objects that are left, and the number so far."""

    left: tuple[int, ...]
    number: int


def states(objects: Sequence[SceneObject], steps: Sequence[Step]) -> list[State] | None:
    """The state before the first step and after each one.

    None where the chain makes no sense: a relation is to no single object, or the number falls below 0.
    """
    return _states_from(_start(objects), objects, steps)


def _states_from(state: State, objects: Sequence[SceneObject], steps: Sequence[Step]) -> list[State] | None:
    """A state, and those after each of the steps."""
    found = [state]
    for step in steps:
        after = _after(objects, found[-1], step)
        if after is None:
            return None
        found.append(after)
    return found


def _start(objects: Sequence[SceneObject]) -> State:
    return State(tuple(range(len(objects))), len(objects))


def _matching(objects: Sequence[SceneObject], step: Step) -> set[int] | None:
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
    """The state after a step; None where the step makes no sense."""
    if step.of_sets:
        matching = _matching(objects, step)
        return None if matching is None else _narrowed(state, step, matching)
    left, number = state.left, state.number
    group = len(step.other.places(objects))
    match step.kind:
        case "add":
            number += step.number
        case "subtract":
            number -= step.number
        case "double":
            number *= 2
        case "halve":
            number = number if number % 2 else number // 2
        case "more":
            number += group
        case "swap":
            left = tuple(place for place in left if not step.what.matches(objects[place]))
            number += group - (len(state.left) - len(left))
    return State(left, number) if number >= 0 else None


def _narrowed(state: State, step: Step, matching: set[int]) -> State:
    """The state after a step on sets that is about these places."""
    left = tuple(place for place in state.left if (place in matching) == (step.kind == "keep"))
    return State(left, len(left))


def draw_chain(scene: Scene, rng: random.Random) -> tuple[Step, ...]:
    """Draw a chain; each depth, and each number of steps on sets at it, is equally likely.

    Few of its steps are idle, so that an answer is seldom right after a step that was done wrong.
    """
    depth = rng.randint(1, DEEPEST)
    of_sets = rng.randint(max(1, depth - _SET_STEPS), min(_SET_STEPS, depth))
    best, fewest = tuple[Step, ...](), depth + 1
    for _ in range(1 if rng.random() < _ANY_CHAIN else _CHAIN_TRIES):
        steps = _draw_steps(scene, rng, depth, of_sets)
        idle = _idle(scene.objects, steps)
        if idle < fewest:
            best, fewest = steps, idle
        if not idle:
            break
    return best


def _idle(objects: Sequence[SceneObject], steps: Sequence[Step]) -> int:
    """The number of steps without which the last number would be the same.

    Halving an odd number is none of them: there it is to be left out.
    """
    passed = states(objects, steps)
    assert passed is not None
    idle = 0
    for place, step in enumerate(steps):
        if step.kind != "halve" or passed[place].number % 2 == 0:
            without = _states_from(passed[place], objects, steps[place + 1 :])
            idle += without is not None and without[-1].number == passed[-1].number
    return idle


def _draw_steps(scene: Scene, rng: random.Random, depth: int, of_sets: int) -> tuple[Step, ...]:
    state, steps = _start(scene.objects), list[Step]()
    for place in range(depth):
        if place < of_sets:
            step, state = _set_step(scene, rng, state)
        else:
            step, state = _number_step(scene, rng, state, first=place == of_sets)
        steps.append(step)
    return tuple(steps)


def _set_step(scene: Scene, rng: random.Random, state: State) -> tuple[Step, State]:
    """A step on sets and the state after it; if it can, it changes the set and does not empty it."""
    for _ in range(_TRIES):
        step = _any_set_step(scene, rng)
        matching = _matching(scene.objects, step)
        assert matching is not None  # the one object is drawn from the scene
        after = _narrowed(state, step, matching)
        if 0 < after.number < state.number:
            break
    return step, after


def _any_set_step(scene: Scene, rng: random.Random) -> Step:
    kind = rng.choice(("remove", "remove", "keep"))
    other = draw_unique(rng, scene) if rng.random() < 0.4 else None
    if other is None:
        named = rng.choice((1, 1, 2)) if kind == "remove" else 1
        return Step(kind, draw_filter(rng, scene, named, 0.15))
    unnamed = [name for name in VALUES if getattr(other, name) is None]
    relation = rng.choice(("left", "right", rng.choice(unnamed)))
    return Step(kind, relation=relation, other=other)


def _number_step(scene: Scene, rng: random.Random, state: State, first: bool) -> tuple[Step, State]:
    """A step on numbers and the state after it; "swap" is only drawn as the first one."""
    while True:
        step = _any_number_step(scene, rng, first)
        after = _after(scene.objects, state, step)
        if after is not None and after.number <= LARGEST:
            return step, after


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
    """One of `CHAIN_TYPES`: relations if a step has one, else numbers if a step is on numbers, else sets."""
    if any(step.relation for step in steps):
        return "relations"
    return "sets" if all(step.of_sets for step in steps) else "numbers"


def chain_text(steps: Sequence[Step], rng: random.Random) -> str:
    """Draw a wording of a chain: the question's text."""
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


def step_name(step: Step) -> str:
    """A step as its reasoning begins: "Removing cubes left of the red sphere"."""
    match step.kind:
        case "remove":
            return f"Removing {_objects(step)}"
        case "keep":
            return f"Keeping {_objects(step)}"
        case "add":
            return f"Adding {step.number}"
        case "subtract":
            return f"Subtracting {step.number}"
        case "double":
            return "Doubling"
        case "halve":
            return "Halving if even"
        case "more":
            return f"Adding the number of {step.other.many}"
        case _:
            return f"Swapping {step.what.many} for {step.other.many}"


def _objects(step: Step) -> str:
    if step.relation is None:
        return step.what.many
    if step.relation in ("left", "right"):
        return f"{step.what.many} {step.relation} of the {step.other.one}"
    return f"{step.what.many} of the {step.relation} of the {step.other.one}"
