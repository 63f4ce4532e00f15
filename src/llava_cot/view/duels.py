"""What a run of `llava-cot data duels` ends with, in words."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from llava_cot.core.text import one_line, plural
from llava_cot.data.rollouts.duel_set import Done


def end_lines(folder: Path, done: Done) -> Iterator[str]:
    """What was written, of what, what it cost, what was left out, and what is still owed."""
    summary, usage = done.summary, done.summary.usage
    checks = summary.checks.total()
    parts = [
        f"wrote {folder}: {plural(summary.duels, 'duel')} and {plural(checks, 'check')} "
        f"from {plural(summary.questions, 'question')}"
    ]
    parts.append(f"{plural(int(usage['calls'] or 0), 'call')}")
    if usage["usd"] is not None:
        parts.append(f"${usage['usd']:,.2f}")
    yield " · ".join(parts)
    for stage, tally in summary.stages.items():
        chance = f", {tally['by_chance']:.1f} by chance" if tally["by_chance"] else ""
        labelled = f"{tally['labelled']:,} labelled{chance}"
        yield f"  {stage}: {tally['duels']:,} of {labelled}, of {tally['pairs']:,} pairs"
    for why, count in summary.left_out.items():
        yield f"left out: {plural(count, 'record')} with {why}"
    if summary.owed:
        owed = plural(summary.owed, "question")
        yield one_line(f"still owed: {owed} ({done.why}); the same command goes on")
