"""Heads that help mini to learn, and are not shipped: on its picture encoder and on its text layers.

The vision heads name the object at the patch of its middle: place from left to right, color, shape, size and
material; at all other patches the place is "none". Labels for each patch teach an encoder of this size in
minutes what captions alone would take hours to. In the later steps they stay as a small extra loss.

The text heads read the layers' outputs at the end of each object in a text. In a caption they say whether the
object matches each filter of the question, and how many have matched so far; in a duel, which of its words
are wrong, whether an object was missed just before it, and whether the other list has something else there.
At the last word of a reasoning they say which option has the answer, or which relation was asked for and
which was found. From the next token alone, counting, finding a wrong word and looking up an option took tens
of thousands of rows, or were not learned at all.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llava_cot.scenes.filters import ANYTHING, Filter
from llava_cot.scenes.ground_truth import align
from llava_cot.scenes.questions import SceneQuestion
from llava_cot.scenes.teacher import describe, described
from llava_cot.scenes.world import COLORS, MATERIALS, MAX_OBJECTS, SHAPES, SIZES, Scene, SceneObject
from research.mini.model import PATCH
from research.mini.pictures import IMAGE_SIZE

GRID = IMAGE_SIZE // PATCH
WIDTHS = {
    "place": MAX_OBJECTS + 1,
    "color": len(COLORS),
    "shape": len(SHAPES),
    "size": len(SIZES),
    "material": len(MATERIALS),
}


class VisionHeads(nn.Module):
    """Linear heads on the picture encoder's output [B, 64, 256]."""

    def __init__(self, width: int = 256):
        super().__init__()
        self.heads = nn.ModuleDict({name: nn.Linear(width, out) for name, out in WIDTHS.items()})

    def loss(self, features: Tensor, scenes: Sequence[Scene]) -> tuple[Tensor, dict[str, float]]:
        """Mean cross-entropy of all heads, and the accuracy of each at the objects' patches."""
        rows, patches, labels = [], [], []
        place = torch.zeros(features.shape[:2], dtype=torch.long)
        for row, scene in enumerate(scenes):
            for rank, item in enumerate(scene.objects):
                patch = anchor(item.x, item.y - 0.6 * item.radius)
                place[row, patch] = rank + 1
                rows.append(row)
                patches.append(patch)
                labels.append(
                    (
                        COLORS.index(item.color),
                        SHAPES.index(item.shape),
                        SIZES.index(item.size),
                        MATERIALS.index(item.material),
                    )
                )
        at = features[rows, patches]
        target = torch.tensor(labels)
        logits = self.heads["place"](features)
        loss = 2 * F.cross_entropy(logits.flatten(0, 1), place.flatten())
        right = {"place": (logits.argmax(-1) == place)[rows, patches].float().mean().item()}
        for column, name in enumerate(("color", "shape", "size", "material")):
            guess = self.heads[name](at)
            loss = loss + 0.5 * F.cross_entropy(guess, target[:, column])
            right[name] = (guess.argmax(-1) == target[:, column]).float().mean().item()
        return loss, right


def anchor(x: float, y: float) -> int:
    """The patch at a point, shares of the picture's width and height."""
    return min(GRID - 1, max(0, int(y * GRID))) * GRID + min(GRID - 1, max(0, int(x * GRID)))


def patches(output: Tensor) -> Tensor:
    """The encoder's output [B, 1, 1, 65, D] without its class token: [B, 64, D]."""
    return output[:, 0, 0, 1:]


SLOTS = 3  # filters of one question, at most
MATCHING_LAYER, LAST_LAYER = 3, 5  # whose outputs the heads read; layers 2 and 4 look at the picture


_OPTION = re.compile(r"\n([A-D])\.( [\w]+)")
_RELATIONS = ("more", "fewer", "as many|equal", "to the left|stand left", "to the right|stand right")


@dataclass(frozen=True)
class LastWord:
    """Where a reply names an option, or says yes or no: the row and the token before that word.

    `options` are the tokens of the options' words, `right` is the number of the one that is the answer;
    the relations are numbers, -1 where there is none.
    """

    row: int
    token: int
    options: tuple[int, ...]
    right: int
    question_relation: int
    reply_relation: int


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


