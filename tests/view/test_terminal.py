"""What is printed while a question is answered, from its events alone."""

import io

from made_traces import single, staged, tree
from rich.console import Console

from llava_cot.core.stages import LLAVA_COT
from llava_cot.core.trace import Trace
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
from llava_cot.view.describe import search_rounds
from llava_cot.view.terminal import LiveView

SINGLE = """Summary
I will find every object, take away the ones that are named, and count what is left.

Caption
"""


def events(trace: Trace, late: bool = False) -> list[Event]:
    """All that happened; with `late`, what is kept is decided at the end."""
    told: list[Event] = []
    for part in search_rounds(trace):
        told.append(StageStarted(part.stage, part.number))
        told += [CandidateAdded(candidate) for candidate in part.candidates]
        told += [VerdictGiven(verdict) for verdict in part.verdicts]
        told += [ScoreGiven(score) for score in part.scores]
        if not late:
            told += [
                CandidateChosen(candidate) for candidate in part.candidates if candidate.id in trace.chosen
            ]
    told += [CandidateChosen(trace.candidates[id]) for id in trace.chosen] if late else []
    return [*told, Finished(trace)]


def show(told: list[Event], *, terminal: bool = False, **settings: bool) -> tuple[str, str]:
    out, err = io.StringIO(), io.StringIO()
    consoles = [
        Console(file=file, width=80, force_terminal=terminal, color_system=None) for file in (out, err)
    ]
    view = LiveView(LLAVA_COT, out=consoles[0], err=consoles[1], **settings)
    for event in told:
        view(event)
    view.close()
    return out.getvalue(), err.getvalue()


def test_stages_appear_under_their_names_as_they_are_kept() -> None:
    out, err = show(events(staged(4)))
    assert out.startswith(SINGLE)
    assert out.endswith("\n\nConclusion\n2\n")
    assert "Try" not in out
    assert err == ""


def test_deltas_are_streamed_once_and_the_kept_text_is_not_repeated() -> None:
    trace = single()
    text = trace.candidates[0].text
    told = events(trace)
    deltas: list[Event] = [TextDelta(text[i : i + 5]) for i in range(0, len(text), 5)]
    assert show(told[:1] + deltas + told[1:])[0] == show(told)[0]


def test_a_delta_is_shown_at_once() -> None:
    out = io.StringIO()
    view = LiveView(LLAVA_COT, out=Console(file=out, width=80), err=None)
    view(StageStarted("answer", 0))
    view(TextDelta("<SUMMARY> I will"))
    assert out.getvalue() == "Summary\nI will"


def test_the_search_goes_to_the_other_console() -> None:
    out, err = show(events(staged(4)), show_search=True)
    assert out == show(events(staged(4)))[0]
    assert err.startswith("summary: 4 candidates, 3 duels\n#1 not kept:")
    assert err.count("not kept") == 12
    assert "#1 not kept: <SUMMARY> Try 1. I will find" in err
    assert "#0 beat #1: the judge (self) chose it. Since response 2 names every object" in err
    assert "#8 beat #9: #9 was found incorrect.\n" in err


def test_nothing_is_shown_where_nothing_is_asked_for() -> None:
    view = LiveView(LLAVA_COT, out=None, err=None, show_search=True)
    for event in events(staged(4)):
        view(event)


def test_the_status_line_of_a_terminal_is_wiped() -> None:
    _, err = show(events(staged(4)), terminal=True)
    assert "summary: 4 candidates, 3 duels..." in err
    assert err.endswith("\r\x1b[K")


def test_a_model_cannot_steer_the_terminal() -> None:
    hostile = dict.fromkeys(["summary", "caption", "reasoning", "conclusion"], "[red]\x1b[2J\x07")
    out, err = show(events(staged(2, hostile)), show_search=True)
    assert "\x1b" not in out + err and "\x07" not in out + err
    assert "[red]�[2J�" in out


def test_a_search_that_decides_at_its_end_tells_each_round_once() -> None:
    out, err = show(events(tree(), late=True), show_search=True)
    assert out == show(events(tree()))[0]
    lines = err.splitlines()
    heads = [line for line in lines if not line.startswith("#") and line]
    assert heads == [
        "caption: 3 candidates, 3 scores",
        "reasoning: 2 candidates, 2 scores",
        "caption: 2 candidates, 2 scores",
        "reasoning: 2 candidates, 2 scores",
        "conclusion: 2 candidates, 2 scores",
    ]
    assert "#2, score 0.100: <CAPTION> Caption 1. </CAPTION>" in lines
    assert "#4, after #3, score -1.500: <REASONING> Reasoning a. </REASONING>" in lines
    assert "#8 scored 2.000 by the judge (critic). Every step holds." in lines
    assert "#11 not kept, after #4, score -3.000: <CONCLUSION> 1 </CONCLUSION>" in lines
    assert "#10 scored 3.000 by the judge (critic)." in lines
    assert len([line for line in lines if line.startswith("#10")]) == 1


def test_a_search_of_which_nothing_is_kept_is_told_too() -> None:
    told = [event for event in events(tree()) if not isinstance(event, CandidateChosen)]
    assert "#11, after #4, score -3.000" in show(told, show_search=True)[1]
