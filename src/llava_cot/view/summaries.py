"""What commands say while they run and at their end: progress details, tables and closing lines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from statistics import fmean
from typing import Any

from llava_cot.core.wording import one_line, plural, shortened
from llava_cot.data.annotation import annotate
from llava_cot.data.annotation.output import REASONS
from llava_cot.data.checks.check import FINDING_KINDS, CheckReport, Finding, kind_of
from llava_cot.data.rollouts import duel_set
from llava_cot.data.rollouts.rollout_card import RolloutSummary
from llava_cot.evaluation.judge_accuracy import JudgeAccuracy
from llava_cot.evaluation.report.arms import SummaryRow
from llava_cot.evaluation.report.outcome_tables import WARNING_KINDS
from llava_cot.evaluation.run import EvalOutcome, EvalProgress
from llava_cot.evaluation.statistics import MeanEstimate
from llava_cot.view.progress import ProgressDisplay

_EXAMPLES = 3  # of one finding
_MOST_REASONS = 8  # that are printed
_WIDTH = 110
_RESUME = "run the command again to resume"
_LOSSES = {
    "loss": "loss", "reward": "reward", "accuracy": "accuracy", "eval_loss": "evaluation loss",
    "eval_pairs_ordered": "pairs ordered rightly",
}  # fmt: skip


def show_annotation(display: ProgressDisplay) -> Callable[[annotate.AnnotationProgress], None]:
    """A callback that shows the progress of annotation, with the rejected turns."""

    def show(progress: annotate.AnnotationProgress) -> None:
        rejected = f"{progress.rejected:,} of {progress.turns:,} turns rejected" if progress.rejected else ""
        display.update(
            progress.done, fresh=progress.fresh, failed=progress.failed, usd=progress.usd, details=(rejected,)
        )

    return show


def show_evaluation(display: ProgressDisplay) -> Callable[[EvalProgress], None]:
    """A callback that shows the progress of an evaluation, with the score so far of the last run."""

    def show(progress: EvalProgress) -> None:
        display.update(
            progress.done, progress.total, fresh=progress.new, failed=progress.failed, usd=progress.usd,
            details=(score_so_far(progress),),
        )  # fmt: skip

    return show


def score_so_far(progress: EvalProgress) -> str:
    run = progress.run
    if run is None:
        return ""
    name = one_line(f"{run.method} of {run.model} on {run.benchmark}")
    return f"{100 * progress.mean:.1f}% by {name}"


def show_training(display: ProgressDisplay) -> Callable[[int, int, Mapping[str, Any]], None]:
    """A callback that shows a training run: the step, the number of steps, and the step's line of the log."""

    def show(step: int, steps: int, log: Mapping[str, Any]) -> None:
        details = [f"{name} {log[key]:.4f}" for key, name in _LOSSES.items() if key in log]
        if "tokens_per_second" in log:
            details.append(f"{log['tokens_per_second']:,.0f} tokens/s")
        important = step == steps or "eval_loss" in log
        display("training", step, steps, details=details, now=important)

    return show


def annotation_end(folder: Path, done: annotate.AnnotationResult) -> Iterator[str]:
    """What an annotation wrote, what it cost, and what is still pending."""
    summary = done.summary
    parts = [plural(summary.records, "record"), f"{plural(summary.rejected.total(), 'turn')} rejected"]
    if done.cost.usd is not None:
        parts.append(f"${done.cost.usd:,.2f} in all")
    yield f"wrote {folder}: {' · '.join(parts)}"
    if summary.pending:
        why = one_line(done.why or f"{done.failed:,} failed")
        yield f"still pending: {plural(summary.pending, 'record')} ({why}); {_RESUME}"
    yield from by_reason("failed", "record", done.failures)
    rejected = {REASONS.get(why, why): count for why, count in summary.rejected.items()}
    yield from by_reason("rejected", "turn", rejected)
    if summary.repeated:
        yield from by_reason("left out", "record", {REASONS["repeated"]: summary.repeated})


