"""Duels and checks of mini's own answers, labeled by the truth of the scenes.

A sampling step writes them to a file, one JSON object a line, from which batches are drawn.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

from llava_cot.core.question import load_image
from llava_cot.core.stages import LLAVA_COT, Answer, parse
from llava_cot.models.base import Model, Prompt, Sampling
from llava_cot.scenes.ground_truth import believed, which_answer, which_caption
from llava_cot.scenes.questions import SceneQuestion, ask_about
from llava_cot.scenes.world import Scene, draw_scene, render, scene_rng
from llava_cot.search.judge_prompts import default_prompts
from research.mini import examples
from research.mini.made_up_duels import duel
from research.mini.pictures import SEED
from research.mini.recipe import SampleStep

_SAMPLES = 4
_SAMPLING = Sampling(
    temperature=0.8, top_p=0.95, max_tokens=220
)  # above a search's temperature, for more errors
_AT_ONCE = 48  # scenes that are sampled and written together


@dataclass(frozen=True)
class SampledItem:
    """An example, and the number of its scene in the pool."""

    scene: int
    example: examples.Example


class Sampled:
    """The items of a file, by kind, in batches of similar length."""

    def __init__(self, path: Path, seed: int):
        self._by_kind: dict[str, list[dict[str, Any]]] = {"duels": [], "checks": []}
        for line in path.read_text(encoding="utf-8").splitlines():
            item = json.loads(line)
            self._by_kind[item["kind"]].append(item)
        for items in self._by_kind.values():
            items.sort(key=lambda item: len(item["prompt"]))
        self._seed = seed

    def batch(self, kind: str, number: int, size: int) -> list[SampledItem]:
        """Items of similar length. The same number gives the same ones."""
        rng, items = random.Random(f"sampled/{kind}/{self._seed}/{number}"), self._by_kind[kind]
        window = min(len(items), 4 * size)
        start = rng.randrange(len(items) - window + 1)
        return [
            self._item(item, rng) for item in rng.sample(items[start : start + window], min(size, window))
        ]

    @staticmethod
    def _item(item: dict[str, Any], rng: random.Random) -> SampledItem:
        duels, reply = item["kind"] == "duels", item["reply"]
        direct = duels and rng.random() < 0.25
        if direct:
            reply = reply[reply.index(default_prompts().choice) :]
        return SampledItem(item["scene"], examples.Example(item["prompt"], reply, duels, direct))


def sample_duels(
    model: Model, step: SampleStep, scenes: int, path: Path, on_progress: Callable[[int, int], None]
) -> None:
    """Write the file of a sampling step; after an interruption, continue after the last complete lot.

    Scenes are of the first `scenes` of the training split.
    """
    if path.exists():
        return
    part = path.with_suffix(".part")
    lots = [False] * (step.sample_captions // _AT_ONCE) + [True] * (step.sample_answers // _AT_ONCE)
    random.Random(step.name).shuffle(lots)
    complete = _whole_lots(part)
    part.write_text("".join(line for lot in complete for line in lot), encoding="utf-8")
    with part.open("a", encoding="utf-8") as out:
        for number, whole in enumerate(lots):
            if number < len(complete):
                continue
            lines = asyncio.run(_lot(model, f"{step.name}/{number}", scenes, whole))
            out.writelines(json.dumps(line) + "\n" for line in [*lines, {"kind": "lot"}])
            out.flush()
            on_progress(number + 1, len(lots))
    finished = [line for lot in _whole_lots(part) for line in lot[:-1]]
    part.write_text("".join(finished), encoding="utf-8")
    part.replace(path)


def _whole_lots(part: Path) -> list[list[str]]:
    lots: list[list[str]] = []
    current: list[str] = []
    for line in part.read_text(encoding="utf-8").splitlines(keepends=True) if part.exists() else []:
        current.append(line)
        if line == json.dumps({"kind": "lot"}) + "\n":
            lots.append(current)
            current = []
    return lots


async def _lot(model: Model, name: str, scenes: int, whole: bool) -> list[dict[str, Any]]:
    rng = random.Random(name)
    numbers = rng.sample(range(scenes), _AT_ONCE)
    seeds = [rng.getrandbits(31) for _ in numbers]
    drawn = [draw_scene(scene_rng("train", SEED, number)) for number in numbers]
    questions = [ask_about(scene, rng) for scene in drawn]
    stop = () if whole else (LLAVA_COT.stage("caption").close,)
    samples = await asyncio.gather(
        *(
            model.sample(
                Prompt.of(examples.question_text(question), (load_image(render(scene)),)),
                _SAMPLES,
                replace(_SAMPLING, stop=stop, seed=seed),
            )
            for scene, question, seed in zip(drawn, questions, seeds, strict=True)
        )
    )
    return [
        {"kind": kind, "scene": number, "prompt": example.prompt, "reply": example.reply}
        for number, scene, question, texts in zip(numbers, drawn, questions, samples, strict=True)
        for kind, example in _items(scene, question, [sample.text for sample in texts], rng)
    ]


def _items(
    scene: Scene, question: SceneQuestion, samples: list[str], rng: random.Random
) -> Iterator[tuple[str, examples.Example]]:
    """Up to two caption duels, two answer duels and the checks from the samples for one question."""
    answers = [parse(text) for text in samples]
    pairs = list(combinations(answers, 2))
    rng.shuffle(pairs)
    captions = wholes = 0
    for pair in pairs:
        a, b = pair if rng.random() < 0.5 else pair[::-1]
        verdict = which_caption(scene, a.stages["caption"], b.stages["caption"])
        if verdict is None:
            continue
        if captions < 2:
            captions += 1
            texts = [side.stages["caption"] or "" for side in (a, b)]
            yield "duels", duel("caption", question, {}, texts, verdict)
        if wholes < 2 and which_answer(scene, question, a, b) is not None:
            wholes += 1
            yield "duels", duel("answer", question, {}, [a.text, b.text], verdict)
    for answer in answers:
        yield from _checks(scene, question, answer)


def _checks(scene: Scene, question: SceneQuestion, answer: Answer) -> Iterator[tuple[str, examples.Example]]:
    seen, reasoning = believed(scene, question, answer.stages["caption"]), answer.stages["reasoning"]
    if seen is not None and reasoning:
        yield "checks", examples.check_example(seen[0], seen[1], reasoning)
