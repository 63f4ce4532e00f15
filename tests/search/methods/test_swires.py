"""swires, swires-script and stage-wise-beam, on scripted candidates and scores."""

import random
import re
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from playing import PICTURE, QUESTION, run_method, tagged

from llava_cot import ask, open_model
from llava_cot.core.question import Question
from llava_cot.core.stages import LLAVA_COT, StageFormat, make_format
from llava_cot.core.trace import Candidate, Trace, Usage
from llava_cot.models.base import Prompt, Sampling
from llava_cot.models.scripted import ScriptedModel
from llava_cot.scenes.items import make_item
from llava_cot.search.calibration import PAPER, Calibration, Z, cut_off
from llava_cot.search.judges.base import Judge, JudgeScore
from llava_cot.search.methods import METHODS
from llava_cot.search.request import make_request, parse_spec
from llava_cot.search.resources import Resources
from llava_cot.search.search import CandidateChosen, Event, Search

STAGES, TAGS = LLAVA_COT.names, LLAVA_COT.closing_tags
RETURNS = {"swires": 3, "swires-script": 4}
SENT = {"swires": 2, "swires-script": 3}
HALF = Calibration("marks", 0.5, 0.0)


class Marks(Judge):
    """Gives a candidate what a function says of its number, by its stage, and notes what it was asked."""

    name = "marks"

    def __init__(self, mark: Callable[[str, int], float]) -> None:
        super().__init__()
        self.mark = mark
        self.asked: list[tuple[str, str, str]] = []

    async def score(
        self, question: Question, stage: str, context: str, candidate: Candidate, *, seed: int
    ) -> JudgeScore:
        assert question.images == (PICTURE,)
        self.asked.append((stage, context, candidate.text))
        return JudgeScore(
            self.mark(stage, number(candidate.text)), "so", Usage(model_calls=1, prompt_tokens=7)
        )


def number(text: str) -> int:
    """The number of a candidate, which is its id in the trace."""
    found = re.search(r"\d+", text)
    return int(found[0]) if found else 0


def counting(fmt: StageFormat = LLAVA_COT) -> ScriptedModel:
    """Goes on with the stage that is missing, and numbers whatever it writes."""
    count = -1

    def script(prompt: Prompt, rng: random.Random) -> str:
        nonlocal count
        count += 1
        done = sum(tag in prompt.prefix for tag in fmt.closing_tags)
        rest = [f"{stage.open} {count} {stage.close}" for stage in fmt.stages[done:]]
        return "\n".join(rest)

    return ScriptedModel(script)


async def search(
    method: str,
    model: ScriptedModel,
    judge: Judge,
    n: int = 4,
    *,
    calibration: Calibration | None = HALF,
    seed: int = 5,
    max_tokens: int = 99,
    fmt: StageFormat = LLAVA_COT,
    on_event: Callable[[Event], None] | None = None,
) -> Trace:
    sampling = Sampling(max_tokens=max_tokens, seed=seed)
    return await run_method(
        method, model, judge, n=n, sampling=sampling, fmt=fmt, on_event=on_event, calibration=calibration
    )


def rounds(trace: Trace) -> int:
    return len({c.round for c in trace.candidates if c.stage == "caption"})