def by_reason(what: str, noun: str, reasons: Mapping[str, int]) -> Iterator[str]:
    """A line for each of the most frequent reasons: "rejected: 3 turns: the verdict could not be read"."""
    ordered = Counter(reasons).most_common()
    for reason, count in ordered[:_MOST_REASONS]:
        yield f"{what}: {plural(count, noun)}: {one_line(reason)}"
    if others := ordered[_MOST_REASONS:]:
        total = plural(sum(count for _, count in others), noun)
        yield f"{what}: {total}: {plural(len(others), 'other reason')}"


def duels_end(folder: Path, done: duel_set.DuelsResult) -> Iterator[str]:
    """What `llava-cot data duels` wrote, what it cost, what was left out, and what is still pending."""
    summary, usage = done.summary, done.summary.usage
    parts = [
        f"wrote {folder}: {plural(summary.duels, 'duel')} and {plural(summary.checks.total(), 'check')} "
        f"from {plural(summary.questions, 'question')}",
        plural(int(usage["calls"] or 0), "call"),
    ]
    if usage["usd"] is not None:
        parts.append(f"${usage['usd']:,.2f}")
    yield " · ".join(parts)
    for stage, tally in summary.stages.items():
        chance = f", {tally['by_chance']:.1f} by chance" if tally["by_chance"] else ""
        labeled = f"{tally['labelled']:,} labeled{chance}"
        yield f"  {stage}: {tally['duels']:,} of {labeled}, of {tally['pairs']:,} pairs"
    for why, count in summary.left_out.items():
        yield f"left out: {plural(count, 'record')} with {why}"
    if summary.pending:
        pending = plural(summary.pending, "question")
        yield one_line(f"still pending: {pending} ({done.why}); {_RESUME}")


def rollouts_end(folder: Path, summary: RolloutSummary, why: str | None) -> Iterator[str]:
    """What `llava-cot data rollouts` wrote, what a label cost, what was left out, and what is pending."""
    share = f", {summary.right / summary.drawn:.1%} right" if summary.drawn else ""
    parts = [
        f"wrote {folder}: {plural(summary.questions, 'question')}, {summary.mixed:,} with right and wrong "
        "answers",
        f"{plural(summary.samples, 'different answer')} of {summary.drawn:,}{share}",
    ]
    yield " · ".join(parts + ([f"${summary.usd:,.2f}"] if summary.usd is not None else []))
    for stage, values in summary.values.items():
        yield f"  {stage}: {plural(len(values), 'value')}, {fmean(values):.2f} on average"
    for kind, spent, alone in summary.cost_lines():
        yield f"  {kind} {spent:,.0f} tokens a label; {alone:,.0f} without sharing"
    yield from by_reason("without a value", "stage", summary.unlabeled)
    if summary.undecided:
        yield f"left out: {plural(summary.undecided, 'answer')} whose words do not tell if they are right"
    if summary.unbalanced:
        yield f"left out: {plural(summary.unbalanced, 'question')} with only right, or only wrong, answers"
    for reason, count in summary.left_out.items():
        yield f"left out: {plural(count, 'record')} with {reason}"
    if summary.pending:
        yield one_line(f"still pending: {plural(summary.pending, 'question')} ({why}); {_RESUME}")


