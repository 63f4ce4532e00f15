"""How many questions about scenes each method answers rightly, side by side, on the same questions.

    python benchmarks/scenes.py --count 2000 --seed 0
    python benchmarks/scenes.py --split validation --count 300 --methods stage-beam-4 best-of-10@logits

A method is written as for `llava-cot eval`; `greedy` is `single` at temperature 0. Prints a Markdown table:
percent right with a 95% interval (Wilson), the difference from `single` question by question with a bootstrap
interval, the share of questions with at least one right candidate where whole answers are sampled, how duels
were decided, model calls and tokens a question. `--json FILE` keeps every answer.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

from llava_cot import ask, open_model
from llava_cot.methods.spec import Spec, parse_spec
from llava_cot.models.base import Model
from llava_cot.question import Question
from llava_cot.scenes.questions import PERCEPTION, REASONING
from llava_cot.scenes.write import Item, make_item
from llava_cot.stages import parse
from llava_cot.trace import Trace

METHODS_SHOWN = (
    "single",
    "greedy",
    "majority-4",
    "majority-10",
    "best-of-4",
    "best-of-10",
    "sentence-beam-4",
    "stage-beam-2",
    "stage-beam-4",
    "stage-beam-4@logits",
    "stage-beam-4@likelihood",
    "best-of-10@logits",
)
IN_FLIGHT = 64


async def answer_all(
    model: Model, spec: Spec, questions: Sequence[Question], seed: int, temperature: float = 0.6
) -> list[Trace]:
    """The traces, in the order of the questions; IN_FLIGHT at a time."""
    gate = asyncio.Semaphore(IN_FLIGHT)
    done = 0

    async def one(index: int, question: Question) -> Trace:
        nonlocal done
        async with gate:
            trace = await ask(
                model,
                None,
                question,
                method=spec.method,
                n=spec.n,
                judge=spec.judge,
                temperature=temperature if spec.temperature is None else spec.temperature,
                max_tokens=200,
                seed=seed * 1_000_003 + index,
            )
        done += 1
        print(f"\r{spec.name}: {done}/{len(questions)}", end="", file=sys.stderr, flush=True)
        return trace

    traces = await asyncio.gather(*(one(i, q) for i, q in enumerate(questions)))
    print(file=sys.stderr)
    return list(traces)


def is_right(trace: Trace) -> bool:
    return trace.stages.get("conclusion") == trace.question.reference


def wilson(right: int, count: int) -> tuple[float, float]:
    """The 95% interval of a share."""
    z, p = 1.96, right / count
    middle = (p + z * z / (2 * count)) / (1 + z * z / count)
    half = z * ((p * (1 - p) + z * z / (4 * count)) / count) ** 0.5 / (1 + z * z / count)
    return middle - half, middle + half


def paired(a: Sequence[bool], b: Sequence[bool]) -> tuple[float, float, float]:
    """Mean of a - b over the same questions, with a 95% bootstrap interval."""
    rng, differences = random.Random(0), [x - y for x, y in zip(a, b, strict=True)]
    count = len(differences)
    means = sorted(sum(rng.choices(differences, k=count)) / count for _ in range(1000))
    return sum(differences) / count, means[25], means[974]


def oracle(trace: Trace) -> bool:
    """Whether any whole answer among the candidates is right."""
    answers = [parse(c.text).conclusion for c in trace.candidates if c.stage == "answer"]
    return trace.question.reference in answers


def row(spec: Spec, traces: Sequence[Trace], base: Sequence[bool], seconds: float) -> str:
    right, count = [is_right(trace) for trace in traces], len(traces)
    low, high = wilson(sum(right), count)
    gain, least, most = paired(right, base)
    whole = spec.n > 1 and spec.method in ("majority", "best-of-n")
    best = f"{100 * sum(map(oracle, traces)) / count:.1f}" if whole else ""
    decided = Counter(v.decided_by for t in traces for v in t.verdicts)
    total = sum(decided.values())
    shares = " ".join(f"{name} {100 * number / total:.0f}" for name, number in decided.most_common())
    calls = sum(t.usage.model_calls for t in traces) / count
    tokens = sum(t.usage.completion_tokens for t in traces) / count
    return (
        f"| {spec.name} | {100 * sum(right) / count:.1f} ({100 * low:.1f} to {100 * high:.1f}) "
        f"| {100 * gain:+.1f} ({100 * least:+.1f} to {100 * most:+.1f}) | {best} | {shares} "
        f"| {calls:.1f} | {tokens:.0f} | {seconds / count:.3f} |"
    )


def by_type(results: dict[str, list[bool]], items: Sequence[Item]) -> list[str]:
    """A table of percent right by type of question."""
    lines = [
        "| type | questions | " + " | ".join(results) + " |",
        "| --- | ---: |" + " ---: |" * len(results),
    ]
    groups: dict[str, list[int]] = defaultdict(list)
    for index, item in enumerate(items):
        groups[item.question.type].append(index)
    for kind in (*PERCEPTION, *REASONING):
        places = groups[kind]
        shares = (
            f"{100 * sum(right[i] for i in places) / max(1, len(places)):.0f}" for right in results.values()
        )
        lines.append(f"| {kind} | {len(places)} | " + " | ".join(shares) + " |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="mini")
    parser.add_argument("--split", default="test")
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--scenes-seed", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0, help="of the sampling")
    parser.add_argument("--temperature", type=float, default=0.6)
    parser.add_argument("--methods", nargs="+", default=list(METHODS_SHOWN))
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    specs = [parse_spec(name) for name in args.methods]
    if Spec("single") not in specs:
        specs.insert(0, Spec("single"))
    model = open_model(args.model)
    items = [make_item(args.split, args.scenes_seed, i) for i in range(args.count)]
    questions = [item.ask() for item in items]
    results: dict[str, list[bool]] = {}
    kept = []
    print(f"{args.count} questions of the {args.split} split, sampling seed {args.seed}\n")
    print("| method | right, % | against single | one right, % | duels by, % | calls | tokens | seconds |")
    print("| --- | ---: | ---: | ---: | --- | ---: | ---: | ---: |")
    for spec in specs:
        began = time.perf_counter()
        traces = asyncio.run(answer_all(model, spec, questions, args.seed, args.temperature))
        seconds = time.perf_counter() - began
        results[spec.name] = [is_right(trace) for trace in traces]
        print(row(spec, traces, results.get("single", results[spec.name]), seconds), flush=True)
        kept += [
            {"method": spec.name, "id": t.question.id, "answer": t.answer, "reference": t.question.reference}
            for t in traces
        ]
    print("\n" + "\n".join(by_type(results, items)))
    if args.json:
        args.json.write_text("\n".join(json.dumps(item) for item in kept) + "\n")


if __name__ == "__main__":
    main()
