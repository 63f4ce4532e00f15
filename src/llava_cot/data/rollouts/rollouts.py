"""One question put to a model: ways to go on with an answer, and what each of them is worth.

Owns the calls and their cost. What a continuation is worth is estimated by completing it several times: the
share of completions that conclude with the standard answer. Knows no judge, no pair and no file.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from llava_cot.core.answer_matching import agrees
from llava_cot.core.prompting import question_text
from llava_cot.core.question import Question
from llava_cot.core.stages import parse
from llava_cot.core.trace import Usage
from llava_cot.models.base import Continuation, Model, Prompt, Sampling
from llava_cot.search.judges.base import cost


@dataclass(frozen=True)
class Kept:
    """The answer so far; `tokens` are its ids, None where they are not known."""

    text: str = ""
    tokens: tuple[int, ...] | None = ()

    def plus(self, more: Continuation) -> Kept:
        unknown = self.tokens is None or (more.text and not more.tokens)
        return Kept(self.text + more.text, None if unknown else (*(self.tokens or ()), *more.tokens))


@dataclass(frozen=True)
class Worth:
    """Of `total` answers `right` conclude with the standard answer, `wrong` with another one or not at all.

    Of the rest it cannot be told. `exact` is true of one answer that is complete as it stands.
    """

    right: int
    wrong: int
    total: int
    exact: bool = False

    @property
    def share(self) -> float:
        return self.right / self.total


class Asked:
    """A question with a reference, asked of a model; `usage` grows with the calls."""

    def __init__(self, question: Question, model: Model, sampling: Sampling) -> None:
        self.question = question
        self.usage = Usage()
        self._model = model
        self._sampling = sampling

    async def sample(self, kept: Kept, n: int, stop: tuple[str, ...], seed: int) -> list[Continuation]:
        """`n` ways to go on with what is kept. Raises ModelError."""
        settings = replace(self._sampling, stop=stop, seed=seed)
        images = self.question.images
        prompt = Prompt.of(question_text(self.question), images, kept.text, kept.tokens)
        found = await self._model.sample(prompt, n, settings)
        for continuation in found:
            self.usage += cost(continuation)
        return found

    async def worth(self, kept: Kept, rollouts: int, seed: int) -> Worth:
        """What comes of what is kept, in so many completions. Raises ModelError."""
        ends = await self.sample(kept, rollouts, (), seed)
        return self._worth([kept.text + end.text for end in ends])

    def exact(self, text: str) -> Worth:
        """What a complete answer is worth."""
        return replace(self._worth([text]), exact=True)

    def _worth(self, texts: list[str]) -> Worth:
        right = [self._is_right(text) for text in texts]
        return Worth(right.count(True), right.count(False), len(right))

    def _is_right(self, text: str) -> bool | None:
        said = parse(text).answer
        return False if said is None else agrees(said, self.question.reference or "", self.question.options)
