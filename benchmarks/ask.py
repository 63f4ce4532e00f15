"""How long a question takes: the published procedure, ours, and the floor under ours, side by side.

    python benchmarks/ask.py                              # the built-in model
    python benchmarks/ask.py --random --n 1 4             # a random Mllama of 80 million parameters
    python benchmarks/ask.py --model FOLDER --json > figures.json
    python benchmarks/ask.py --quick                      # does it run? The figures mean little

Everything runs on the CPU in float32 with as many threads as torch takes (OMP_NUM_THREADS sets them).
Each repeat asks fresh questions about fresh scenes, the same ones in every setting; each setting begins with
a model opened anew, warmed up on another picture, so that nothing of its questions is cached. Medians
over the repeats are printed as a Markdown table, or with --json as one object; progress goes to standard
error. What the published procedure does is in `published.py`, what the floor contains in `floor.py`.

A search with N = 1 asks no judge; the published procedure is measured up to N = 4. A run that took more than
a minute is not repeated.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
import transformers
from floor import Call, Floor, Runner, Watched, plan
from plain import Plain, open_plain
from published import Limits, Published
from random_mllama import make_random
from table import Run, Setting, markdown, rows

from llava_cot import ask, open_model
from llava_cot.core.question import Question, question_text
from llava_cot.core.trace import Trace, Usage
from llava_cot.models.base import Model, Prompt, Sampling
from llava_cot.models.registry import MINI
from llava_cot.scenes.items import make_item
from llava_cot.search.judges import Judge, JudgeSetup
from llava_cot.search.judges.self_judge import REPLY_TOKENS, SelfJudge

_T = TypeVar("_T")
PUBLISHED = (1, 2, 4)
OURS = (1, 2, 4, 8, 16)
JUDGES = ("self", "logits")
CROWD = 32
# What mini says is half as long at most. The random model recites its script as a verdict too, and is cut
# at the length of the sentence that is asked for.
MAX_TOKENS = 256
RECITED_REPLY = 32
LONG = 60.0  # seconds
WARM_UP = 999  # index of the question


@dataclass(frozen=True)
class Bench:
    """A checkpoint, opened plainly, and how it is asked."""

    folder: Path
    plain: Plain
    limits: Limits
    seed: int

    def questions(self, repeat: int, count: int) -> list[Question]:
        """Fresh ones for each repeat, each with a picture of its own."""
        return [make_item("validation", self.seed, 1000 * repeat + i).ask() for i in range(count)]

    def run(self, setting: Setting, repeat: int, count: int) -> Run:
        """Measure one setting once; `count` questions where they are asked one at a time."""
        questions = self.questions(repeat, count if setting.at_once == 1 else setting.at_once)
        if setting.who == "published":
            return alone(lambda: self._published(setting, questions))
        model = open_model(self.folder, device="cpu", dtype="float32")
        try:
            warm = make_item("validation", self.seed, WARM_UP).ask()
            asyncio.run(self._ask(model, warm, Setting("ours", "stage-beam", 2, setting.judge or "self"), 0))
            if setting.at_once > 1:
                return self._at_once(model, setting, questions)
            run, calls = self._one_at_a_time(model, setting, questions)
        finally:
            model.close()
        floors = (alone(lambda p=pair: self._floor(*p)) for pair in zip(questions, calls, strict=True))
        return replace(run, floors=tuple(floors))

    def _published(self, setting: Setting, questions: Sequence[Question]) -> Run:
        theirs = Published(self.plain, self.limits, random.Random(self.seed))
        began = time.perf_counter()
        for question in questions:
            if setting.method == "single":
                theirs.single(question)
            else:
                theirs.stage_beam(question, setting.n)
        return Run(len(questions), time.perf_counter() - began, theirs.usage)

    def _one_at_a_time(
        self, model: Model, setting: Setting, questions: Sequence[Question]
    ) -> tuple[Run, list[Sequence[Call]]]:
        traces: list[Trace] = []
        calls: list[Sequence[Call]] = []
        began = time.perf_counter()
        for index, question in enumerate(questions):
            watched = Watched(model)
            traces.append(asyncio.run(self._ask(watched, question, setting, index)))
            calls.append(watched.calls)
        seconds = time.perf_counter() - began
        return Run(len(questions), seconds, _usage(traces)), calls

    def _at_once(self, model: Model, setting: Setting, questions: Sequence[Question]) -> Run:
        async def crowd() -> list[Trace]:
            asked = (self._ask(model, question, setting, i) for i, question in enumerate(questions))
            return list(await asyncio.gather(*asked))

        began = time.perf_counter()
        traces = asyncio.run(crowd())
        return Run(len(questions), time.perf_counter() - began, _usage(traces))

    async def _ask(self, model: Model, question: Question, setting: Setting, index: int) -> Trace:
        judge: str | Judge | None = setting.judge
        limits = self.limits
        if judge == "self":
            setup = JudgeSetup(model, sampling=Sampling(limits.temperature, limits.top_p))
            judge = SelfJudge(setup, limits.reply_tokens)
        return await ask(
            model,
            None,
            question,
            method=setting.method,
            n=setting.n,
            judge=judge,
            stages="trained",
            sampling=Sampling(
                temperature=limits.temperature,
                top_p=limits.top_p,
                max_tokens=limits.max_tokens,
                seed=self.seed + index,
            ),
        )

    def _floor(self, question: Question, calls: Sequence[Call]) -> Floor:
        def encode(prompt: Prompt) -> list[int]:
            ids: list[int] = self.plain.encode(prompt)["input_ids"][0].tolist()
            return ids

        runner = Runner(self.plain, Prompt.of(question_text(question), question.images))
        return runner.floor(*plan(calls, encode))


def alone(work: Callable[[], _T]) -> _T:
    """What comes of some work in a thread that then ends, as the model's own does when it is closed.

    OpenMP keeps threads for each thread that computes; with more of them than processors, all wait longer.
    """
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result()


def _usage(traces: Sequence[Trace]) -> Usage:
    return sum((trace.usage for trace in traces), Usage())


def settings(published: Sequence[int], ours: Sequence[int], crowd: int) -> list[Setting]:
    """What is measured, in order."""
    theirs = [
        Setting("published", "stage-beam" if n > 1 else "single", n, "self" if n > 1 else None)
        for n in published
    ]
    return theirs + [
        setting
        for at_once in (1, crowd)
        for setting in (
            Setting("ours", "single", 1, None, at_once),
            *(
                Setting("ours", "stage-beam", n, judge, at_once)
                for judge in JUDGES
                for n in ours
                if n > 1 or judge == "self"
            ),
        )
    ]


def measure(bench: Bench, wanted: Sequence[Setting], repeats: int, count: int) -> dict[Setting, list[Run]]:
    """Every setting in each repeat, so that a change in the machine's speed meets them all."""
    measured: dict[Setting, list[Run]] = {setting: [] for setting in wanted}
    bench.run(Setting("published", "single", 1), WARM_UP, 1)
    for repeat in range(repeats):
        for setting, runs in measured.items():
            if runs and runs[-1].seconds > LONG:
                continue
            runs.append(bench.run(setting, repeat, count))
            took = runs[-1].seconds / runs[-1].questions
            print(f"{repeat + 1}/{repeats}  {setting}: {took:.3f} s a question", file=sys.stderr, flush=True)
    return measured


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--model", default="mini", help="mini, or the folder of a checkpoint")
    which.add_argument("--random", action="store_true", help="a random Mllama, made for the run")
    parser.add_argument("--questions", type=int, default=8, help="in a repeat, where asked one at a time")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--n", type=int, nargs="+", default=list(OURS), help="how many candidates")
    parser.add_argument("--seed", type=int, default=0, help="of the scenes and the sampling")
    parser.add_argument("--quick", action="store_true", help="one question, two at once, N of 1 and 2")
    parser.add_argument("--json", action="store_true", help="one object instead of the table")
    args = parser.parse_args(arguments)
    if min(args.questions, args.repeats, *args.n) < 1:
        parser.error("give at least one question, one repeat and one candidate")
    if 1 not in args.n:
        parser.error("give --n 1 too: all is compared with a single pass")
    with tempfile.TemporaryDirectory() as scratch:
        folder = MINI if args.model == "mini" else Path(args.model)
        if args.random:
            folder = alone(lambda: make_random(Path(scratch) / "random-mllama"))
        report(args, folder)


def report(args: argparse.Namespace, folder: Path) -> None:
    """Measure a checkpoint and print what came of it."""
    plain = alone(lambda: open_plain(folder))
    reply_tokens = RECITED_REPLY if args.random else REPLY_TOKENS
    bench = Bench(folder, plain, Limits(0.6, 0.9, MAX_TOKENS, reply_tokens), args.seed)
    if args.quick:
        measured = measure(bench, settings((1, 2), (1, 2), 2), 1, 1)
    else:
        published = [n for n in args.n if n in PUBLISHED]
        measured = measure(bench, settings(published, args.n, CROWD), args.repeats, args.questions)
    table = rows(measured)
    about: dict[str, Any] = {
        "model": "random" if args.random else args.model,
        "parameters": sum(p.numel() for p in plain.model.parameters()),
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "seed": args.seed,
    }
    if args.json:
        print(json.dumps({**about, "rows": [row.as_json() for row in table]}, indent=1))
    else:
        print(", ".join(f"{name} {value}" for name, value in about.items()) + "\n")
        print(markdown(table))


if __name__ == "__main__":
    main()
