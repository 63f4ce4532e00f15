"""The order of the steps of scoring, with a scorer that plays a script."""

from __future__ import annotations

import pytest

from llava_cot.errors import ModelFailure
from llava_cot.evaluation.scorer import score_answer, without_thinking
from llava_cot.evaluation.scoring.mmvet import MMVetRule
from llava_cot.evaluation.types import AnswerScore, BenchmarkItem
from llava_cot.models.base import Prompt

ITEM = BenchmarkItem("1", "What is on the sign?", answer="stop", extra={"capability": "ocr"})


class Scripted:
    """Replies in turn; a reply that is an error is raised."""

    def __init__(self, *replies: str | Exception) -> None:
        self.replies = list(replies)
        self.asked: list[tuple[str, int]] = []

    async def __call__(self, prompt: Prompt, attempt: int) -> str:
        self.asked.append((prompt.messages[0].text, attempt))
        reply = self.replies.pop(0)
        if isinstance(reply, Exception):
            raise reply
        return reply


async def test_without_a_conclusion_no_scorer_is_called() -> None:
    assert await score_answer(MMVetRule(), ITEM, None, Scripted()) == AnswerScore(0.0, "absent")


async def test_words_that_settle_it_cost_nothing() -> None:
    assert await score_answer(MMVetRule(), ITEM, "Stop", Scripted()) == AnswerScore(1.0, "match", "Stop")


async def test_a_scorer_is_called_again_after_an_unreadable_reply() -> None:
    scorer = Scripted("fine, I think", "1.5", "0.5")
    found = await score_answer(MMVetRule(), ITEM, "A red sign", scorer)
    assert found == AnswerScore(0.5, "scorer", reason="0.5")
    assert [attempt for _, attempt in scorer.asked] == [0, 1, 2]
    assert len({text for text, _ in scorer.asked}) == 1


async def test_the_thoughts_of_a_scorer_are_not_its_reply() -> None:
    scorer = Scripted("<think>\n1.0\nNo, a part is missing.\n</think>\n\n0.5")
    found = await score_answer(MMVetRule(), ITEM, "A red sign", scorer)
    assert found == AnswerScore(0.5, "scorer", reason="0.5")
    assert len(scorer.asked) == 1


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        ("[THINK]0.2[/THINK]0.5", "0.5"),
        ("<thinking>\n0.2</thinking>0.5", "0.5"),
        ("no, 0.2</think>0.5", "0.5"),
        ("<think>\n0.2, or", ""),
        ("0.5", "0.5"),
    ],
)
def test_thoughts_are_cut_off(reply: str, said: str) -> None:
    assert without_thinking(reply) == said


async def test_three_replies_that_cannot_be_read_leave_it_unsettled() -> None:
    scorer = Scripted("a", "b", "c", "1.0")
    found = await score_answer(MMVetRule(), ITEM, "A red sign", scorer)
    assert (found.value, found.by) == (0.0, "unsettled")
    assert "the last: c" in found.reason
    assert scorer.replies == ["1.0"]


async def test_without_a_scorer_it_is_unsettled_and_says_why() -> None:
    found = await score_answer(MMVetRule(), ITEM, "A red sign", None)
    assert (found.value, found.by) == (0.0, "unsettled")
    assert "there is no scorer" in found.reason


async def test_a_scorer_that_fails_is_no_score() -> None:
    with pytest.raises(ModelFailure):
        await score_answer(MMVetRule(), ITEM, "A red sign", Scripted(ModelFailure("the server gave up")))
