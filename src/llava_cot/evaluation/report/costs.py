"""What a question costs, by arm: tokens, model calls, seconds, money.

Owns the means. They are over the questions that the model answered, since a failure's cost is not known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from llava_cot.evaluation.report.arms import Arm, named
from llava_cot.evaluation.report.document import Cell, ReportTable, amount, cells

NOTE = (
    "Over the questions that were answered. Tokens and calls are those of all candidates and all duels, "
    "kept or not. Seconds are the run's: where questions run together, each second is divided among them. "
    "Those in flight are from a question's start to its end."
)


@dataclass(frozen=True)
class Cost:
    """Means a question. `usd` is None where there is no price, `seconds` where no clock was kept, and
    `candidates` where they were not counted."""

    written: float
    read: float
    calls: float
    seconds: float | None
    in_flight: float
    usd: float | None
    candidates: float | None = None


def cost_of(arm: Arm) -> Cost | None:
    """None where no question was answered."""
    found = arm.answered
    if not found:
        return None
    count, usages = len(found), [result.usage for result in found]
    wall = sum(result.wall for result in found)
    counted = [result.candidates for result in found if result.candidates is not None]
    priced = [usage.usd for usage in usages if usage.usd is not None]
    return Cost(
        written=sum(usage.completion_tokens for usage in usages) / count,
        read=sum(usage.prompt_tokens for usage in usages) / count,
        calls=sum(usage.model_calls for usage in usages) / count,
        seconds=wall / count if wall else None,
        in_flight=sum(usage.seconds for usage in usages) / count,
        usd=sum(priced) / len(priced) if priced else None,
        candidates=sum(counted) / len(counted) if counted else None,
    )


def costs_table(arms: Sequence[Arm]) -> ReportTable:
    lines = []
    for arm in arms:
        cost, failed = cost_of(arm), len(arm.results) - len(arm.answered)
        figures = ["–"] * 7
        if cost is not None:
            usd = "–" if cost.usd is None else f"${cost.usd:.2g}"
            parts = (cost.candidates, cost.written, cost.read, cost.calls, cost.seconds, cost.in_flight)
            figures = [*(amount(part) for part in parts), usd]
        count = Cell(f"{failed:,}", mark="worse" if failed else "")
        lines.append((named(arm), *cells(*figures, f"{len(arm.results):,}"), count))
    head = ("method", "candidates", "tokens written", "tokens read", "model calls", "seconds")
    more = ("seconds in flight", "money", "asked", "failed")
    return ReportTable("Cost of a question", (*head, *more), tuple(lines), note=NOTE)
