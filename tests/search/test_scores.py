from playing import new_search

from llava_cot.core.question import Question
from llava_cot.core.trace import Candidate, Usage
from llava_cot.models.base import Continuation
from llava_cot.search.judges.base import Judge, JudgeScore


class Length(Judge):
    """Scores a candidate by how long it is, after how much text."""

    name = "length"

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[str, str]] = []

    async def score(
        self, question: Question, stage: str, context: str, candidate: Candidate, *, seed: int
    ) -> JudgeScore:
        self.asked.append((context, candidate.text))
        return JudgeScore(len(candidate.text), reply=f"seed {seed}", usage=Usage(model_calls=1))


def said(text: str) -> Continuation:
    return Continuation(text, (), None, "stop", 1, 1)


async def test_each_candidate_is_graded_after_what_it_goes_on_from_and_each_path_once() -> None:
    judge = Length()
    search = new_search(judge=judge, stage="caption")
    first, second = search.add(said("a")), search.add(said("bb"))
    search.start("reasoning")
    leaves = [search.add(said(text), parent) for parent in (first, second) for text in ("x", "yyy", "x")]
    assert await search.scores(leaves) == [1, 3, 1, 1, 3, 1]
    assert sorted(judge.asked) == [("a", "x"), ("a", "yyy"), ("bb", "x"), ("bb", "yyy")]
    search.follow(leaves[4])
    trace = search.finish()
    assert [(score.candidate, score.value) for score in trace.scores] == [
        (leaf.id, value) for leaf, value in zip(leaves, [1, 3, 1, 1, 3, 1], strict=True)
    ]
    assert trace.scores[0].reply == trace.scores[2].reply != trace.scores[1].reply
    assert trace.text == "bbyyy" and trace.chosen == (second.id, leaves[4].id)
    assert trace.usage.model_calls == len(trace.candidates) + 4
