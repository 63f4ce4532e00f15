"""Methods and judges of one's own, written in a few lines with `@method` and `@judge`."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from playing import PICTURE, registering, tagged

from llava_cot import Judge, JudgeScore, Preference, Question, Search, ask, judge, make_request, method
from llava_cot.core.trace import Candidate
from llava_cot.errors import RequestError
from llava_cot.models.base import Prompt
from llava_cot.models.scripted import ScriptedModel
from llava_cot.search.judges import JUDGES
from llava_cot.search.judges.self_judge import SelfJudge
from llava_cot.search.methods import METHODS
from llava_cot.search.request import parse_spec, possible_judges, possible_methods, runs_alone
from llava_cot.search.resources import Resources


@pytest.fixture(autouse=True)
def registries() -> Iterator[None]:
    with registering():
        yield


def varied(prompt: Prompt, rng: random.Random) -> str:
    return tagged("conclusion", "x" * rng.randrange(1, 99))


async def test_a_method_in_ten_lines() -> None:
    @method("longest", n=3, budgeted=True)
    async def longest(search: Search) -> None:
        """Keep the longest of n whole answers."""
        candidates = await search.sample("answer")
        search.keep(max(candidates, key=lambda candidate: len(candidate.text)))

    model = ScriptedModel(varied)
    trace = await ask(model, PICTURE, "How long?", method="longest", n=5)
    texts = [candidate.text for candidate in trace.candidates]
    assert (trace.method, trace.n, trace.judge, trace.usage.model_calls) == ("longest", 5, None, 5)
    assert trace.text == max(texts, key=len) and len(set(texts)) > 1
    assert [call.prompt.messages[0].images for call in model.calls] == [(PICTURE,)]
    assert (await ask(model, None, "How long?", method="longest")).n == 3
    assert (await ask(model, None, "How long?", method="longest", budget=40)).budget == 40
    assert parse_spec("longest-7-within-90").request().n == 7
    assert "longest" in possible_methods() and possible_judges("longest") == []
    with pytest.raises(RequestError, match="longest uses no judge"):
        make_request("longest", judge="self")


async def test_a_method_is_searched_stage_by_stage_with_any_judge() -> None:
    @method("two-stages", judge="likelihood")
    async def two_stages(search: Search) -> None:
        for stage, tag in zip(("caption", "conclusion"), search.fmt.closing_tags[1::2], strict=True):
            search.keep(await search.best(await search.sample(stage, stop=(tag,))))

    def script(prompt: Prompt, rng: random.Random) -> str:
        if "response" in prompt.messages[0].text:
            return "I choose response 2."
        return tagged("conclusion" if prompt.prefix else "caption", str(rng.random()))

    for name in ("likelihood", "self"):
        trace = await ask(ScriptedModel(script), None, "q", method="two-stages", judge=name, n=4)
        assert [c.stage for c in trace.candidates] == ["caption"] * 4 + ["conclusion"] * 4
        assert (len(trace.verdicts), trace.judge, trace.stages["summary"]) == (6, name, None)
        assert trace.answer == trace.candidates[trace.chosen[1]].text.split()[1]


def test_what_a_method_declares_is_checked_before_it_runs() -> None:
    @method("picky", single=True, requires=("reasoner",), accepts=("examples",))
    async def picky(search: Search) -> None:
        raise AssertionError("it must not run")

    declared = METHODS["picky"]
    assert (declared.n, declared.resources, declared.short) == (1, ("reasoner", "examples"), "picky")
    with pytest.raises(RequestError, match="picky takes one sample, not 2") as caught:
        make_request("picky", n=2)
    assert caught.value.field == "n"
    with pytest.raises(RequestError, match="picky needs a second model that reasons") as caught:
        make_request("picky")
    assert (caught.value.field, caught.value.needs) == ("method", "reasoner")
    assert make_request("picky", resources=Resources(reasoner=ScriptedModel({}))).n == 1


async def test_a_method_without_a_judge_cannot_use_one() -> None:
    @method("forgetful")
    async def forgetful(search: Search) -> None:
        search.keep(await search.best(await search.sample("answer")))

    with pytest.raises(ValueError, match="the method forgetful declares no judge; add judge="):
        await ask(ScriptedModel(varied), None, "q", method="forgetful")


async def test_a_judge_that_scores_also_prefers() -> None:
    @judge("length", probability=True)
    class Length(Judge):
        async def score(
            self, question: Question, stage: str, context: str, candidate: Candidate, *, seed: int
        ) -> JudgeScore:
            return JudgeScore(len(candidate.text), reply=f"{len(candidate.text)} characters")

    declared = JUDGES["length"]
    assert (declared.scores, declared.probability, declared.uses) == (True, True, "nothing")
    trace = await ask(ScriptedModel(varied), None, "q", method="best-of-n", judge="length", n=4)
    lengths = [len(candidate.text) for candidate in trace.candidates]
    assert lengths[trace.chosen[0]] == max(lengths) and trace.judge == "length"
    for verdict in trace.verdicts:
        a, b = lengths[verdict.a], lengths[verdict.b]
        assert (verdict.scores, verdict.winner) == ((a, b), verdict.a if a > b else verdict.b)
        assert verdict.reply == f"Response 1: {a} characters\nResponse 2: {b} characters"
    same = [candidate.model_copy(update={"text": text}) for candidate in trace.candidates[:2] for text in "x"]
    assert (await Length().prefer(Question("q"), "answer", "", *same, seed=0)).choice is None
    trace = await ask(ScriptedModel(varied), None, "q", method="weighted-best-of-n", judge="length", n=4)
    assert len(trace.scores) == 4 and trace.verdicts == ()
    assert "length" in possible_judges("adaptive-best-of-n")


async def test_a_judge_that_only_prefers_is_refused_where_scores_are_needed() -> None:
    @judge("first")
    class First(Judge):
        async def prefer(
            self, question: Question, stage: str, context: str, a: Candidate, b: Candidate, *, seed: int
        ) -> Preference:
            return Preference(1)

    assert not JUDGES["first"].scores and "first" not in possible_judges("weighted-best-of-n")
    assert (await ask(ScriptedModel(varied), None, "q", method="best-of-n", judge="first")).judge == "first"
    needing = [name for name, known in METHODS.items() if known.scores]
    assert {"weighted-best-of-n", "swires", "adaptive-best-of-n"} <= set(needing)
    for name in needing:
        for given in ("first", First()):
            with pytest.raises(RequestError, match=f"{name} needs scores, and first gives none") as caught:
                make_request(name, judge=given)
            assert caught.value.field == "judge" and "\n" not in str(caught.value)


def test_a_judge_whose_scores_are_no_probabilities_is_refused_where_they_are_needed() -> None:
    @judge("unbounded")
    class Unbounded(Judge):
        async def score(
            self, question: Question, stage: str, context: str, candidate: Candidate, *, seed: int
        ) -> JudgeScore:
            return JudgeScore(-7.0)

    for given in ("unbounded", Unbounded()):
        with pytest.raises(RequestError, match="the scores of unbounded are none; choose one of logits"):
            make_request("adaptive-best-of-n", judge=given)
        assert make_request("weighted-best-of-n", judge=given).judge_name == "unbounded"


def test_a_judge_that_uses_a_model_is_given_it() -> None:
    @judge("asker", uses="model")
    class Asker(SelfJudge):
        pass

    from llava_cot.search.ask import make_judge

    model, other = ScriptedModel({}), ScriptedModel({})
    request = make_request("best-of-n", judge="asker")
    assert make_judge("asker", model, request, Resources()).model is model
    made = make_judge("asker", model, request, Resources(judge_model=other))
    assert (made.model, made.model_name, made.name) == (other, "scripted", "asker")


def test_names_are_taken_once() -> None:
    async def mine(search: Search) -> None: ...

    with pytest.raises(ValueError, match="there is already a method 'single'; choose another name"):
        method("single")(mine)
    with pytest.raises(ValueError, match="there is already a judge 'self'; choose another name"):
        judge("self")(type("Mine", (SelfJudge,), {}))
    method("mine", n=3)(mine)
    method("mine", n=4)(mine)  # its module is reloaded
    assert METHODS["mine"].n == 4
    mine.__module__ = "another"
    with pytest.raises(ValueError, match="there is already a method 'mine'"):
        method("mine")(mine)


@pytest.mark.parametrize(
    "name",
    ["greedy", "weighted-majority", "best-of", "single-n", "mine-4", "mine-within", "Mine", "a@b", "", "x y"],
)
def test_a_name_that_a_spec_could_not_give_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="cannot name a method"):

        @method(name)
        async def mine(search: Search) -> None: ...


def test_what_cannot_be_declared_is_refused_at_once() -> None:
    async def mine(search: Search) -> None: ...

    with pytest.raises(ValueError, match="n = 0"):
        method("mine", n=0)(mine)
    with pytest.raises(ValueError, match="resource 'glasses'; there are reasoner"):
        method("mine", requires=("glasses",))(mine)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="must be an async function"):
        method("mine")(lambda search: None)  # type: ignore[arg-type, return-value]
    with pytest.raises(TypeError, match="must be a subclass of Judge"):
        judge("mine")(dict)  # type: ignore[type-var]
    with pytest.raises(TypeError, match="must define prefer or score"):
        judge("mine")(type("Mute", (Judge,), {}))
    assert "mine" not in METHODS and "mine" not in JUDGES


def test_one_class_is_one_judge() -> None:
    class Fixed(Judge):
        async def score(
            self, question: Question, stage: str, context: str, candidate: Candidate, *, seed: int
        ) -> JudgeScore:
            return JudgeScore(1.0)

    judge("one")(Fixed)
    with pytest.raises(ValueError, match="Fixed is already the judge 'one'"):
        judge("two")(Fixed)


def test_a_methods_own_judge_is_checked_too() -> None:
    @method("mine", judge="typo")
    async def mine(search: Search) -> None: ...

    with pytest.raises(RequestError, match="there is no judge 'typo'") as caught:
        make_request("mine")
    assert caught.value.field == "judge"
    assert not runs_alone("mine") and "self" in possible_judges("mine")

    @method("ours", judge="self", scores=True)
    async def ours(search: Search) -> None: ...

    with pytest.raises(RequestError, match="needs scores, and self gives none"):
        make_request("ours")
