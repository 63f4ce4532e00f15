import base64
import io

import pytest
from PIL import Image
from playing import PICTURE, WHOLE, Referee, continuation, new_search, remainder, tagged

from llava_cot import ask
from llava_cot.core.question import Question, load_image
from llava_cot.core.stages import LLAVA_COT
from llava_cot.core.trace import Candidate, Trace, Usage
from llava_cot.models.base import Sampling
from llava_cot.models.scripted import ScriptedModel
from llava_cot.search.judges.base import Judge, Preference
from llava_cot.search.request import make_request
from llava_cot.search.search import (
    Began,
    CandidateAdded,
    CandidateChosen,
    Event,
    Finished,
    Search,
    StageStarted,
    TextDelta,
    VerdictGiven,
    tokens_of,
)


def test_the_path_is_what_was_kept() -> None:
    search = new_search(stage="summary")
    first, other = search.add(continuation("a", tokens=(1, 2))), search.add(continuation("b", tokens=(9,)))
    assert (search.text, tokens_of(search.path), first.parent) == ("", (), None)
    search.keep(other)
    search.start("caption")
    third = search.add(continuation("c", tokens=(3,)))
    search.keep(third)
    assert (third.id, third.parent, third.round, third.stage) == (2, 1, 1, "caption")
    assert (search.text, tokens_of(search.path)) == ("bc", (9, 3))
    trace = search.finish()
    assert (trace.chosen, trace.text) == ((1, 2), "bc")


def test_ids_are_given_up_where_one_part_has_none() -> None:
    search = new_search()
    search.keep(search.add(continuation("a", tokens=(1,))))
    search.keep(search.add(continuation("", tokens=())))
    assert tokens_of(search.path) == (1,)
    search.keep(search.add(continuation("b", tokens=())))
    assert tokens_of(search.path) is None


def test_everything_is_counted_kept_or_not() -> None:
    search = new_search()
    for _ in range(3):
        search.add(continuation("a"))
    search.spend(Usage(prompt_tokens=1, completion_tokens=2, model_calls=5))
    usage = search.finish().usage
    assert (usage.prompt_tokens, usage.completion_tokens, usage.model_calls) == (31, 11, 8)
    assert 0 < usage.seconds < 60


@pytest.mark.parametrize("method", ["single", "majority", "best-of-n", "sentence-beam", "stage-beam"])
async def test_the_events_rebuild_the_trace(method: str) -> None:
    events: list[Event] = []
    judged = method not in ("single", "majority")
    trace = await ask(
        ScriptedModel(lambda prompt, rng: remainder(WHOLE)(prompt, rng).replace("count", str(rng.random()))),
        PICTURE,
        "q",
        method=method,
        n=1 if method == "single" else 3,
        judge=Referee(len) if judged else None,
        on_event=events.append,
    )
    assert tuple(e.candidate for e in events if isinstance(e, CandidateAdded)) == trace.candidates
    assert tuple(e.verdict for e in events if isinstance(e, VerdictGiven)) == trace.verdicts
    assert tuple(e.candidate.id for e in events if isinstance(e, CandidateChosen)) == trace.chosen
    assert "".join(e.candidate.text for e in events if isinstance(e, CandidateChosen)) == trace.text
    rounds = [e for e in events if isinstance(e, StageStarted)]
    assert [e.round for e in rounds] == list(range(len(rounds)))
    assert {(e.round, e.stage) for e in rounds} == {(c.round, c.stage) for c in trace.candidates}
    assert [e for e in events if isinstance(e, Finished)] == events[-1:] == [Finished(trace)]
    assert any(isinstance(e, TextDelta) for e in events) == (method == "single")


async def test_judging_costs_are_those_of_the_judge_s_own_calls() -> None:
    """The usage of a whole search is the sum over the calls that the model has seen."""
    model = ScriptedModel(
        lambda prompt, rng: (
            "Verdict: correct. I choose response 1."
            if "Reply" in prompt.messages[0].text
            else tagged("reasoning", str(rng.random()))
        )
    )
    trace = await ask(model, PICTURE, "q", n=4, method="stage-beam")
    assert trace.usage.model_calls == sum(call.n for call in model.calls)
    assert trace.usage.prompt_tokens == sum(call.n * model.count_tokens(call.prompt) for call in model.calls)
    assert trace.usage.completion_tokens > sum(c.completion_tokens for c in trace.candidates)


async def test_a_trace_of_a_search_survives_the_disk(tmp_path) -> None:  # type: ignore[no-untyped-def]
    trace = await ask(ScriptedModel(remainder(WHOLE)), PICTURE, "q", judge=Referee(len))
    trace.save(tmp_path / "trace.json")
    assert Trace.load(tmp_path / "trace.json") == trace


def test_the_question_is_recorded_with_a_small_copy_of_its_picture() -> None:
    wide = load_image(Image.new("RGB", (2000, 500), (0, 0, 255)))
    asked = Question("q", (wide, PICTURE), id="7", options=("x", "y"), reference="x")

    class Silent(Judge):
        name = "silent"

        async def prefer(
            self, question: Question, stage: str, context: str, a: Candidate, b: Candidate, *, seed: int
        ) -> Preference:
            return Preference(None)

    sampling = Sampling(temperature=0.1, top_p=0.2, max_tokens=3, seed=4)
    request = make_request("best-of-n", n=5, judge=Silent(), sampling=sampling)
    search = Search(request, ScriptedModel({}), asked, Silent())
    search.start("answer")
    search.keep(search.add(continuation(WHOLE)))
    trace = search.finish()
    assert (trace.method, trace.model, trace.judge, trace.n) == ("best-of-n", "scripted", "silent", 5)
    assert (trace.temperature, trace.top_p, trace.max_tokens, trace.seed) == (0.1, 0.2, 3, 4)
    assert [tags.close for tags in trace.format] == list(LLAVA_COT.closing_tags)
    question = trace.question
    assert (question.id, question.text, question.options, question.reference) == ("7", "q", ("x", "y"), "x")
    large, small = question.images
    assert (large.width, large.height, large.sha256) == (2000, 500, wide.sha256)
    assert large.data is not None and small.data is not None
    copy = Image.open(io.BytesIO(base64.b64decode(large.data.removeprefix("data:image/jpeg;base64,"))))
    assert copy.size == (512, 128)
    assert (small.width, small.height) == (8, 6)
    assert wide.pil.size == (2000, 500)


async def test_another_model_reads_the_text_of_a_path_and_not_its_token_ids() -> None:
    model, other = ScriptedModel(remainder(WHOLE)), ScriptedModel(remainder(WHOLE))
    search = Search(make_request("single"), model, Question("q"))
    search.start("answer")
    search.keep(search.add(continuation(WHOLE[:20], tokens=(1, 2))))
    await search.draw(search.prompt(search.path), 1, search.sampling(max_tokens=3), model=other)
    [call] = other.calls
    assert (call.prompt.prefix, call.prompt.prefix_tokens) == (WHOLE[:20], None)
    assert search.prompt(search.path).prefix_tokens == (1, 2)


async def test_a_method_that_refuses_at_once_sends_no_event() -> None:
    events: list[Event] = []
    search = Search(make_request("single"), ScriptedModel({}), Question("q"), on_event=events.append)
    assert events == []
    search.start("answer")
    search.finish()
    assert [type(event) for event in events] == [Began, StageStarted, Finished]
    assert events[0] == Began(search)
