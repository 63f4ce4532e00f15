"""What helps the text model to learn, beside the next token: small heads on the outputs of its layers.

At the end of each object that it reads they say, in a caption, whether the object matches each filter of the
question, and how many have so far; in a duel, which words of the object are not what the picture shows,
whether one was missed just before it, and whether the other list has something else there. Where a reasoning
comes to its last word they say which option has the answer, or which relation was asked for and which was
found. To count in one glance, to find a wrong word and to look up an option took tens of thousands of rows
from the next token alone, or was not learned at all. The heads are not shipped.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llava_cot.scenes.ground_truth import align
from llava_cot.scenes.questions import Filter, SceneQuestion
from llava_cot.scenes.teacher import describe, described
from llava_cot.scenes.world import MAX_OBJECTS, Scene, SceneObject

SLOTS = 3  # filters of one question, at most
MATCHING_LAYER, LAST_LAYER = 3, 5  # whose outputs the heads read; layers 2 and 4 look at the picture


_OPTION = re.compile(r"\n([A-D])\.( [\w]+)")
_RELATIONS = ("more", "fewer", "as many|equal", "to the left|stand left", "to the right|stand right")


@dataclass(frozen=True)
class Last:
    """Where a reply names an option, or says yes or no: the row and the token before that word.

    `options` are the tokens of the options' words, `right` is the number of the one that is the answer;
    `asked` and `found` are relations by number, -1 where there is none.
    """

    row: int
    token: int
    options: tuple[int, ...]
    right: int
    asked: int
    found: int


def relation(text: str) -> int:
    """The first relation that a text names."""
    places = [re.search(words, text) for words in _RELATIONS]
    named = [(place.start(), number) for number, place in enumerate(places) if place]
    return min(named)[1] if named else -1


@dataclass(frozen=True)
class Mention:
    """An object as a text describes it: the row and token where it ends, its place and its four words."""

    row: int
    token: int
    place: int
    words: tuple[str, ...]

    @property
    def item(self) -> SceneObject:
        return described(" ".join(self.words))


class Aids(nn.Module):
    """Heads on the text layers' outputs [B, T, width]."""

    def __init__(self, width: int = 128):
        super().__init__()
        self.matching = nn.Linear(width, SLOTS)
        self.tally = nn.Linear(width, SLOTS * (MAX_OBJECTS + 1))
        self.fault, self.missed, self.other = nn.Linear(width, 4), nn.Linear(width, 1), nn.Linear(width, 1)
        self.letter = nn.Linear(width, 4)
        self.query, self.key = nn.Linear(width, 32), nn.Linear(width, 32)
        self.asked, self.found = nn.Linear(width, len(_RELATIONS)), nn.Linear(width, len(_RELATIONS))

    def questions(self, states: dict[int, Tensor], told: list[Mention], asked: list[SceneQuestion]) -> Tensor:
        """Mean loss of matches and tallies."""
        matches, tallies = [], []
        for row, mentions in groupby(told, key=lambda mention: mention.row):
            labels = matched([mention.item for mention in mentions], asked[row])
            matches += labels
            tallies += running(labels)
        match, tally = torch.tensor(matches), torch.tensor(tallies)
        guess, number = (
            self.matching(at(states[MATCHING_LAYER], told)),
            self.tally(at(states[LAST_LAYER], told)),
        )
        known = match >= 0
        return F.binary_cross_entropy_with_logits(guess[known], match[known].float()) + F.cross_entropy(
            number.view(-1, SLOTS, MAX_OBJECTS + 1)[known], tally[known]
        )

    def lasts(self, states: dict[int, Tensor], lasts: Sequence[Last]) -> Tensor:
        """Mean loss of the options' letters, of the option that is pointed to, and of the relations."""
        hidden = states[MATCHING_LAYER]
        loss = hidden.new_zeros(())
        chosen = [last for last in lasts if last.options]
        for last in chosen:
            words = hidden[last.row, list(last.options)]
            points = self.key(words) @ self.query(hidden[last.row, last.token]) / 32**0.5
            letters = torch.arange(len(last.options))
            loss = loss + F.cross_entropy(points, torch.tensor(last.right)) / len(chosen)
            loss = loss + F.cross_entropy(self.letter(words), letters) / len(chosen)
        for head, name in ((self.asked, "asked"), (self.found, "found")):
            known = [last for last in lasts if getattr(last, name) >= 0]
            if known:
                at_last = hidden[[last.row for last in known], [last.token for last in known]]
                loss = loss + F.cross_entropy(head(at_last), torch.tensor([getattr(k, name) for k in known]))
        return loss

    def faults(self, states: dict[int, Tensor], told: list[Mention], scenes: list[Scene]) -> Tensor:
        """Mean loss of the words that are wrong in each list of objects, and of the objects missed before
        each one, as `comparing.align` lays the list beside the scene; and, in a second list, of the objects
        that are not what the first one has at their place."""
        wrong, missed, second, other = [], [], [], []
        for row, mentions in groupby(told, key=lambda mention: mention.row):
            truth = tuple(describe(item) for item in scenes[row].objects)
            both = lists(list(mentions))
            if len(both) == 2:
                first = [mention.words for mention in both[0]]
                second += both[1]
                other += [
                    float(m.words != first[i]) if i < len(first) else 1.0 for i, m in enumerate(both[1])
                ]
            for listed in both:
                _, pairs = align(tuple(" ".join(mention.words) for mention in listed), truth)
                last = -1
                for mention, pair in zip(listed, pairs, strict=True):
                    real = truth[pair].split(" ") if pair is not None else [None] * 4
                    wrong.append([float(a != b) for a, b in zip(mention.words, real, strict=True)])
                    missed.append(float(pair is not None and pair > last + 1))
                    last = last if pair is None else pair
        hidden = at(states[LAST_LAYER], told)
        loss = F.binary_cross_entropy_with_logits(self.fault(hidden), torch.tensor(wrong))
        loss = loss + F.binary_cross_entropy_with_logits(self.missed(hidden)[:, 0], torch.tensor(missed))
        if second:
            guess = self.other(at(states[MATCHING_LAYER], second))[:, 0]
            loss = loss + F.binary_cross_entropy_with_logits(guess, torch.tensor(other))
        return loss


