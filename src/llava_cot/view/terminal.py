"""A question being answered, as seen in a terminal: stages on one console, the search on another.

Owns what is printed when. Knows nothing of methods: it is told events.
"""

from __future__ import annotations

from rich.console import Console

from llava_cot.core.stages import StageFormat
from llava_cot.core.text import one_line, plural, printable
from llava_cot.core.trace import Candidate, Score, Verdict
from llava_cot.search.search import (
    CandidateAdded,
    Event,
    Finished,
    Kept,
    ScoreGiven,
    StageStarted,
    TextDelta,
    VerdictGiven,
)
from llava_cot.view.describe import format_score, losing_candidate, verdict_reason
from llava_cot.view.stage_stream import Piece, StageStreamer


class LiveView:
    """Called with each event. Stages go to `out` as they are decided; losers, verdicts and scores to `err`.

    A round of which nothing is kept before the next one begins is told as it is: a search that keeps several
    decides at its end.

    `out` is None where the answer is not to be shown as it grows, `err` where nothing else is to be
    shown. Where `err` is a terminal it also has a line that says what is going on.
    """

    def __init__(
        self, fmt: StageFormat, *, out: Console | None, err: Console | None, show_search: bool = False
    ) -> None:
        self._fmt = fmt
        self._out = out
        self._err = err
        self._show_search = show_search
        self._streamer = StageStreamer(fmt)
        self._streamed = False
        self._line_open = False
        self._blank_line = True
        self._status_shown = False
        self._stage = ""
        self._candidates: list[Candidate] = []
        self._verdicts: list[Verdict] = []
        self._scores: list[Score] = []
        self._told = True  # of this round

    def __call__(self, event: Event) -> None:
        match event:
            case StageStarted(stage=stage):
                self._search()
                self._stage, self._candidates, self._verdicts, self._scores = stage, [], [], []
                self._streamed = self._told = False
                self.status(stage)
            case TextDelta(text=text):
                self._streamed = True
                self._answer(self._streamer.feed(text))
            case CandidateAdded(candidate=candidate):
                self._candidates.append(candidate)
                self.status(self._counts())
            case VerdictGiven(verdict=verdict):
                self._verdicts.append(verdict)
                self.status(self._counts())
            case ScoreGiven(score=score):
                self._scores.append(score)
                self.status(self._counts())
            case Kept(candidate=candidate):
                if candidate in self._candidates:
                    self._search(candidate)
                if not self._streamed:
                    self._answer(self._streamer.feed(candidate.text))
            case Finished():
                self._search()
                self.close()

    def status(self, text: str) -> None:
        """Say what is going on, on a line that the next output replaces."""
        err = self._err
        if err is None or not err.is_terminal or err.is_dumb_terminal or self._line_open:
            return
        err.file.write(f"\r\x1b[K\x1b[2m{one_line(text)}...\x1b[0m")
        err.file.flush()
        self._status_shown = True

    def close(self) -> None:
        """Show what is held back and end the line."""
        self._answer(self._streamer.close())
        self._end_line()
        self._clear_status()

    def _counts(self) -> str:
        found = ((self._candidates, "candidate"), (self._verdicts, "duel"), (self._scores, "score"))
        counts = [plural(len(those), noun) for those, noun in found if those]
        return f"{self._stage}: {', '.join(counts)}"

    def _answer(self, pieces: list[Piece]) -> None:
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

    def _search(self, kept: Candidate | None = None) -> None:
        """What there was in this round beside what was kept, and why; once."""
        if self._told or self._err is None or not self._show_search or len(self._candidates) < 2:
            return
        self._told = True
        self._clear_status()
        self._new_paragraph()
        self._tell(self._counts())
        parents = {candidate.parent for candidate in self._candidates}
        for candidate in self._candidates:
            if candidate != kept:
                parts = [f"after #{candidate.parent}"] if len(parents) > 1 else []
                parts += dict.fromkeys(
                    f"score {format_score(score.value)}"
                    for score in self._scores
                    if score.candidate == candidate.id
                )
                head = ", ".join([f"#{candidate.id} not kept" if kept else f"#{candidate.id}", *parts])
                self._tell(f"{head}: {one_line(candidate.text)}")
        for verdict in self._verdicts:
            result = f"#{verdict.winner} beat #{losing_candidate(verdict)}: {verdict_reason(verdict)}."
            self._tell(f"{result} {one_line(verdict.reply)}".rstrip())
        for score in self._scores:
            if score.reply or (kept and score.candidate == kept.id):
                said = f"#{score.candidate} scored {format_score(score.value)} by the judge ({score.judge})."
                self._tell(f"{said} {one_line(score.reply)}".rstrip())

    def _tell(self, line: str) -> None:
        assert self._err is not None
        self._err.out(line, style="dim", highlight=False)

    def _clear_status(self) -> None:
        if self._status_shown and self._err is not None:
            self._err.file.write("\r\x1b[K")
            self._err.file.flush()
        self._status_shown = False
