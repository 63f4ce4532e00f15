import pytest
from playing import QUESTION, WHOLE, tagged

from llava_cot.core.question import Question
from llava_cot.core.stages import LLAVA_COT, StageFormat, make_format
from llava_cot.core.trace import Candidate
from llava_cot.search.judges import JudgeSetup
from llava_cot.search.judges.rules import RulesJudge

CHOICE = Question("Which side?", options=("left", "right"))


def made(text: str) -> Candidate:
    return Candidate(id=0, parent=None, round=0, stage="answer", text=text)


async def scored(
    text: str, stage: str, question: Question = QUESTION, context: str = "", fmt: StageFormat = LLAVA_COT
) -> tuple[float, str]:
    found = await RulesJudge(JudgeSetup(fmt=fmt)).score(question, stage, context, made(text), seed=0)
    assert found.usage.model_calls == 0
    return found.value, found.reply


@pytest.mark.parametrize(
    ("text", "stage", "question", "value", "reply"),
    [
        (WHOLE, "answer", QUESTION, 1, "Kept: format."),
        (tagged("summary", "x"), "summary", QUESTION, 1, "Kept: format."),
        (tagged("summary", "x"), "answer", QUESTION, 0, "Broken: format (there is no conclusion)."),
        (tagged("reasoning", "3 + 4 = 7."), "reasoning", QUESTION, 1, "Kept: arithmetic, format."),
        (
            tagged("reasoning", "3 + 4 = 8."),
            "reasoning",
            QUESTION,
            0.5,
            "Kept: format. Broken: arithmetic (3 + 4 = 8).",
        ),
        (tagged("conclusion", "B"), "conclusion", CHOICE, 1, "Kept: options, format."),
        (tagged("conclusion", "Right."), "answer", CHOICE, 1, "Kept: options, format."),
        (tagged("conclusion", "The answer is B."), "answer", CHOICE, 1, "Kept: options, format."),
        (
            tagged("conclusion", "above"),
            "answer",
            CHOICE,
            0.5,
            "Kept: format. Broken: options (the conclusion is none of them).",
        ),
        (tagged("conclusion", "C"), "answer", CHOICE, 0.5, None),
        ("Well: 1 + 1 = 3 " + tagged("conclusion", "up"), "answer", CHOICE, 0, None),
        ("<REASONING> First, 1 + 1 = 2.", "sentence", QUESTION, 1, None),
        ("<REASONING> First, 1 + 1 = 2.", "reasoning", QUESTION, 0.5, None),
    ],
)
async def test_the_share_of_rules_that_are_kept(
    text: str, stage: str, question: Question, value: float, reply: str | None
) -> None:
    found = await scored(text, stage, question)
    assert found[0] == value
    assert reply in (None, found[1])


async def test_what_came_before_counts() -> None:
    wrong = tagged("reasoning", "1 + 1 = 3.")
    assert (await scored(tagged("conclusion", "3"), "conclusion", context=wrong))[0] == 0.5
    again = await scored(wrong.replace("3.", "2."), "reasoning", context=wrong)
    assert again == (0, "Broken: arithmetic (1 + 1 = 3); format (the reasoning is there again).")


async def test_a_first_stage_named_answer_need_not_conclude() -> None:
    fmt = make_format("answer,why")
    assert (await scored("<answer>2</answer>", "answer", fmt=fmt))[0] == 1


async def test_it_prefers_what_keeps_more() -> None:
    judge = RulesJudge()
    good, bad = made(tagged("reasoning", "1 + 1 = 2")), made(tagged("reasoning", "1 + 1 = 3"))
    for a, b, choice in ((good, bad, 1), (bad, good, 2), (good, good, None)):
        said = await judge.prefer(QUESTION, "reasoning", "", a, b, seed=0)
        assert said.choice == choice
        assert said.scores == tuple(1.0 if side is good else 0.5 for side in (a, b))
    assert said.reply == "Response 1: Kept: arithmetic, format.\nResponse 2: Kept: arithmetic, format."
