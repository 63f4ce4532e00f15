import io

from made_traces import sentences, staged, tree
from rich.console import Console

from llava_cot.core.trace import AnswerWarning, Trace
from llava_cot.view.terminal import trace_tree


def shown(trace: Trace, **settings: object) -> str:
    file = io.StringIO()
    Console(file=file, width=100, **settings).print(trace_tree(trace))
    return file.getvalue()


def test_the_tree_tells_the_whole_search() -> None:
    text = shown(staged(4))
    assert text.startswith("Subtract all small metal spheres.")
    assert text.count("#") > 28
    assert text.count(" kept") == 4
    assert "3 reasoning · 4 candidates, 3 duels, after #4" in text
    assert "duel #9 against #8: #8 won, #9 was found incorrect" in text
    assert "#9 looked at alone: incorrect. The count is wrong." in text
    assert "A. 1" in text and "reference: 2" in text
    assert text.rstrip().endswith("31 model calls · 4,321 tokens read · 987 written · 2.3 s")


def test_warnings_are_told() -> None:
    warning = AnswerWarning(kind="cut", text="the reasoning was \x1b[2J cut off")
    text = shown(staged(2).model_copy(update={"warnings": (warning,)}))
    assert "warning: the reasoning was �[2J cut off" in text


def test_winners_are_bold_and_losers_dim() -> None:
    text = shown(staged(2), force_terminal=True, color_system="standard")
    assert "\x1b[1m<CONCLUSION> 2 </CONCLUSION>" in text
    assert "\x1b[2m<CONCLUSION> Try 1. 2 </CONCLUSION>" in text


def test_a_model_cannot_steer_the_terminal() -> None:
    trace = staged(2, dict.fromkeys(["summary", "caption", "reasoning", "conclusion"], "[red]\x1b[2J\x07"))
    text = shown(trace)
    assert "\x1b" not in text and "\x07" not in text
    assert "[red]�[2J�" in text


def test_many_rounds() -> None:
    assert shown(sentences(40)).count("sentence ·") == 40


def test_scores_and_a_tree() -> None:
    text = shown(tree())
    assert "tree -n 4 · judge critic · budget 600 tokens ·" in text
    assert "2 caption · 3 candidates, 3 scores, after #0" in text
    assert "#2 continued · score 0.100 · 5 tokens" in text
    assert "#8 kept · after #7 · score 2.000 · 5 tokens" in text
    assert "#5 · after #2 · score -2.250" in text
    assert text.count("scored") == 1 and "#8 scored 2.000 by the judge (critic)" in text
    assert "Every step holds." in text
    assert "score" not in shown(staged(2)) and "continued" not in shown(staged(2))
