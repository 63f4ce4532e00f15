"""The pool of samples of one question, from which all methods are estimated: whole answers, and a small tree.

Each prefix in the tree has `samples` candidates of its next stage. The first `branches` of them are
prefixes in turn, and each candidate is completed `completions` times to the end. All are samples of the
model and no judge has a part in them, so that one pool serves any judge, and a pool that is stored serves
judges that are named later.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean

from llava_cot.core.stages import StageFormat, next_stage
from llava_cot.core.trace import Candidate, Trace
from llava_cot.errors import DataError
from llava_cot.search.search import Search, text_of
from llava_cot.search.tree import Node, grow

ANSWER = "answer"  # the stage of whole answers


@dataclass(frozen=True)
class PoolSizes:
    """How much is sampled of each question. Raises DataError for sizes that allow no estimate."""

    samples: int = 8  # whole answers, and candidates of each prefix
    branches: int = 2  # of these, how many are prefixes of candidates of the next stage
    completions: int = 2  # of each candidate, to the end

    def __post_init__(self) -> None:
        if self.samples < 2:
            raise DataError(f"--samples is {self.samples}; a choice needs at least 2")
        if not 1 <= self.branches <= self.samples:
            raise DataError(f"--branches is {self.branches}; give 1 to {self.samples}, which is --samples")
        if self.completions < 2:
            raise DataError(f"--completions is {self.completions}; a candidate's value needs at least 2")


@dataclass(frozen=True)
class PoolCandidate:
    """A candidate of a prefix.

    Attributes:
        candidate: As the search recorded it.
        outcomes: The scores of its completions; of one that ends the answer, its own score alone.
        ends: Whether it ends the answer.
        node: The candidates that follow it, if it is a prefix in the tree.
    """

    candidate: Candidate
    outcomes: tuple[float, ...]
    ends: bool
    node: PoolNode | None = None

    @cached_property
    def value(self) -> float:
        """The estimated chance that an answer with it is right."""
        return fmean(self.outcomes)

    @cached_property
    def text(self) -> str:
        """What makes it the same as another candidate of its node."""
        return self.candidate.text.strip()


@dataclass(frozen=True)
class PoolNode:
    """The candidates of one prefix, in the order in which they were sampled.

    Attributes:
        stage: The stage that they were sampled for, or "answer".
        path: The candidates that make up the prefix.
        candidates: All alike distributed and independent of one another.
        branches: The first so many are prefixes in turn, except for those that end the answer.
    """

    stage: str
    path: tuple[Candidate, ...]
    candidates: tuple[PoolCandidate, ...]
    branches: int = 0

    @cached_property
    def groups(self) -> dict[str, list[int]]:
        """The numbers of the candidates by their text: those of one text are the same choice."""
        found: dict[str, list[int]] = defaultdict(list)
        for number, one in enumerate(self.candidates):
            found[one.text].append(number)
        return dict(found)

    def nodes(self) -> Iterator[PoolNode]:
        """This node and all below it, each before those below it."""
        yield self
        for one in self.candidates:
            if one.node is not None:
                yield from one.node.nodes()


async def sample_pool(search: Search, sizes: PoolSizes) -> tuple[int, ...]:
    """Sample the pool of the search's question. Returns the rounds in which prefixes got their candidates.

    All is recorded in the search: its trace is the pool, see `read_pool`. Its first round has the whole
    answers.
    """
    await search.sample(ANSWER, sizes.samples)
    prefixes, fresh, running = [Node()], list[Node](), list[Node]()
    rounds = []
    for at in range(len(search.fmt.stages)):
        due, prefixes = _due(prefixes, at)
        new: list[Node] = []
        if due:
            new = await grow(search, due, sizes.samples, at)
            rounds.append(search.round)
        starting, fresh = _due(fresh, at)
        going, running = _due(running, at)
        if starting:
            running += await grow(search, starting, sizes.completions, at)
        if going:
            running += await grow(search, going, 1, at)
        for number, node in enumerate(new):
            if node.after < len(search.fmt.stages):
                fresh.append(node)
                if number % sizes.samples < sizes.branches:
                    prefixes.append(node)
    return tuple(rounds)


def _due(nodes: Sequence[Node], at: int) -> tuple[list[Node], list[Node]]:
    """The nodes whose next stage is `at`, and the others, which skip it."""
    return [node for node in nodes if node.after == at], [node for node in nodes if node.after != at]


@dataclass(frozen=True)
class QuestionPool:
    """The pool of one question.

    Attributes:
        answers: The whole answers, as the candidates of an empty prefix; each ends the answer.
        tree: The candidates of the first stage, and all that follow them.
        ballots: What each whole answer votes for; empty where it has no answer.
    """

    answers: PoolNode
    tree: PoolNode
    ballots: tuple[str, ...]


def read_pool(
    trace: Trace,
    rounds: Sequence[int],
    fmt: StageFormat,
    sizes: PoolSizes,
    score: Callable[[str], float],
    ballot: Callable[[str], str],
) -> QuestionPool:
    """Read a pool from the trace of its search.

    Args:
        trace: The trace.
        rounds: The rounds in which prefixes got their candidates, as `sample_pool` returned them.
        fmt: The stage format.
        sizes: As for `sample_pool`.
        score: The score of a whole answer, from 0 to 1.
        ballot: What a whole answer votes for.
    """
    following: dict[int | None, list[Candidate]] = defaultdict(list)  # as a prefix, by what they continue
    completing: dict[int | None, list[Candidate]] = defaultdict(list)
    for one in trace.candidates:
        if one.round > 0:
            (following if one.round in rounds else completing)[one.parent].append(one)

    def after(candidate: Candidate) -> int:
        return next_stage(fmt.names.index(candidate.stage), candidate.text, candidate.finish, fmt)

    def outcomes(text: str, candidate: Candidate) -> Iterator[float]:
        """The scores of all answers that complete a candidate, whose text with what is before it is given."""
        if after(candidate) >= len(fmt.stages):
            yield score(text)
        for one in completing[candidate.id]:
            yield from outcomes(text + one.text, one)

    def node(path: tuple[Candidate, ...], last: int | None) -> PoolNode:
        before, found = text_of(path), []
        for number, one in enumerate(following[last]):
            ends = after(one) >= len(fmt.stages)
            below = node((*path, one), one.id) if number < sizes.branches and not ends else None
            found.append(PoolCandidate(one, tuple(outcomes(before + one.text, one)), ends, below))
        return PoolNode(following[last][0].stage, path, tuple(found), sizes.branches)

    whole = [one for one in trace.candidates if one.round == 0]
    answers = tuple(PoolCandidate(one, (score(one.text),), True) for one in whole)
    return QuestionPool(
        PoolNode(ANSWER, (), answers), node((), None), tuple(ballot(one.text) for one in whole)
    )