class TextHeads(nn.Module):
    """Heads on the text layers' outputs [B, T, width]."""

    def __init__(self, width: int = 128):
        super().__init__()
        self.matching = nn.Linear(width, SLOTS)
        self.tally = nn.Linear(width, SLOTS * (MAX_OBJECTS + 1))
        self.fault, self.missed, self.other = nn.Linear(width, 4), nn.Linear(width, 1), nn.Linear(width, 1)
        self.letter = nn.Linear(width, 4)
        self.query, self.key = nn.Linear(width, 32), nn.Linear(width, 32)
        self.question_relation, self.reply_relation = (
            nn.Linear(width, len(_RELATIONS)),
            nn.Linear(width, len(_RELATIONS)),
        )

    def questions(
        self, states: dict[int, Tensor], mentions: list[Mention], questions: list[SceneQuestion]
    ) -> Tensor:
        """Mean loss of matches and tallies."""
        matches, tallies = [], []
        for row, group in groupby(mentions, key=lambda mention: mention.row):
            labels = matched([mention.item for mention in group], questions[row])
            matches += labels
            tallies += running(labels)
        match, tally = torch.tensor(matches), torch.tensor(tallies)
        guess, number = (
            self.matching(at(states[MATCHING_LAYER], mentions)),
            self.tally(at(states[LAST_LAYER], mentions)),
        )
        known = match >= 0
        if not known.any():  # as of chains that begin with relations
            nothing: Tensor = guess.sum() * 0
            return nothing
        return F.binary_cross_entropy_with_logits(guess[known], match[known].float()) + F.cross_entropy(
            number.view(-1, SLOTS, MAX_OBJECTS + 1)[known], tally[known]
        )

    def lasts(self, states: dict[int, Tensor], lasts: Sequence[LastWord]) -> Tensor:
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
        for head, name in (
            (self.question_relation, "question_relation"),
            (self.reply_relation, "reply_relation"),
        ):
            known = [last for last in lasts if getattr(last, name) >= 0]
            if known:
                at_last = hidden[[last.row for last in known], [last.token for last in known]]
                loss = loss + F.cross_entropy(head(at_last), torch.tensor([getattr(k, name) for k in known]))
        return loss

    def faults(self, states: dict[int, Tensor], mentions: list[Mention], scenes: list[Scene]) -> Tensor:
        """Mean loss of the wrong words and the missed objects in each list, by its alignment with the scene;
        and, in a second list, of the objects that the first one does not have at the same place."""
        wrong, missed, second, other = [], [], [], []
        for row, group in groupby(mentions, key=lambda mention: mention.row):
            truth = tuple(describe(item) for item in scenes[row].objects)
            both = lists(list(group))
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
        hidden = at(states[LAST_LAYER], mentions)
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


def at(states: Tensor, mentions: Sequence[Mention]) -> Tensor:
    return states[[mention.row for mention in mentions], [mention.token for mention in mentions]]


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
    if question.chain:
        named = [step.what if step.of_sets and not step.relation else step.other for step in question.chain]
        return [(what, False) for what in named if what != ANYTHING][:SLOTS]
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
) -> list[LastWord]:
    """Where the last words of a reply come; `prompt_at` and `reply_at` give the token at a character."""
    found: list[LastWord] = []
    option, verdict = reply.find(" option "), reply.find("so the answer is ")
    if option >= 0 and question.options:
        words = tuple(prompt_at[match.start(2)] for match in _OPTION.finditer(prompt))
        right = question.options.index(question.answer)
        found.append(LastWord(row, reply_at[option], words, right, -1, -1))
    if verdict >= 0 and len(question.filters) == 2:
        found_relation = relation(reply[:verdict].rsplit(". ", 1)[-1])
        found.append(
            LastWord(
                row, reply_at[verdict + len("so the answer")], (), 0, relation(question.text), found_relation
            )
        )
    return found


class LayerOutputs:
    """Records the outputs of two layers of the text model in each forward pass."""

    def __init__(self, layers: nn.ModuleList):
        self.states: dict[int, Tensor] = {}
        for place in (MATCHING_LAYER, LAST_LAYER):
            layers[place].register_forward_hook(self._record(place))

    def _record(self, place: int) -> Callable[[nn.Module, object, Tensor | tuple[Tensor, ...]], None]:
        def hook(module: nn.Module, inputs: object, output: Tensor | tuple[Tensor, ...]) -> None:
            self.states[place] = output if isinstance(output, Tensor) else output[0]

        return hook
