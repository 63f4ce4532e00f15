"""A trace as a tree in the terminal: rounds, candidates, duels, scores, the answer, what it cost."""

from __future__ import annotations

from string import ascii_uppercase

from rich.console import Group
from rich.text import Text
from rich.tree import Tree

from llava_cot.core.text import one_line, printable
from llava_cot.core.trace import Candidate, Score, Trace, Verdict
from llava_cot.view.describe import (
    SearchRound,
    candidate_facts,
    continued_candidates,
    describe_request,
    describe_round,
    describe_usage,
    format_score,
    search_rounds,
    verdict_reason,
)


def trace_tree(trace: Trace) -> Tree:
    """The tree of one trace, ready for a rich console."""
    tree = Tree(Text(printable(trace.question.text), style="bold"), guide_style="dim")
    tree.add(Text(describe_request(trace), style="dim"))
    for letter, option in zip(ascii_uppercase, trace.question.options, strict=False):
        tree.add(Text(f"{letter}. {one_line(option)}"))
    for image in trace.question.images:
        tree.add(Text(f"picture {one_line(image.name)}, {image.width} x {image.height}", style="dim"))
    followed = continued_candidates(trace)
    for part in search_rounds(trace):
        _add_round(tree, part, trace, followed)
    answer = "none" if trace.answer is None else printable(trace.answer)
    tree.add(Text.assemble("answer: ", (answer, "bold green")))
    if trace.question.reference is not None:
        tree.add(Text(f"reference: {printable(trace.question.reference)}"))
    tree.add(Text(describe_usage(trace.usage), style="dim"))
    return tree


def _add_round(tree: Tree, part: SearchRound, trace: Trace, followed: set[int]) -> None:
    head = (f"{part.number + 1} {part.stage}", "bold cyan")
    branch = tree.add(Text.assemble(head, f" · {describe_round(part)}"))
    for candidate in part.candidates:
        branch.add(_candidate(candidate, part, trace, followed))
    for verdict in part.verdicts:
        branch.add(_verdict(verdict))
    for score in part.separate_scores:
        branch.add(_score(score))


def _candidate(candidate: Candidate, part: SearchRound, trace: Trace, followed: set[int]) -> Group:
    kept = candidate.id in trace.chosen
    fate = " kept" if kept else " gone on from" if candidate.id in followed else ""
    parent = "" if candidate.parent is None or part.parent is not None else f" · after #{candidate.parent}"
    head = f"#{candidate.id}{fate}{parent} · {' · '.join(candidate_facts(candidate, trace))}"
    style = "bold" if kept else "dim"
    return Group(Text(head, style="green" if kept else "dim"), Text(printable(candidate.text), style=style))


def _verdict(verdict: Verdict) -> Group:
    lines = [
        Text(f"duel #{verdict.a} against #{verdict.b}: #{verdict.winner} won, {verdict_reason(verdict)}")
    ]
    for check in verdict.checks:
        found = {True: "correct", False: "incorrect", None: "undecided"}[check.correct]
        lines.append(
            Text(f"#{check.candidate} looked at alone: {found}. {one_line(check.reply)}", style="dim")
        )
    if verdict.reply:
        lines.append(Text(one_line(verdict.reply), style="dim italic"))
    return Group(*lines)


def _score(score: Score) -> Group:
    lines = [Text(f"#{score.candidate} scored {format_score(score.value)} by the judge ({score.judge})")]
    if score.reply:
        lines.append(Text(one_line(score.reply), style="dim italic"))
    return Group(*lines)
