"""What mini-base learns from: descriptions, direct answers, questions about a text; never stages."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from llava_cot.core.question import Question, lettered
from llava_cot.core.question import question_text as text_with_options
from llava_cot.scenes.chains import LARGEST, chain_text, draw_chain, step_name
from llava_cot.scenes.filters import VALUES, Filter, draw_filter, draw_unique
from llava_cot.scenes.questions import PERCEPTION, SceneQuestion, ask_about
from llava_cot.scenes.teacher import ORDINALS, caption, looks, side_look
from llava_cot.scenes.world import Scene


@dataclass(frozen=True)
class Example:
    """A prompt's text, and the reply to learn.

    `filters` are the descriptions of objects in the prompt, each with the character at which it ends; and
    `options` its options, each with whether it is the right one, and where it ends.
    """

    prompt: str
    reply: str
    picture: bool = True
    filters: tuple[tuple[Filter, int], ...] = ()
    options: tuple[tuple[bool, int], ...] = ()


def question_text(question: SceneQuestion) -> str:
    return text_with_options(Question(question.text, options=question.options))


_DESCRIBE = (
    "Describe the picture.",
    "What do you see in the picture?",
    "List the objects from left to right.",
    "Describe the objects in the picture.",
)


def description(scene: Scene, rng: random.Random) -> Example:
    return Example(rng.choice(_DESCRIBE), caption(scene.objects))


def _filters(question: SceneQuestion) -> tuple[tuple[Filter, int], ...]:
    """The descriptions in a question of perception, and the character at which each one ends."""
    found: list[tuple[Filter, int]] = []
    start = 0
    for what in question.filters:
        start = question.text.find(what.one, start) + len(what.one)
        found.append((what, start))
    return tuple(found)


def _options(question: SceneQuestion) -> tuple[tuple[bool, int], ...]:
    """Whether each option is right, and the character of the question's text at which it ends."""
    text, found = question_text(question), list[tuple[bool, int]]()
    end = len(question.text)
    for letter, option in lettered(question.options):
        line = f"\n{letter}. {option}"
        end = text.index(line, end) + len(line)
        found.append((option == question.answer, end))
    return tuple(found)


ASKED = (*PERCEPTION, "count", "position")  # these two are learned last, and asked twice as often


def perception(scene: Scene, rng: random.Random) -> Example:
    """A question of perception, answered in a word or a number, after which an option's letter stands."""
    question = ask_about(scene, rng, rng.choice(ASKED))
    return Example(
        question_text(question), _reply(question), filters=_filters(question), options=_options(question)
    )


def _reply(question: SceneQuestion) -> str:
    """The answer: of an option its words before its letter, which are what there is to find."""
    letter = f", option {question.conclusion}" if question.options else ""
    return f"{question.answer}{letter}"


def chain(scene: Scene, rng: random.Random) -> Example:
    """A question of reasoning with its answer alone, which can only be guessed well or badly."""
    question = ask_about(scene, rng, "chains")
    return Example(question_text(question), _reply(question))


def text_question(scene: Scene, rng: random.Random) -> Example:
    """A question about a description, or about numbers, without a picture."""
    make = rng.choice(_TEXTS)
    return make(scene, rng)


def _about(scene: Scene, question: str, reply: str, filters: tuple[tuple[Filter, int], ...] = ()) -> Example:
    """A question about the scene's description, which comes first."""
    text = caption(scene.objects)
    shifted = tuple((what, len(text) + 1 + end) for what, end in filters)
    return Example(f"{text} {question}", reply, picture=False, filters=shifted)


def _attributes(scene: Scene, rng: random.Random) -> Example:
    places, name = list(range(len(scene.objects))), rng.choice(("size", "color", "material", "shape"))
    rng.shuffle(places)
    named = ", ".join(ORDINALS[place] for place in places)
    reply = ", ".join(f"{ORDINALS[place]} {getattr(scene.objects[place], name)}" for place in places)
    return _about(scene, f"What is the {name} of {named}?", f"{reply}.")


