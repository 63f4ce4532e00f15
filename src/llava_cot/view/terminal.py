"""Traces in a terminal: a question while it is answered, and a saved trace as a tree."""

from __future__ import annotations

from rich.console import Console, Group
from rich.text import Text
from rich.tree import Tree

from llava_cot.core.question import lettered
from llava_cot.core.stages import StageFormat
from llava_cot.core.trace import Candidate, Score, Trace, Verdict
from llava_cot.core.wording import one_line, printable
from llava_cot.search.search import (
    CandidateAdded,
    CandidateChosen,
    Event,
    Finished,
    ScoreGiven,
    StageStarted,
    TextDelta,
    VerdictGiven,
)
from llava_cot.view.describe import (
    SearchRound,
    candidate_facts,
    candidate_scores,
    continued_candidates,
    describe_counts,
    describe_request,
    describe_round,
    describe_usage,
    describe_warning,
    format_score,
    losing_candidate,
    search_rounds,
    verdict_reason,
)
from llava_cot.view.stage_stream import StageStreamer, StreamPiece


class LiveView:
    """Shows a question while it is answered. Call it with each event of the search.

    Stages are printed as soon as they are decided. With `show_search`, so are the other candidates, verdicts
    and scores of each round: once one candidate is kept, or when the next round begins, for methods that
    choose only at their end.

    Args:
        fmt: The stage format of the answers.
        out: Where to print the answer; None not to print it.
        err: Where to print the search, and in a terminal a status line; None for neither.
        show_search: Whether to print the search.
    """

    def __init__(
        self, fmt: StageFormat, *, out: Console | None, err: Console | None, show_search: bool = False
    ) -> None:
        self._out, self._err, self._show_search = out, err, show_search
        self._streamer = StageStreamer(fmt)
        self._streamed = self._line_open = self._status_shown = False
        self._blank_line = True
        self._stage = ""
        self._candidates: list[Candidate] = []
        self._verdicts: list[Verdict] = []
        self._scores: list[Score] = []
        self._round_shown = True

    def __call__(self, event: Event) -> None:
        match event:
            case StageStarted(stage=stage):
                self._print_round()
                self._stage, self._candidates, self._verdicts, self._scores = stage, [], [], []
                self._streamed = self._round_shown = False
                self.status(stage)
            case TextDelta(text=text):
                self._streamed = True
                self._print_answer(self._streamer.feed(text))
            case CandidateAdded(candidate=candidate):
                self._candidates.append(candidate)
                self.status(self._counts())
            case VerdictGiven(verdict=verdict):
                self._verdicts.append(verdict)
                self.status(self._counts())
            case ScoreGiven(score=score):
                self._scores.append(score)
                self.status(self._counts())
            case CandidateChosen(candidate=candidate):
                if candidate in self._candidates:
                    self._print_round(candidate)
                if not self._streamed:
                    self._print_answer(self._streamer.feed(candidate.text))
            case Finished():
                self._print_round()
                self.close()

    def status(self, text: str) -> None:
        """Show what is going on, on a line that the next output replaces."""
        err = self._err
        if err is None or not err.is_terminal or err.is_dumb_terminal or self._line_open:
            return
        err.file.write(f"\r\x1b[K\x1b[2m{one_line(text)}...\x1b[0m")
        err.file.flush()
        self._status_shown = True

    def close(self) -> None:
        """Print the text held back so far, and end the line."""
        self._print_answer(self._streamer.close())
        self._end_line()
        self._clear_status()

    def _counts(self) -> str:
        return f"{self._stage}: {describe_counts(self._candidates, self._verdicts, self._scores)}"

    def _print_answer(self, pieces: list[StreamPiece]) -> None:
        if self._out is None:
            return
        for piece in pieces:
            self._clear_status()
            if piece.kind == "begin":
                self._new_paragraph()
                self._write(piece.text.capitalize() + "\n", "bold cyan")
            elif piece.kind == "text":
                self._write(printable(piece.text), "")
            else:
                self._end_line()
        self._out.file.flush()

    def _write(self, text: str, style: str) -> None:
        assert self._out is not None
        self._out.out(text, style=style, end="", highlight=False)
        self._line_open = not text.endswith("\n")
        self._blank_line = text == "\n"

    def _end_line(self) -> None:
        if self._line_open:
            self._write("\n", "")
            self._blank_line = False

    def _new_paragraph(self) -> None:
        self._end_line()
        if self._out is not None and not self._blank_line:
            self._write("\n", "")

    def _print_round(self, winner: Candidate | None = None) -> None:
        """Print the round's other candidates, verdicts and scores, once."""
        if self._round_shown or self._err is None or not self._show_search or len(self._candidates) < 2:
            return
        self._round_shown = True
        self._clear_status()
        self._new_paragraph()
        self._print_search(self._counts())
        parents = {candidate.parent for candidate in self._candidates}
        for candidate in self._candidates:
            if candidate != winner:
                parts = [f"after #{candidate.parent}"] if len(parents) > 1 else []
                parts += candidate_scores(candidate, self._scores)
                head = ", ".join([f"#{candidate.id} not kept" if winner else f"#{candidate.id}", *parts])
                self._print_search(f"{head}: {one_line(candidate.text)}")
        for verdict in self._verdicts:
            result = f"#{verdict.winner} beat #{losing_candidate(verdict)}: {verdict_reason(verdict)}."
            self._print_search(f"{result} {one_line(verdict.reply)}".rstrip())
        for score in self._scores:
            if score.reply or (winner and score.candidate == winner.id):
                self._print_search(f"{_describe_score(score)}. {one_line(score.reply)}".rstrip())

    def _print_search(self, line: str) -> None:
        assert self._err is not None
        self._err.out(line, style="dim", highlight=False)

    def _clear_status(self) -> None:
        if self._status_shown and self._err is not None:
            self._err.file.write("\r\x1b[K")
            self._err.file.flush()
        self._status_shown = False


