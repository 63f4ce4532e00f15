import random
from collections.abc import Callable

import pytest
from playing import PICTURE, QUESTION, WHOLE, WORDS, Referee, remainder, run_method, tagged

from llava_cot.core.stages import LLAVA_COT, StageFormat, make_format
from llava_cot.core.trace import Trace
from llava_cot.models.base import Prompt, Sampling
from llava_cot.models.scripted import ScriptedModel
from llava_cot.search.search import CandidateChosen, Event, TextDelta

STAGES = LLAVA_COT.names
TAGS = LLAVA_COT.closing_tags


async def search(
    model: ScriptedModel,
    judge: Referee,
    n: int = 2,
    max_tokens: int = 99,
    seed: int = 5,
    fmt: StageFormat = LLAVA_COT,
    on_event: Callable[[Event], None] | None = None,
) -> Trace:
    sampling = Sampling(max_tokens=max_tokens, seed=seed)
    return await run_method("stage-beam", model, judge, n=n, sampling=sampling, fmt=fmt, on_event=on_event)


def numbered(prompt: Prompt, rng: random.Random) -> str:
    """Goes on with whatever stages are missing, each with a random number in it."""
    done = sum(tag in prompt.prefix for tag in TAGS)
    space = "\n\n" if done else ""
    return space + "\n\n".join(tagged(stage, f"{stage} {rng.randrange(10**9)}") for stage in STAGES[done:])


def number(text: str) -> float:
    return float(text.split()[2])


async def test_the_paper_s_search() -> None:
    model, judge = ScriptedModel(numbered), Referee(number)
    trace = await search(model, judge, n=4)
    assert [call.n for call in model.calls] == [4, 4, 4, 4]
    assert len(trace.candidates) == 16
    assert len(trace.verdicts) == len(judge.duels) == 12
    assert [call.sampling.stop for call in model.calls] == [TAGS, TAGS[1:], TAGS[2:], TAGS[3:]]
    assert {call.sampling.max_tokens for call in model.calls} == {99}
    assert len({call.sampling.seed for call in model.calls}) == 4
    assert trace.usage.model_calls == 16 + 12

    prefix, tokens = "", ()
    for k, stage in enumerate(STAGES):
        best = max((c for c in trace.candidates if c.round == k), key=lambda c: number(c.text))
        assert best.id == trace.chosen[k]
        assert model.calls[k].prompt == Prompt.of(QUESTION.text, (PICTURE,), prefix, tokens)
        assert all(c.parent == (trace.chosen[k - 1] if k else None) for c in trace.candidates if c.round == k)
        assert all(c.stage == stage for c in trace.candidates if c.round == k)
        assert {context for name, context, _, _ in judge.duels if name == stage} == {prefix}
        prefix, tokens = prefix + best.text, tokens + best.tokens
    assert trace.text == prefix
    assert trace.stages["reasoning"] == trace.candidates[trace.chosen[2]].text.split("> ")[1].split(" <")[0]
    assert trace.answer == trace.stages["conclusion"]


async def test_one_candidate_a_stage_is_one_pass_in_four_steps() -> None:
    judge = Referee(len)
    trace = await search(ScriptedModel(remainder(WHOLE)), judge, n=1)
    assert (trace.text, trace.stages, trace.verdicts) == (WHOLE, WORDS, ())
    assert [c.finish for c in trace.candidates] == ["stop"] * 4


async def test_the_same_seed_gives_the_same_trace_and_another_does_not() -> None:
    def quiet(trace: Trace) -> Trace:
        return trace.model_copy(update={"usage": None})

    one, two, other = [await search(ScriptedModel(numbered), Referee(number), seed=s) for s in (1, 1, 2)]
    assert quiet(one) == quiet(two)
    assert one.text != other.text


async def test_the_winner_is_sent_when_it_is_kept_and_nothing_streams() -> None:
    events: list[Event] = []
    trace = await search(ScriptedModel(numbered), Referee(number), on_event=events.append)
    assert [e.candidate.id for e in events if isinstance(e, CandidateChosen)] == list(trace.chosen)
    assert not any(isinstance(e, TextDelta) for e in events)


async def test_a_model_without_ids_is_continued_from_the_text() -> None:
    model = ScriptedModel(numbered, ids=False)
    trace = await search(model, Referee(number))
    assert [call.prompt.prefix_tokens for call in model.calls] == [(), None, None, None]
    assert model.calls[-1].prompt.prefix == "".join(trace.candidates[i].text for i in trace.chosen[:3])


def first_stage(*texts: str, then: str = "") -> ScriptedModel:
    """Writes these as candidates of the first stage, and one text from then on."""
    left = list(texts)
    return ScriptedModel(lambda prompt, rng: then if prompt.prefix else left.pop(0))


def prefers(wanted: str) -> Referee:
    return Referee(lambda text: wanted in text)


NORMAL = tagged("summary", "normal") + " more"


@pytest.mark.parametrize("ended", ["", "No tags at all.", "<SUMMARY> ended early", "<summary> x </summary>"])
async def test_a_candidate_that_the_model_ended_is_a_whole_answer(ended: str) -> None:
    model = first_stage(ended, NORMAL)
    trace = await search(model, Referee(lambda text: "normal" not in text))
    assert (trace.text, trace.chosen, len(model.calls)) == (ended, (0,), 1)
    assert trace.answer == (ended if ended.startswith("No") else None)