def _looks(scene: Scene, rng: random.Random) -> Example:
    """Two or three descriptions, and whether each object matches, in the words of a chain's reasoning."""
    chosen = {draw_filter(rng, scene, rng.choice((1, 1, 2)), changed=0.2) for _ in range(rng.choice((2, 3)))}
    question, filters, replies = "Which of them are ", list[tuple[Filter, int]](), list[str]()
    for what in sorted(chosen, key=lambda what: what.one):
        question += f"{', ' if filters else ''}{what.many}"
        filters.append((what, len(question)))
        seen = ", ".join(f"{look} {verdict}" for look, verdict in looks(scene.objects, what))
        replies.append(f"{what.many}: {seen}: {len(what.places(scene.objects))}.")
    return _about(scene, f"{question}?", " ".join(replies), tuple(filters))


def _side(scene: Scene, rng: random.Random) -> Example:
    place, side = rng.randrange(len(scene.objects)), rng.choice(("left", "right"))
    seen = [side_look(other, place, side) for other in range(len(scene.objects))]
    reply = ", ".join(f"{look} {verdict}" for look, verdict in seen)
    count = sum(verdict == "yes" for _, verdict in seen)
    return _about(scene, f"Which of them are {side} of the {ORDINALS[place]}?", f"{reply}: {count}.")


def _found(scene: Scene, rng: random.Random) -> Example:
    what = draw_unique(rng, scene)
    if what is None:
        return _attributes(scene, rng)
    place = what.places(scene.objects)[0]
    reply = ", ".join(f"{look} {verdict}" for look, verdict in looks(scene.objects, what)[: place + 1])
    return _about(scene, f"Which one is the {what.one}?", f"{reply}.")


def _count(scene: Scene, rng: random.Random) -> Example:
    places = sorted(rng.sample(range(len(ORDINALS)), rng.randint(1, len(ORDINALS))))
    named = ", ".join(ORDINALS[place] for place in places)
    return Example(f"How many are {named}?", str(len(places)), picture=False)


def _option(scene: Scene, rng: random.Random) -> Example:
    """An attribute of a named place, or a number that is given, by an option's letter."""
    if rng.random() < 0.5:
        place, name = rng.randrange(len(scene.objects)), rng.choice(tuple(VALUES))
        text = f"{caption(scene.objects)} What is the {name} of the {ORDINALS[place]}"
        value, values = str(getattr(scene.objects[place], name)), list(VALUES[name])
    else:
        number = rng.randint(0, LARGEST)
        value, text = str(number), f"Which one is {number}"
        values = [str(near) for near in range(max(0, number - 3), number + 4)]
    others = [other for other in values if other != value]
    options = [value, *rng.sample(others, min(3, len(others)))]
    rng.shuffle(options)
    in_words = rng.random() < 0.5
    ending = ", and which option is that?" if in_words else "?"
    question = SceneQuestion("option", f"{text}{ending}", value, tuple(options))
    letter = question.conclusion
    reply = f"The answer is {value}, option {letter}." if in_words else letter
    return Example(question_text(question), reply, picture=False, options=_options(question))


def _number(scene: Scene, rng: random.Random) -> Example:
    """Some sums, and whether a number is odd or even."""
    sums, replies = list[str](), list[str]()
    for _ in range(4):
        a, kind = rng.randint(0, LARGEST), rng.randrange(3)
        b = rng.randint(0, min(12, a if kind == 1 else LARGEST - a))
        a, b = (a // 2, a // 2) if kind == 2 else (a, b)
        sums.append(f"{a} {'-' if kind == 1 else '+'} {b}")
        replies.append(f"{sums[-1]} = {a - b if kind == 1 else a + b}")
    last = rng.randint(0, LARGEST)
    parity = "odd" if last % 2 else f"even, half of it is {last // 2}"
    text = f"What is {', '.join(sums)}? Is {last} odd or even?"
    return Example(text, f"{', '.join(replies)}. {last} is {parity}.", picture=False)


def _restate(scene: Scene, rng: random.Random) -> Example:
    """A chain's steps, in the words of its reasoning."""
    chain = draw_chain(scene, rng)
    reply = " ".join(f"{step_name(step)}." for step in chain)
    return Example(f"{chain_text(chain, rng)} What are the steps?", reply, picture=False)


_TEXTS = (
    *(_attributes, _attributes, _looks, _looks, _looks, _side, _found, _count, _number),
    *(_option, _option, _option, _restate, _restate),
)
MAKE: dict[str, Callable[[Scene, random.Random], Example]] = {
    "descriptions": description,
    "perception": perception,
    "chains": chain,
    "texts": text_question,
}
