"""single, majority and best-of-n: methods that sample whole answers."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import pytest
from playing import PICTURE, WHOLE, Referee, remainder, run_method, tagged

from llava_cot.core.question import Question
from llava_cot.core.stages import LLAVA_COT, make_format
from llava_cot.core.trace import Trace
from llava_cot.errors import ModelError
from llava_cot.models.base import Prompt, Sampling
from llava_cot.models.scripted import ScriptedModel
from llava_cot.search.methods.majority import ballot
from llava_cot.search.search import Event, TextDelta

SAMPLING = Sampling(temperature=0.6, top_p=0.9, max_tokens=99, seed=5)


async def run(
    method: str,
    model: ScriptedModel,
    n: int,
    judge: Referee | None = None,
    seed: int = 5,
    on_event: Callable[[Event], None] | None = None,
) -> Trace:
    sampling = replace(SAMPLING, seed=seed)
    return await run_method(method, model, judge, n=n, sampling=sampling, on_event=on_event)


def writes(*answers: str) -> ScriptedModel:
    """A model whose samples are these, in turn."""
    left = list(answers)
    return ScriptedModel(lambda prompt, rng: left.pop(0))


def concludes(*answers: str) -> ScriptedModel:
    return writes(
        *(f"{tagged('caption', f'look {k}')} {tagged('conclusion', a)}" for k, a in enumerate(answers))
    )


@pytest.mark.parametrize(("method", "n"), [("single", 1), ("majority", 3), ("best-of-n", 3)])
async def test_one_call_samples_n_whole_answers_of_the_question_as_it_is(method: str, n: int) -> None:
    model = ScriptedModel(remainder(WHOLE))
    trace = await run(method, model, n, None if method != "best-of-n" else Referee(len))
    [call] = model.calls
    assert call.prompt == Prompt.of("How many are left?", (PICTURE,), "", ())
    assert call.n == len(trace.candidates) == n
    assert (call.sampling.stop, call.sampling.max_tokens, call.sampling.temperature) == ((), 99, 0.6)
    assert (trace.text, trace.answer, trace.method, trace.n) == (WHOLE, "2", method, n)
    assert {c.stage for c in trace.candidates} == {"answer"}
    assert all(c.round == 0 and c.parent is None for c in trace.candidates)
    assert trace.usage.model_calls == n


async def test_single_streams_what_it_writes() -> None:
    events: list[Event] = []
    trace = await run("single", ScriptedModel(remainder(WHOLE)), 1, on_event=events.append)
    deltas = [event.text for event in events if isinstance(event, TextDelta)]
    assert len(deltas) > 5
    assert "".join(deltas) == trace.text == WHOLE
    assert (trace.judge, trace.verdicts) == (None, ())


@pytest.mark.parametrize(
    ("answers", "elected"),
    [
        (("3", "2", "2"), 1),
        (("3.", "2", " 3 "), 0),
        (("It is\nRED", "it is red", "blue"), 0),
        (("2", "", "", ""), 0),
        (("5",), 0),
    ],
)
async def test_majority_keeps_the_first_with_the_most_frequent_answer(
    answers: tuple[str, ...], elected: int
) -> None:
    for seed in range(5):
        trace = await run("majority", concludes(*answers), len(answers), seed=seed)
        assert trace.chosen == (elected,)
        assert (trace.judge, trace.verdicts) == (None, ())


async def test_a_sample_without_an_answer_does_not_vote() -> None:
    silent = tagged("caption", "cut")
    for seed in range(5):
        trace = await run("majority", writes(silent, silent, tagged("conclusion", "1")), 3, seed=seed)
        assert trace.chosen == (2,)


async def test_ties_and_empty_votes_are_settled_by_the_seed() -> None:
    chosen = [
        (await run("majority", concludes("1", "2", "2", "1", "3"), 5, seed=s)).chosen for s in range(40)
    ]
    assert set(chosen) == {(0,), (1,)}
    assert chosen == [
        (await run("majority", concludes("1", "2", "2", "1", "3"), 5, seed=s)).chosen for s in range(40)
    ]
    empty = Counter([(await run("majority", writes("", "", ""), 3, seed=s)).chosen for s in range(40)])
    assert set(empty) == {(0,), (1,), (2,)}


@pytest.mark.parametrize(
    ("answers", "options", "same"),
    [
        (("(B)", "B", "**B**", "b.", "B。", "The answer is B.", "green", "B. green"), ("red", "green"), True),
        (("(B)", "B", "**B**", "b"), (), True),
        (("3", "3.0", "three", "3 ", "**3**", "３"), (), True),
        (("12.5 cm", "12.5cm", "12 1/2 cm"), (), True),
        ((" Two\n cubes. ", "two cubes", "The two cubes"), (), True),
        (("3", "-3", "3 cm", "13", "3:2", "three cubes"), (), False),
        (("A", "B", "red or green", "no idea"), ("red", "green"), False),
        (("male", "female"), ("male", "female"), False),
    ],
)
def test_a_ballot_is_what_the_answer_means(
    answers: tuple[str, ...], options: tuple[str, ...], same: bool
) -> None:
    question = Question("?", options=options)
    ballots = {ballot(tagged("conclusion", answer), question, LLAVA_COT) for answer in answers}
    assert len(ballots) == (1 if same else len(answers))


def test_a_ballot_is_of_the_final_stage() -> None:
    question = Question("?")
    assert ballot("Just 3.14", question, LLAVA_COT) == "just 3.14"
    assert ballot(tagged("summary", "x"), question, LLAVA_COT) == ""
    assert ballot("<think>a</think><answer>B</answer>", question, make_format("think,answer")) == "b"


async def test_votes_of_one_meaning_are_added_up() -> None:
    for method in ("majority", "adaptive-majority", "confidence-majority"):
        trace = await run(method, concludes("4", "3", "three", "3.0", "4"), 5)
        assert trace.answer == "3"


async def test_best_of_n_keeps_what_the_judge_prefers() -> None:
    answers = [tagged("conclusion", str(k)) for k in (3, 8, 1, 5)]
    judge = Referee(lambda text: float(text.split()[1]))
    trace = await run("best-of-n", writes(*answers), 4, judge)
    assert (trace.answer, trace.chosen, trace.judge) == ("8", (1,), "referee")
    assert len(trace.verdicts) == len(judge.duels) == 3
    assert {(stage, context) for stage, context, _, _ in judge.duels} == {("answer", "")}


async def test_best_of_one_asks_no_judge() -> None:
    judge = Referee(len)
    trace = await run("best-of-n", writes("a"), 1, judge)
    assert (trace.answer, judge.duels) == ("a", [])


async def test_a_model_that_gives_too_few_samples_is_refused() -> None:
    class Lazy(ScriptedModel):
        async def sample(self, prompt, n, sampling, on_text=None):  # type: ignore[no-untyped-def]
            return await super().sample(prompt, n - 1, sampling, on_text)

    with pytest.raises(ModelError, match="returned 1 samples instead of 2"):
        await run("best-of-n", Lazy(remainder("a")), 2, Referee(len), seed=0)