def lists(mentions: Sequence[Mention]) -> list[list[Mention]]:
    """The mentions of one row as lists, each of which counts up from the first."""
    found: list[list[Mention]] = []
    for mention in mentions:
        if found and mention.place == len(found[-1]):
            found[-1].append(mention)
        else:
            found.append([mention])
    return found


def at(states: Tensor, told: Sequence[Mention]) -> Tensor:
    return states[[mention.row for mention in told], [mention.token for mention in told]]


def matched(objects: Sequence[SceneObject], question: SceneQuestion) -> list[list[int]]:
    """For each object and filter: 1 where it matches and is not yet taken away; -1 where no filter is."""
    table = [[-1] * SLOTS for _ in objects]
    gone = set[int]()
    for slot, (what, takes) in enumerate(_filters(question)):
        for place, item in enumerate(objects):
            table[place][slot] = int(place not in gone and what.matches(item))
        if takes:
            gone.update(place for place, row in enumerate(table) if row[slot])
    return table


def _filters(question: SceneQuestion) -> list[tuple[Filter, bool]]:
    if question.steps:
        return [(step.what, step.kind == "subtract") for step in question.steps if step.kind != "add"]
    return [(what, False) for what in question.filters]


def running(table: Sequence[Sequence[int]]) -> list[list[int]]:
    """How many objects have matched up to each one."""
    total, out = [0] * SLOTS, []
    for row in table:
        total = [old + max(0, value) for old, value in zip(total, row, strict=True)]
        out.append(total)
    return out


def lasts(
    row: int,
    question: SceneQuestion,
    prompt: str,
    reply: str,
    prompt_at: dict[int, int],
    reply_at: dict[int, int],
) -> list[Last]:
    """Where the last words of a reply come; `prompt_at` and `reply_at` give the token at a character."""
    found: list[Last] = []
    option, verdict = reply.find(" option "), reply.find("so the answer is ")
    if option >= 0 and question.options:
        words = tuple(prompt_at[match.start(2)] for match in _OPTION.finditer(prompt))
        right = question.options.index(question.answer)
        found.append(Last(row, reply_at[option], words, right, -1, -1))
    if verdict >= 0 and len(question.filters) == 2:
        said = relation(reply[:verdict].rsplit(". ", 1)[-1])
        found.append(
            Last(row, reply_at[verdict + len("so the answer")], (), 0, relation(question.text), said)
        )
    return found


class Watch:
    """Keeps the outputs of two layers of the text model in each forward pass."""

    def __init__(self, layers: nn.ModuleList):
        self.states: dict[int, Tensor] = {}
        for place in (MATCHING_LAYER, LAST_LAYER):
            layers[place].register_forward_hook(self._keep(place))

    def _keep(self, place: int) -> Callable[[nn.Module, object, Tensor | tuple[Tensor, ...]], None]:
        def hook(module: nn.Module, inputs: object, output: Tensor | tuple[Tensor, ...]) -> None:
            self.states[place] = output if isinstance(output, Tensor) else output[0]

        return hook
