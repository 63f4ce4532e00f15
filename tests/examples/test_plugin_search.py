"""The example plug-in's method and judge, on scripted models. They are registered for these tests alone."""

import random
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from itertools import product

import numpy as np
import pytest
from command import ROOT
from playing import QUESTION, registering, run_method

from llava_cot.core.question import Question
from llava_cot.core.stages import LLAVA_COT, StageFormat, make_format
from llava_cot.core.trace import Candidate, Trace, Usage
from llava_cot.errors import RequestError
from llava_cot.models.base import Prompt, Sampling
from llava_cot.models.scripted import ScriptedModel
from llava_cot.search.judges import JUDGES, JudgeSetup
from llava_cot.search.judges.base import Judge, JudgeScore
from llava_cot.search.request import make_request, parse_spec

WORDS = ("red", "blue")


@pytest.fixture(autouse=True, scope="module")
def plugin() -> Iterator[None]:
    """Import the plug-in, and take its entries out of the registries afterwards."""
    with registering(), pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "examples/plugin/src")
        import_module("llava_cot_plugin.method")
        import_module("llava_cot_plugin.judge")
        yield
        for module in [name for name in sys.modules if name.partition(".")[0] == "llava_cot_plugin"]:
            del sys.modules[module]


def coin(fmt: StageFormat = LLAVA_COT) -> ScriptedModel:
    """Writes one of two words in each stage."""

    def script(prompt: Prompt, rng: random.Random) -> str:
        done = sum(tag in prompt.prefix for tag in fmt.closing_tags)
        return "\n".join(f"{s.open} {rng.choice(WORDS)} {s.close}" for s in fmt.stages[done:])

    return ScriptedModel(script)


class Table(Judge):
    """Scores an answer by its words."""

    name = "table"
    probability = True

    def __init__(self, worth: Callable[[tuple[str, ...]], float]) -> None:
        super().__init__()
        self.worth = worth

    async def score(
        self, question: Question, stage: str, context: str, candidate: Candidate, *, seed: int
    ) -> JudgeScore:
        return JudgeScore(self.worth(words(context + candidate.text)), usage=Usage(model_calls=1))


def words(text: str) -> tuple[str, ...]:
    return tuple(word for word in text.split() if word in WORDS)


def answers(trace: Trace) -> list[tuple[str, ...]]:
    """The words of all complete answers: of the candidates that were scored, from the first stage on."""
    found = []
    for score in trace.scores:
        path, at = "", score.candidate
        while at is not None:
            path = trace.candidates[at].text + " " + path
            at = trace.candidates[at].parent
        found.append(words(path))
    return found


async def search(n: int, worth: Callable[[tuple[str, ...]], float], seed: int = 0) -> Trace:
    return await run_method("ab-mcts", coin(), Table(worth), n=n, sampling=Sampling(seed=seed))


@pytest.mark.parametrize("seed", range(5))
async def test_the_best_path_is_found_and_is_that_of_brute_force(seed: int) -> None:
    rng = random.Random(seed)
    paths = list(product(WORDS, repeat=4))
    worth = dict(zip(paths, rng.sample([i / 16 for i in range(16)], 16), strict=True))
    trace = await search(80, worth.__getitem__, seed)
    assert words(trace.text) == max(paths, key=worth.__getitem__)


@pytest.mark.parametrize("seed", range(20))
async def test_the_first_of_the_best_answers_is_kept_however_few_there_are(seed: int) -> None:
    trace = await search(4, lambda path: path.count("red") / 4, seed)
    found = answers(trace)
    assert len(found) == 4 and {len(path) for path in found} == {4}
    first = max(range(4), key=lambda i: found[i].count("red"))
    assert trace.chosen[-1] == trace.scores[first].candidate
    assert words(trace.text) == found[first]


@pytest.mark.parametrize("seed", range(5))
async def test_one_sample_is_one_sample_of_each_stage(seed: int) -> None:
    trace = await search(1, lambda path: 0.5, seed)
    assert [candidate.stage for candidate in trace.candidates] == list(LLAVA_COT.names)
    assert trace.chosen == (0, 1, 2, 3)
    assert trace.usage.model_calls == 5  # four samples and one score


async def test_more_answers_branch_off_from_what_scored_well() -> None:
    share, width = 0.0, 0.0
    for seed in range(8):
        trace = await search(60, lambda path: 0.9 if path[0] == "red" else 0.1, seed)
        share += sum(path[0] == "red" for path in answers(trace)) / 60 / 8
        width += sum(candidate.parent is None for candidate in trace.candidates) / 8
    assert share > 0.75  # best-of-n: a half
    assert 1 < width < 30  # it goes deeper as well as wider


async def test_the_same_seed_gives_the_same_trace_and_leaves_numpys_generator_alone() -> None:
    np.random.seed(7)
    expected = np.random.random()
    np.random.seed(7)
    one, two, other = [await search(12, lambda path: path.count("red") / 4, seed) for seed in (3, 3, 4)]
    assert np.random.random() == expected
    assert one.candidates == two.candidates and one.scores == two.scores and one.chosen == two.chosen
    assert one.candidates != other.candidates


async def test_an_answer_that_has_ended_is_not_extended() -> None:
    fmt = make_format("answer")
    judge = Table(lambda path: 0.9 if path == ("red",) else 0.1)
    trace = await run_method("ab-mcts", coin(fmt), judge, n=30, fmt=fmt)
    assert {candidate.parent for candidate in trace.candidates} == {None}
    assert trace.answer == "red" and len(trace.candidates) <= 30
    silent = await run_method("ab-mcts", ScriptedModel(lambda prompt, rng: "no tags"), judge, n=3)
    assert silent.answer == "no tags" and len(silent.candidates) <= 3


def test_it_needs_a_judge_whose_scores_are_probabilities() -> None:
    assert make_request("ab-mcts").judge == "logits"
    assert make_request("ab-mcts", judge="consistency").n == 8
    spec = parse_spec("ab-mcts-4@consistency")
    assert (spec.n, spec.judge, spec.name) == (4, "consistency", "ab-mcts-4@consistency")
    for judge in ("self", "likelihood"):
        with pytest.raises(RequestError, match=r"choose one of .*consistency"):
            make_request("ab-mcts", judge=judge)


STAGES = "<SUMMARY> s </SUMMARY> <CAPTION> c </CAPTION>"


@pytest.mark.parametrize(
    ("context", "text", "expected"),
    [
        (STAGES, "<REASONING> r </REASONING>", 0.75),  # the most frequent
        (STAGES + "<REASONING> r </REASONING>", "<CONCLUSION> Two. </CONCLUSION>", 0.75),
        (STAGES + "<REASONING> r </REASONING>", "<CONCLUSION> 3 </CONCLUSION>", 0.25),
        ("", STAGES + "<CONCLUSION> 7 </CONCLUSION>", 0.0),
    ],
)
async def test_consistency_is_the_share_of_sampled_conclusions_that_agree(
    context: str, text: str, expected: float
) -> None:
    replies = iter(["two", "3", "Two", "two."])
    model = ScriptedModel(lambda prompt, rng: f"<CONCLUSION> {next(replies)} </CONCLUSION>")
    judge = JUDGES["consistency"].make(JudgeSetup(model))
    candidate = Candidate(id=0, parent=None, round=0, stage="any", text=text)
    grade = await judge.score(QUESTION, "any", context, candidate, seed=11)
    assert grade.value == expected
    assert grade.usage.model_calls == 4 and "two, 3, two, two" in grade.reply
    [call] = model.calls
    assert call.sampling.seed == 11 and "CONCLUSION" not in call.prompt.prefix
