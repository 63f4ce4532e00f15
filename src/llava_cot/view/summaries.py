"""Runs in a terminal: how far they are, and the table at their end.

Owns the words. What a line of the table holds is the subject of `eval/summary.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from llava_cot.core.text import one_line, plural
from llava_cot.evaluation.run import EvalOutcome, EvalProgress
from llava_cot.evaluation.summary import SummaryRow
from llava_cot.view.line import ProgressLine, pace


class EvaluatingView(ProgressLine):
    """Call it with each progress."""

    def __call__(self, progress: EvalProgress) -> None:
        self.total = progress.total
        self.show(progress.done, lambda seconds: told(progress, seconds))

    def interrupted(self) -> None:
        self.note("nothing more is asked; waiting for answers that may be paid for (Ctrl-C: no waiting)")

    def end(self, folder: Path, done: EvalOutcome, lines: Sequence[SummaryRow], *, scorer: bool) -> None:
        """What is wanting, if something is. `scorer` tells whether there was one to ask."""
        why = f"; the last: {done.why}" if done.why else ""
        for model in done.gave_up:
            self.note(f"the model {model} failed again and again, and was asked no more")
        if failed := sum(line.failed for line in lines):
            self.note(
                f"no answer to {plural(failed, 'question')}, which count as wrong{why}; the same command "
                "asks them again"
            )
        if done.unscored:
            self.note(f"{plural(done.unscored, 'answer')} could not be scored{why}; the same command goes on")
        elif unsettled := sum(line.unsettled for line in lines):
            how = "nor by the scorer's replies" if scorer else "and a model to ask is named by --scorer"
            self.note(f"{plural(unsettled, 'answer')} count as wrong: words do not settle them, {how}")
        self.note(f"everything is kept in {folder}")


def told(progress: EvalProgress, seconds: float) -> str:
    """The line: answers, rate, time left, failures, money, and the score so far under the setting.

    The score comes last, since its name may not fit into a narrow terminal.
    """
    parts = [f"{progress.done:,} of {progress.total:,} answers"]
    parts += pace(progress.fresh, seconds, progress.total - progress.done - progress.failed)
    if progress.failed:
        parts.append(f"{progress.failed:,} failed")
    if progress.usd:
        parts.append(f"${progress.usd:,.2f}")
    if progress.setting is not None:
        setting = progress.setting
        named = one_line(f"{setting.method} of {setting.model} on {setting.benchmark}")
        parts.append(f"{100 * progress.mean:.1f}% by {named}")
    return " · ".join(filter(None, parts))


def markdown(lines: Sequence[SummaryRow], notes: Mapping[str, str]) -> Iterator[str]:
    """The table, without columns that say nothing here, and under it the notes of its benchmarks."""
    several = {line.model for line in lines} != {lines[0].model}
    priced = any(line.usd is not None for line in lines)
    failed = any(line.failed for line in lines)
    heads = ["benchmark", *(["model"] if several else []), "method", "questions", "score, %", "95% interval"]
    heads += ["tokens", "calls", "seconds", *(["$"] if priced else []), *(["failed"] if failed else [])]
    text = 3 if several else 2
    yield _row(heads)
    yield _row(["---"] * text + ["---:"] * (len(heads) - text))
    for line in lines:
        cells = [line.benchmark, *([line.model] if several else []), line.method]
        cells.append(f"{line.questions:,}" + (f" × {line.seeds} seeds" if line.seeds > 1 else ""))
        if line.score is None:
            cells += ["", ""]
        else:
            cells += [f"{line.score.value:.1f}", f"{line.score.low:.1f} to {line.score.high:.1f}"]
        cells += [f"{line.tokens:,.0f}", f"{line.calls:.1f}", f"{line.seconds:.3f}"]
        cells += [f"{line.usd or 0:.5f}"] if priced else []
        cells += [f"{line.failed:,}"] if failed else []
        yield _row(cells)
    for benchmark, note in notes.items():
        if note:
            yield f"\n{benchmark}: {note}"


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(one_line(cell).replace("|", "\\|") for cell in cells) + " |"