async def test_an_ended_candidate_that_loses_changes_nothing() -> None:
    rest = "\n\n".join(tagged(stage, WORDS[stage]) for stage in STAGES[1:])
    model = first_stage("<SUMMARY> ended early", NORMAL, then=rest)
    trace = await search(model, prefers("normal"))
    assert trace.stages["summary"] == "normal"
    assert len(model.calls) == 4


async def test_ending_after_a_stage_ends_the_search() -> None:
    model = ScriptedModel(remainder(tagged("summary", "s") + tagged("caption", "c")))
    trace = await search(model, Referee(len))
    assert (len(model.calls), trace.chosen[-1]) == (3, 4)
    assert [v.decided_by for v in trace.verdicts] == ["same"] * 3
    assert (trace.stages["caption"], trace.answer) == ("c", None)


@pytest.mark.parametrize("cut", ["<SUMMARY> a b c", "<SUMMARY> a b c </SUMM", "<SUMMARY> a b c </summary"])
async def test_a_candidate_out_of_tokens_has_its_stage_closed(cut: str) -> None:
    rest = tagged("caption", "c")
    model = ScriptedModel(lambda prompt, rng: rest if prompt.prefix else cut + " and on and on")
    trace = await search(model, Referee(len), max_tokens=len(cut.split()))
    assert trace.candidates[0].text == "<SUMMARY> a b c</SUMMARY>"
    assert (trace.candidates[0].finish, trace.candidates[0].tokens) == ("length", ())
    assert trace.candidates[0].completion_tokens == len(cut.split())
    assert (trace.stages["summary"], trace.stages["caption"]) == ("a b c", "c")
    assert model.calls[1].prompt.prefix_tokens is None
    assert model.calls[1].sampling.stop == TAGS[1:]


async def test_a_skipped_stage_that_ran_out_of_tokens_is_closed_and_search_goes_on_after_it() -> None:
    model = ScriptedModel(
        lambda prompt, rng: tagged("conclusion", "2") if prompt.prefix else "<REASONING> so so so so"
    )
    trace = await search(model, Referee(len), max_tokens=4)
    assert trace.stages == {"summary": None, "caption": None, "reasoning": "so so so", "conclusion": "2"}
    assert [call.sampling.stop for call in model.calls] == [TAGS, TAGS[3:]]


async def test_out_of_tokens_before_any_stage_ends_the_search() -> None:
    model = ScriptedModel(lambda prompt, rng: "on and on and on and on")
    trace = await search(model, Referee(len), max_tokens=4)
    assert (trace.text, trace.answer, len(model.calls)) == ("on and on and", "on and on and", 1)


async def test_the_last_stage_out_of_tokens_is_an_answer() -> None:
    model = ScriptedModel(remainder("<CONCLUSION> a b c d"))
    trace = await search(model, Referee(len), max_tokens=3)
    assert (trace.answer, len(model.calls)) == ("a b", 1)


async def test_after_a_skipped_stage_the_search_goes_on_with_the_next() -> None:
    model = first_stage(NORMAL, tagged("reasoning", "skipped") + " x", then=tagged("conclusion", "2"))
    trace = await search(model, prefers("skipped"))
    assert trace.stages == {"summary": None, "caption": None, "reasoning": "skipped", "conclusion": "2"}
    assert [call.sampling.stop for call in model.calls] == [TAGS, TAGS[3:]]
    assert trace.candidates[2].stage == "conclusion"


async def test_wrong_case_is_seen_at_the_next_tag() -> None:
    whole = "<summary> s </summary> <CAPTION> c </CAPTION>" + tagged("conclusion", "2")
    model = ScriptedModel(remainder(whole))
    trace = await search(model, Referee(len))
    assert trace.text == whole
    assert trace.stages["summary"] == "s"
    assert [call.sampling.stop for call in model.calls] == [TAGS, TAGS[2:]]


@pytest.mark.parametrize(
    "noise", ["</SUMMARY>", "<SUMMARY>", "", " ", "<CAPTION></SUMMARY>", tagged("conclusion", "")]
)
async def test_every_search_ends(noise: str) -> None:
    model = ScriptedModel(lambda prompt, rng: noise)
    for max_tokens in (1, 9):
        model.calls.clear()
        trace = await search(model, Referee(len), max_tokens=max_tokens)
        assert len(model.calls) <= 4
        assert trace.text == "".join(trace.candidates[i].text for i in trace.chosen)


async def test_a_custom_format_is_searched_in_the_same_way() -> None:
    fmt = make_format("think,check,answer")
    whole = "<think>t</think>\n<check>c</check>\n<answer>7</answer>"
    model, judge = ScriptedModel(remainder(whole)), Referee(len)
    trace = await search(model, judge, n=3, fmt=fmt)
    assert (trace.answer, trace.stages["check"], len(model.calls)) == ("7", "c", 3)
    assert model.calls[1].sampling.stop == ("</check>", "</answer>")
    assert [t.name for t in trace.format] == ["think", "check", "answer"]