def evaluation_end(
    folder: Path, done: EvalOutcome, lines: Sequence[SummaryRow], *, scorer: bool
) -> Iterator[str]:
    """What is missing from an evaluation, if anything, and where its results are.

    Args:
        scorer: Whether there was a model for answers that text comparison does not decide.
    """
    why = f"; the last: {one_line(done.last_error)}" if done.last_error else ""
    for model, reason in done.abandoned.items():
        yield f"the model {model} was given up, and its other questions were skipped: {one_line(reason)}"
    if failed := sum(line.failed for line in lines):
        yield f"no answer to {plural(failed, 'question')}, which count as wrong{why}; {_RESUME}"
    yield from by_reason("missing", "answer", done.left_out.get("missing", {}))
    if scorer:
        yield from by_reason("not scored", "answer", done.left_out.get("not scored", {}))
    warned = {WARNING_KINDS[kind]: count for kind, count in done.warned.items()}
    yield from by_reason("warned", "answer", warned)
    if done.scorer_unavailable:
        yield f"the scorer was given up: {one_line(done.scorer_unavailable)}"
    if done.unscored:
        yield f"{plural(done.unscored, 'answer')} could not be scored{why}; {_RESUME}"
    elif unsettled := sum(line.unsettled for line in lines):
        how = "nor did the scorer's replies" if scorer else "and --scorer names a model that can"
        yield f"{plural(unsettled, 'answer')} count as wrong: comparing text did not decide them, {how}"
    yield f"the results are in {folder}"


def evaluation_table(lines: Sequence[SummaryRow], notes: Mapping[str, str]) -> Iterator[str]:
    """The results as a Markdown table, without empty columns, and the notes of its benchmarks below."""
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
            cells += _estimate(line.score)
        cells += [f"{line.tokens:,.0f}", f"{line.calls:.1f}", f"{line.seconds:.3f}"]
        cells += [f"{line.usd or 0:.5f}"] if priced else []
        cells += [f"{line.failed:,}"] if failed else []
        yield _row(cells)
    for benchmark, note in notes.items():
        if note:
            yield f"\n{benchmark}: {note}"


def judge_tables(found: JudgeAccuracy) -> Iterator[str]:
    """How a judge orders and chooses, as two Markdown tables."""
    yield _row(["stage", "right-wrong pairs", "ordered, %", "95% interval", "AUC over all"])
    yield _row(["---", *["---:"] * 4])
    for one in found.stages:
        ordered = ["", ""] if one.ordered is None else _estimate(one.ordered)
        yield _row([one.stage, f"{one.pairs:,.0f}", *ordered, "" if one.auc is None else f"{one.auc:.2f}"])
    yield ""
    yield _row(["choice by", "right, %", "95% interval"])
    yield _row(["---", "---:", "---:"])
    for name, estimate in found.chosen.items():
        yield _row([name, *_estimate(estimate)])


def _estimate(estimate: MeanEstimate) -> list[str]:
    return [f"{estimate.value:.1f}", f"{estimate.low:.1f} to {estimate.high:.1f}"]


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(one_line(cell).replace("|", "\\|") for cell in cells) + " |"


def check_report(report: CheckReport) -> Iterator[str]:
    """The report of `llava-cot data check`: a table of findings, with a few examples of each."""
    yield f"{report.file}: {checked_size(report)}"
    if report.responses:
        responses = plural(report.responses, "response")
        yield f"conclusions that give the standard answer: {report.agreeing:,} of {responses}"
        yield (
            f"not checked: {report.undecided:,} where comparing words does not decide, "
            f"{report.unanswered:,} without a standard answer or a conclusion"
        )
    if not report.counts:
        yield "nothing was found"
    for kind, group in groupby(report.names(), kind_of):
        names = list(group)
        yield ""
        yield f"{sum(report.counts[name] for name in names):>7,}  {kind}: {FINDING_KINDS[kind]}"
        for name in names:
            if name != kind:
                yield f"{report.counts[name]:>11,}  {name.partition(': ')[2]}"
            for finding in report.findings[name][:_EXAMPLES]:
                yield " " * 13 + shortened(f"{_place(finding)}: {finding.what}", _WIDTH)


def checked_size(report: CheckReport) -> str:
    """How much was checked: records, turns, responses and pictures."""
    nouns = ("record", "turn", "response", "picture")
    return ", ".join(plural(getattr(report, f"{noun}s"), noun) for noun in nouns)


def _place(finding: Finding) -> str:
    """Where a finding is, as in "line 7, chartqa/12, turn 0"."""
    parts = [f"line {finding.line}", finding.id or "", "" if finding.turn is None else f"turn {finding.turn}"]
    return ", ".join(shortened(part, 60) for part in parts if part)