def trace_tree(trace: Trace) -> Tree:
    """A saved trace as a tree for a rich console: rounds with candidates, duels and scores; answer; cost."""
    tree = Tree(Text(printable(trace.question.text), style="bold"), guide_style="dim")
    tree.add(Text(describe_request(trace), style="dim"))
    for letter, option in lettered(trace.question.options):
        tree.add(Text(f"{letter}. {one_line(option)}"))
    for image in trace.question.images:
        tree.add(Text(f"picture {one_line(image.name)}, {image.width} x {image.height}", style="dim"))
    continued = continued_candidates(trace)
    for part in search_rounds(trace):
        heading = (f"{part.number + 1} {part.stage}", "bold cyan")
        branch = tree.add(Text.assemble(heading, f" · {describe_round(part)}"))
        for candidate in part.candidates:
            branch.add(_candidate(candidate, part, trace, continued))
        for verdict in part.verdicts:
            branch.add(_verdict(verdict))
        for score in part.separate_scores:
            branch.add(Group(Text(_describe_score(score)), *_reply(score.reply)))
    answer = "none" if trace.answer is None else printable(trace.answer)
    tree.add(Text.assemble("answer: ", (answer, "bold green")))
    if trace.question.reference is not None:
        tree.add(Text(f"reference: {printable(trace.question.reference)}"))
    for warning in trace.warnings:
        tree.add(Text(describe_warning(warning), style="yellow"))
    tree.add(Text(describe_usage(trace.usage), style="dim"))
    return tree


def _candidate(candidate: Candidate, part: SearchRound, trace: Trace, continued: set[int]) -> Group:
    chosen = candidate.id in trace.chosen
    state = " kept" if chosen else " continued" if candidate.id in continued else ""
    parent = "" if candidate.parent is None or part.parent is not None else f" · after #{candidate.parent}"
    head = f"#{candidate.id}{state}{parent} · {' · '.join(candidate_facts(candidate, trace))}"
    style = "bold" if chosen else "dim"
    return Group(Text(head, style="green" if chosen else "dim"), Text(printable(candidate.text), style=style))


def _verdict(verdict: Verdict) -> Group:
    lines = [
        Text(f"duel #{verdict.a} against #{verdict.b}: #{verdict.winner} won, {verdict_reason(verdict)}")
    ]
    for check in verdict.checks:
        found = {True: "correct", False: "incorrect", None: "undecided"}[check.correct]
        lines.append(
            Text(f"#{check.candidate} looked at alone: {found}. {one_line(check.reply)}", style="dim")
        )
    return Group(*lines, *_reply(verdict.reply))


def _describe_score(score: Score) -> str:
    return f"#{score.candidate} scored {format_score(score.value)} by the judge ({score.judge})"


def _reply(reply: str) -> list[Text]:
    return [Text(one_line(reply), style="dim italic")] if reply else []