def expected(scores: Sequence[float], n: int, returns: int, sent: int, cut: float) -> tuple[list[int], int]:
    """By brute force: the ids of the path that wins, and the number of rounds. Ids are given in order."""
    following = iter(range(len(scores)))
    summary, reasonings, parents = next(following), [], {}
    count = 0
    while count <= returns:
        count += 1
        captions = [next(following) for _ in range(n)]
        order = sorted((-scores[c], c) for c in captions)
        # Of captions that are all kept there is no order but their own.
        kept = [c for _, c in order][: -(-n // 2)] if n > 1 else captions
        for caption in kept:
            for _ in range(2):
                reasonings.append(next(following))
                parents[reasonings[-1]] = caption
        if sorted(scores[r] for r in reasonings)[-2] > cut:
            break
    best = [r for _, r in sorted((-scores[r], r) for r in reasonings)][:sent]
    conclusions = [(next(following), r) for r in best]
    won, through = min(conclusions, key=lambda pair: (-scores[pair[0]], pair[0]))
    return [summary, parents[through], through, won], count


@given(
    st.sampled_from(sorted(RETURNS)),
    st.integers(1, 6),
    st.lists(st.integers(0, 9), min_size=80, max_size=80),
    st.integers(0, 9),
)
async def test_the_winner_is_that_of_a_search_by_hand(
    method: str, n: int, scores: list[int], cut: int
) -> None:
    judge = Marks(lambda stage, k: scores[k])
    trace = await search(method, counting(), judge, n, calibration=Calibration("marks", cut, 0.0))
    path, count = expected(scores, n, RETURNS[method], SENT[method], cut)
    assert (list(trace.chosen), rounds(trace)) == (path, count)
    assert trace.text == "".join(trace.candidates[k].text for k in path)
    assert trace.answer == str(path[-1])
    # What it costs, as docs/explanation/swires.md says.
    kept = (n + 1) // 2
    ended = min(SENT[method], 2 * kept * count)
    samples = 1 + count * (n + 2 * kept) + ended
    scored = count * ((n if n > 1 else 0) + 2 * kept) + ended
    assert len(trace.candidates) == samples
    assert len(trace.scores) == len(judge.asked) == scored
    assert trace.usage.model_calls == samples + scored


def by_stage(**marks: float) -> Marks:
    return Marks(lambda stage, k: marks.get(stage, 0.0))


async def test_the_papers_search_that_passes_at_once() -> None:
    model, judge = counting(), by_stage(reasoning=1.0)
    trace = await search("swires", model, judge)
    stages = ["summary", *["caption"] * 4, *["reasoning"] * 4, *["conclusion"] * 2]
    assert [c.stage for c in trace.candidates] == stages
    assert [c.round for c in trace.candidates] == [0, *[1] * 4, *[2] * 4, *[3] * 2]
    assert [call.n for call in model.calls] == [1, 4, 2, 2, 1, 1]
    assert [call.sampling.stop for call in model.calls] == [
        TAGS, TAGS[1:], TAGS[2:], TAGS[2:], TAGS[3:], TAGS[3:],
    ]  # fmt: skip
    assert len({call.sampling.seed for call in model.calls}) == 6
    assert {call.prompt.messages[0].images for call in model.calls} == {(PICTURE,)}
    assert [c.parent for c in trace.candidates] == [None, *[0] * 4, 1, 1, 2, 2, 5, 6]
    assert (trace.chosen, trace.n, trace.judge) == ((0, 1, 5, 9), 4, "marks")
    for call in model.calls:  # each goes on from its own line, by its very tokens
        assert call.prompt.prefix_tokens is not None
        assert model.decode(call.prompt.prefix_tokens) == call.prompt.prefix
    context = {candidate: before for _, before, candidate in judge.asked}
    assert context[trace.candidates[9].text] == "".join(trace.candidates[k].text for k in (0, 1, 5))


async def test_it_goes_back_to_the_captions_and_keeps_what_it_has() -> None:
    """The best reasoning is one of the first round, and the second good one comes two rounds later."""
    good = {5: 9.0, 23: 2.0}
    judge = Marks(lambda stage, k: good.get(k, 0.0) if stage == "reasoning" else float(k))
    trace = await search("swires", counting(), judge, calibration=Calibration("marks", 1.0, 0.0))
    assert rounds(trace) == 3
    assert [c.stage for c in trace.candidates if c.parent == 0] == ["caption"] * 12
    ends = [c for c in trace.candidates if c.stage == "conclusion"]
    assert [c.parent for c in ends] == [5, 23]
    assert trace.chosen[-1] == ends[-1].id  # the later conclusion has the better score
    judge.mark = lambda stage, k: {5: 9.0, 23: 2.0, 25: 7.0}.get(k, 0.0)
    trace = await search("swires", counting(), judge, calibration=Calibration("marks", 1.0, 0.0))
    assert trace.chosen == (0, trace.candidates[5].parent, 5, 25)


@pytest.mark.parametrize("method", RETURNS)
@pytest.mark.parametrize("n", [1, 2, 4, 5])
async def test_it_never_passes_and_ends_all_the_same(method: str, n: int) -> None:
    trace = await search(method, counting(), by_stage(), n)
    assert rounds(trace) == RETURNS[method] + 1
    assert trace.candidates[trace.chosen[-1]].stage == "conclusion"


async def test_a_score_at_the_cut_off_does_not_pass() -> None:
    assert rounds(await search("swires", counting(), by_stage(reasoning=0.5))) == 4
    assert rounds(await search("swires", counting(), by_stage(reasoning=0.5000001))) == 1


async def test_one_good_reasoning_is_not_enough() -> None:
    judge = Marks(lambda stage, k: float(k == 5))
    assert rounds(await search("swires", counting(), judge)) == 4


async def test_what_is_kept_is_told_in_order_and_the_same_seed_gives_the_same() -> None:
    def random_marks() -> Marks:
        return Marks(lambda stage, k: random.Random(k).random())

    events: list[Event] = []
    one = await search("swires", counting(), random_marks(), on_event=events.append)
    two = await search("swires", counting(), random_marks())
    assert [e.candidate.id for e in events if isinstance(e, CandidateChosen)] == list(one.chosen)
    assert one.model_copy(update={"usage": None}) == two.model_copy(update={"usage": None})
    other = ScriptedModel(lambda prompt, rng: tagged("conclusion", f"{rng.randrange(10**9)}"))
    texts = {(await search("swires", other, by_stage(), seed=seed)).text for seed in (1, 2)}
    assert len(texts) == 2


def at_stage(**texts: Sequence[str]) -> ScriptedModel:
    """Writes these, in turn, where a stage is next; a numbered stage where nothing is left."""
    left = {stage: list(those) for stage, those in texts.items()}

    def script(prompt: Prompt, rng: random.Random) -> str:
        done = max((k + 1 for k, tag in enumerate(TAGS) if tag in prompt.prefix), default=0)
        stage = STAGES[done] if done < len(STAGES) else ""
        assert stage, f"a finished answer was to go on: {prompt.prefix}"
        return left[stage].pop(0) if left.get(stage) else tagged(stage, "0") + " more"

    return ScriptedModel(script)


SHORT = tagged("reasoning", "1") + " more"


async def test_a_caption_that_ends_the_answer_is_not_gone_on_with_and_may_win() -> None:
    model = at_stage(caption=[tagged("caption", "3") + " more", "that is 9"], reasoning=[SHORT])
    trace = await search("swires", model, Marks(lambda stage, k: float(k)))
    ended = trace.candidates[2]
    assert (ended.text, ended.finish) == ("that is 9", "eos")
    assert not [c for c in trace.candidates if c.parent == ended.id]
    assert (trace.text, trace.chosen) == (tagged("summary", "0") + "that is 9", (0, 2))
    # It was scored once, among the captions, and took the place of both its reasonings.
    assert [score.candidate for score in trace.scores].count(2) == 1
    assert rounds(trace) == 1  # it and the reasoning that goes on are above the cut-off


async def test_a_caption_that_is_a_reasoning_stands_as_one() -> None:
    model = at_stage(caption=[SHORT])
    judge = Marks(lambda stage, k: float(k))
    trace = await search("swires", model, judge)
    skipped = trace.candidates[1]
    assert (skipped.stage, skipped.text) == ("caption", tagged("reasoning", "1"))
    children = [c for c in trace.candidates if c.parent == skipped.id]
    assert {c.stage for c in children} == {"conclusion"}
    assert trace.stages == {"summary": "0", "caption": None, "reasoning": "1", "conclusion": "0"}


@pytest.mark.parametrize(
    ("first", "stages", "calls"),
    [
        ("no tags at all", [], 1),
        (tagged("conclusion", "7"), ["conclusion"], 1),
        (tagged("reasoning", "1") + " more", ["reasoning", "conclusion"], 2),
    ],
)
async def test_a_summary_that_leaves_nothing_to_search(first: str, stages: list[str], calls: int) -> None:
    model, judge = at_stage(summary=[first]), by_stage()
    trace = await search("swires", model, judge)
    assert [name for name, text in trace.stages.items() if text is not None] == stages
    assert (len(model.calls), judge.asked) == (calls, [])


async def test_a_summary_that_is_a_caption_is_reasoned_from_again_and_again() -> None:
    model = at_stage(summary=[tagged("caption", "3") + " more"])
    trace = await search("swires", model, by_stage())
    assert [c.stage for c in trace.candidates] == ["summary", *["reasoning"] * 8, *["conclusion"] * 2]
    assert trace.usage.model_calls == 11 + 1 + 4  # the same text is asked about once a round, and at the end


async def test_candidates_out_of_tokens_have_their_stage_closed() -> None:
    model = at_stage(caption=["<CAPTION> 1 2 3 4 5"] * 4)
    trace = await search("swires", model, by_stage(reasoning=1.0), max_tokens=4)
    assert {c.text for c in trace.candidates if c.stage == "caption"} == {"<CAPTION> 1 2 3</CAPTION>"}
    assert trace.stages["caption"] == "1 2 3"
    assert all(c.tokens == () for c in trace.candidates if c.stage == "caption")


NOISE = ["</SUMMARY>", "<SUMMARY>", "", " ", "<CAPTION></SUMMARY>", tagged("conclusion", ""), "</REASONING>"]


@pytest.mark.parametrize("method", [*RETURNS, "stage-wise-beam"])
@pytest.mark.parametrize("noise", NOISE)
async def test_every_search_ends(method: str, noise: str) -> None:
    for max_tokens in (1, 9):
        model = ScriptedModel(lambda prompt, rng: noise)
        judge = Marks(lambda stage, k: 0.0)
        judge.score = length  # type: ignore[method-assign]
        trace = await search(method, model, judge, max_tokens=max_tokens)
        assert len(model.calls) <= 20
        assert trace.text == "".join(trace.candidates[i].text for i in trace.chosen)


async def length(
    question: Question, stage: str, context: str, candidate: Candidate, *, seed: int
) -> JudgeScore:
    return JudgeScore(len(candidate.text))


@given(
    st.lists(st.sampled_from([*NOISE, *(tagged(s, "1") for s in STAGES), "x y"]), max_size=60),
    st.integers(1, 5),
)
async def test_whatever_a_model_writes_nothing_finished_goes_on(texts: list[str], n: int) -> None:
    left = iter(texts)
    for method in (*RETURNS, "stage-wise-beam"):
        judge = Marks(lambda stage, k: 0.0)
        judge.score = length  # type: ignore[method-assign]
        trace = await search(
            method, ScriptedModel(lambda prompt, rng: next(left, "") + " more"), judge, n, max_tokens=3
        )
        assert trace.text == "".join(trace.candidates[i].text for i in trace.chosen)
        for candidate in trace.candidates:
            parent = None if candidate.parent is None else trace.candidates[candidate.parent]
            assert parent is None or parent.finish != "eos"


async def test_stages_of_another_format_are_searched_by_their_place() -> None:
    fmt = make_format("plan,look,think,check,answer")
    trace = await search("swires", counting(fmt), by_stage(check=1.0), fmt=fmt)
    assert [c.stage for c in trace.candidates] == [
        "plan", "look", *["think"] * 4, *["check"] * 4, *["answer"] * 2,
    ]  # fmt: skip
    three = make_format("look,think,answer")
    trace = await search("swires", counting(three), by_stage(think=1.0), fmt=three)
    assert [c.stage for c in trace.candidates] == [*["look"] * 4, *["think"] * 4, *["answer"] * 2]


async def test_too_few_stages_are_refused() -> None:
    with pytest.raises(ValueError, match="has only think, answer; choose another method"):
        await search("swires", counting(), by_stage(), fmt=make_format("think,answer"))


# Where the cut-off comes from.


def test_the_papers_cut_off_is_the_sixth_decile() -> None:
    from statistics import NormalDist

    assert pytest.approx(NormalDist().inv_cdf(0.6), abs=1e-4) == Z
    assert pytest.approx(-0.243, abs=1e-3) == PAPER.cut_off


def named(name: str, model_name: str | None = None) -> Marks:
    judge = by_stage()
    judge.name, judge.model_name = name, model_name
    return judge


def test_where_a_cut_off_comes_from() -> None:
    assert cut_off(named("reward"), None) == PAPER.cut_off
    assert cut_off(named("logits"), None) == cut_off(named("verifier"), None) == 0.5
    assert cut_off(named("logits"), Calibration("logits", 0.2, 1.0)) == 0.2 + Z
    assert cut_off(named("reward", "a"), Calibration("reward", 1.0, 0.0, judge_model="a")) == 1.0
    assert cut_off(named("reward", "a"), Calibration("reward", 1.0, 0.0)) == 1.0


@pytest.mark.parametrize(
    ("judge", "calibration", "told"),
    [
        (
            named("marks"),
            None,
            "scores of the judge marks have no known scale; .*judge calibrate --judge marks`",
        ),
        (named("marks"), Calibration("reward", 0, 1), "made for the judge reward, but this run uses marks"),
        (
            named("reward", "a"),
            Calibration("reward", 0, 1, judge_model="b"),
            "made for the judge reward with the model b, which now uses a",
        ),
    ],
)
async def test_no_cut_off_or_a_wrong_one_is_refused_before_anything_is_asked(
    judge: Marks, calibration: Calibration | None, told: str
) -> None:
    model = counting()
    with pytest.raises(ValueError, match=told) as caught:
        await search("swires", model, judge, calibration=calibration)
    assert "\n" not in str(caught.value) and model.calls == []


async def test_asking() -> None:
    trace = await ask(
        counting(), PICTURE, "q", method="swires", judge=by_stage(), resources=Resources(calibration=HALF)
    )
    assert (trace.method, trace.n, len(trace.candidates)) == ("swires", 4, 1 + 4 * 8 + 2)
    with pytest.raises(ValueError, match="swires needs a calibration, as"):
        await ask(counting(), PICTURE, "q", method="swires", judge="likelihood")
    with pytest.raises(ValueError, match="swires-script needs scores, and self gives none"):
        await ask(counting(), PICTURE, "q", method="swires-script", judge="self")
    with pytest.raises(ValueError, match="declares no judge"):
        await METHODS["swires"].run(Search(make_request("swires"), counting(), QUESTION))


def test_its_number_is_four_where_it_is_left_out() -> None:
    assert parse_spec("swires") == parse_spec("swires-4")
    assert parse_spec("swires").name == "swires-4"
    assert (parse_spec("swires-script").method, parse_spec("swires-script").n) == ("swires-script", 4)
    assert parse_spec("swires-script-8@verifier").name == "swires-script-8@verifier"


async def test_mini_with_the_likelihood_judge() -> None:
    trace = await ask(
        open_model("mini"),
        None,
        make_item("validation", 0, 0).ask(),
        method="swires",
        n=2,
        judge="likelihood",
        resources=Resources(calibration=Calibration("likelihood", -1e9, 0.0)),
    )
    assert trace.answer and None not in trace.stages.values()
    assert rounds(trace) == 1


# stage-wise-beam


@given(st.integers(1, 9), st.lists(st.integers(0, 9), min_size=60, max_size=60))
async def test_stage_wise_beam_keeps_the_better_half(n: int, scores: list[int]) -> None:
    judge = Marks(lambda stage, k: scores[k])
    trace = await search("stage-wise-beam", counting(), judge, n)
    following = iter(range(60))
    kept: list[tuple[int, ...]] = [()]
    for stage in STAGES:
        lines = [(*line, next(following)) for line in kept for _ in range(n // len(kept))]
        if len(lines) > (1 if stage == "conclusion" else max(1, n // 2)):
            lines.sort(key=lambda line: (-scores[line[-1]], line[-1]))
        kept = lines[: 1 if stage == "conclusion" else max(1, n // 2)]
    assert trace.chosen == kept[0]
    share = n if n == 1 else n // 2 * (n // (n // 2))
    assert trace.usage.model_calls == (n + 3 * share) * (1 if n == 1 else 2)
