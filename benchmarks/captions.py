"""What limits the search on scenes: how often a true caption is among the candidates, and is then kept.

    python benchmarks/captions.py --split validation --count 600 --methods stage-beam-4 stage-beam-4@logits

A caption is true if it names every object of the scene as the teacher does. Prints a Markdown table:
of the questions, by whether all, some or none of the candidates are true; of those with some, in how
many a true one is kept; of the duels between a true and a false caption, how many the true one wins; and the
wrong answers after a true and after a false caption was kept.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from scenes import answer_all, is_right

from llava_cot import open_model
from llava_cot.methods.spec import parse_spec
from llava_cot.scenes.write import Item, make_item
from llava_cot.stages import parse
from llava_cot.trace import Trace


@dataclass(frozen=True)
class Captions:
    """The caption stage of one question: which candidates are true, what became of them."""

    true: dict[int, bool]
    kept: bool
    duels: tuple[bool, ...]  # between a true and a false one: whether the true one won
    right: bool


def captions(trace: Trace, truth: str) -> Captions:
    true = {c.id: parse(c.text).stages["caption"] == truth for c in trace.candidates if c.stage == "caption"}
    duels = tuple(true[v.winner] for v in trace.verdicts if v.stage == "caption" and true[v.a] != true[v.b])
    return Captions(true, trace.stages["caption"] == truth, duels, is_right(trace))


def share(values: Sequence[bool]) -> str:
    return f"{100 * sum(values) / len(values):.0f}% of {len(values)}" if values else ""


def row(name: str, seen: Sequence[Captions]) -> str:
    some = [one for one in seen if any(one.true.values()) and not all(one.true.values())]
    cells = [
        share([all(one.true.values()) for one in seen]),
        share([one in some for one in seen]),
        share([not any(one.true.values()) for one in seen]),
        share([one.kept for one in some]),
        share([won for one in seen for won in one.duels]),
        share([not one.right for one in seen if one.kept]),
        share([not one.right for one in seen if not one.kept]),
    ]
    return f"| {name} | " + " | ".join(cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="mini")
    parser.add_argument("--split", default="validation")
    parser.add_argument("--count", type=int, default=600)
    parser.add_argument("--seed", type=int, default=0, help="of the sampling")
    parser.add_argument("--methods", nargs="+", default=["stage-beam-4", "stage-beam-4@logits"])
    args = parser.parse_args()
    model = open_model(args.model)
    items: list[Item] = [make_item(args.split, 0, i) for i in range(args.count)]
    print(
        "| method | all true | some | none | of some: kept | duels won by the true one "
        "| wrong after a true one | wrong after a false one |"
    )
    print("| --- |" + " ---: |" * 7)
    for name in args.methods:
        spec = parse_spec(name)
        traces = asyncio.run(answer_all(model, spec, [item.ask() for item in items], args.seed))
        seen = [captions(trace, item.stages["caption"]) for trace, item in zip(traces, items, strict=True)]
        print(row(name, seen), flush=True)


if __name__ == "__main__":
    main()
