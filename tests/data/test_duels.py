"""Judge examples of one question: rightly labelled, in the prompts of a real search."""

import itertools
import random
import re
from collections.abc import Callable

import pytest
from playing import PICTURE, tagged

from llava_cot.core.question import Question
from llava_cot.core.stages import LLAVA_COT
from llava_cot.data.rollouts.duels import DuelSettings, DuelsFound, JudgeExample, examples_of
from llava_cot.data.rollouts.labeling import (
    Prefix,
    RatedCandidate,
    RolloutLabeler,
    RolloutQuestion,
    RolloutValue,
    by_chance,
)
from llava_cot.errors import DataError
from llava_cot.models.base import Continuation, OnText, Prompt, Sampling
from llava_cot.models.scripted import Script, ScriptedModel
from llava_cot.search.ask import answer
from llava_cot.search.judge_prompts import parse_check, parse_choice
from llava_cot.search.request import make_request

QUESTION = Question("How many are left?", (PICTURE,), "q", (), "2")
TAGS = LLAVA_COT.closing_tags
Words = Callable[[str, str, random.Random], str]


def writing(words: Words) -> Script:
    """Goes on with whatever stages are missing; `words` gives one from its name and all that is before it."""

    def script(prompt: Prompt, rng: random.Random) -> str:
        text = prompt.prefix
        for stage in LLAVA_COT.names[sum(tag in text for tag in TAGS) :]:
            text += tagged(stage, words(stage, text, rng))
        return text[len(prompt.prefix) :]

    return script


def staged(words: Words) -> ScriptedModel:
    return ScriptedModel(writing(words))


def slipping(where: str) -> Script:
    """Half of its texts at one stage are bad, and an answer with a bad one in it ends wrongly, always."""

    def words(stage: str, before: str, rng: random.Random) -> str:
        if stage == where:
            return f"{rng.choice(('good', 'bad'))} {rng.randrange(9)}"
        return ("3" if "bad" in before else "2") if stage == "conclusion" else "so"

    return writing(words)


def slips_at(where: str) -> ScriptedModel:
    return ScriptedModel(slipping(where))


async def found(model: ScriptedModel, seed: int = 0, **settings: object) -> DuelsFound:
    chosen = DuelSettings(**settings)  # type: ignore[arg-type]
    return await examples_of(QUESTION, None, model, chosen, random.Random(seed))


async def many(model: ScriptedModel, count: int = 40, **settings: object) -> list[JudgeExample]:
    return [one for seed in range(count) for one in (await found(model, seed=seed, **settings)).examples]


def responses(example: JudgeExample) -> list[str]:
    parts = re.fullmatch(r".*Response 1:\n(.*)\n\nResponse 2:\n(.*)\n\nReply in.*", example.prompt, re.DOTALL)
    assert parts
    return list(parts.groups())


@pytest.mark.parametrize("stage", ["summary", "caption", "reasoning"])
async def test_the_better_one_of_a_stage_is_the_one_that_ends_rightly(stage: str) -> None:
    examples = [one for one in await many(slips_at(stage), stages=(stage,)) if one.kind == "duel"]
    assert len(examples) > 30
    for one in examples:
        better = parse_choice(one.reply)
        assert better and one.stage == stage and one.by == "rollouts" and one.picture
        texts = responses(one)
        assert texts[better - 1].startswith("good") and texts[2 - better].startswith("bad")
        assert one.worths == ((1.0, 0.0) if better == 1 else (0.0, 1.0))
        assert one.reply == f"I choose response {better}."  # no reason is made up


async def test_either_is_first_as_often_whatever_the_order_of_the_samples() -> None:
    class GoodFirst(ScriptedModel):
        async def sample(
            self, prompt: Prompt, n: int, sampling: Sampling, on_text: OnText | None = None
        ) -> list[Continuation]:
            return sorted(
                await super().sample(prompt, n, sampling, on_text), key=lambda one: "bad" in one.text
            )

    model = GoodFirst(slipping("caption"))
    examples = await many(model, count=80, stages=("caption",))
    first = sum(parse_choice(one.reply) == 1 for one in examples)
    assert len(examples) > 100 and 0.4 < first / len(examples) < 0.6


async def test_a_good_one_is_gone_on_with() -> None:
    model = slips_at("caption")
    for seed in range(20):
        model.calls.clear()
        await found(model, seed=seed, stages=("caption", "reasoning"))
        prefixes = [call.prompt.prefix for call in model.calls if call.sampling.stop == TAGS[2:]]
        captions = [call.prompt.prefix for call in model.calls if not call.sampling.stop]
        good = any("good" in prefix for prefix in captions)
        assert len(prefixes) == 1
        assert ("good" in prefixes[0]) == good or not captions


async def test_rollouts_go_on_from_the_candidate_itself_ids_and_all() -> None:
    model = slips_at("caption")
    await found(model, stages=("caption",))
    summary, caption, *rollouts = model.calls
    assert (summary.n, summary.sampling.stop) == (1, TAGS)
    assert (caption.n, caption.sampling.stop) == (4, TAGS[1:])
    assert caption.prompt.prefix == tagged("summary", "so")
    assert len(rollouts) >= 2 and len({call.prompt.prefix for call in rollouts}) == len(rollouts)
    assert len({call.sampling.seed for call in model.calls}) == len(model.calls)
    for call in rollouts:
        assert (call.n, call.sampling.stop) == (4, ())
        assert re.fullmatch(
            rf"{tagged('summary', 'so')}<CAPTION> (good|bad) \d </CAPTION>", call.prompt.prefix
        )
        assert call.prompt.prefix_tokens is not None


async def test_a_worth_is_the_share_of_the_tree_that_ends_rightly() -> None:
    chances = {"x": 0.5, "y": 0.2}  # of a right conclusion after each reasoning; x has two thirds

    def words(stage: str, before: str, rng: random.Random) -> str:
        if stage == "reasoning":
            return rng.choice("xxy")
        if stage == "conclusion":
            key = "x" if " x " in before else "y"
            return "2" if rng.random() < chances[key] else rng.choice(("3", ""))
        return "so"

    model = RolloutQuestion(QUESTION, staged(words), Sampling())
    before = tagged("summary", "so") + tagged("caption", "so")
    for prefix, exact in [
        (before, 2 / 3 * 0.5 + 1 / 3 * 0.2),
        (before + tagged("reasoning", "x"), 0.5),
        (before + tagged("reasoning", "y"), 0.2),
    ]:
        value = await model.value(Prefix(prefix, None), 4000, 7)
        assert abs(value.share - exact) < 0.03
        assert value.right + value.wrong == value.total == 4000
    assert model.usage.model_calls == 12000


async def test_what_words_cannot_settle_labels_nothing() -> None:
    question = Question("What is it?", (PICTURE,), "q", (), "sofa")

    def words(stage: str, before: str, rng: random.Random) -> str:
        return rng.choice(("sofa", "couch")) if stage == "conclusion" else f"so {rng.randrange(9)}"

    for seed in range(20):
        got = await examples_of(question, None, staged(words), DuelSettings(), random.Random(seed))
        assert {parse_check(one.reply) for one in got.examples} <= {True}  # four times "sofa", of four


async def test_conclusions_and_whole_answers_are_told_exactly() -> None:
    examples = await many(slips_at("caption"), stages=("answer",))
    model = staged(
        lambda stage, before, rng: rng.choice(("2", "two", "3")) if stage == "conclusion" else "so"
    )
    examples += await many(model, stages=("conclusion",))
    assert {(one.stage, one.by) for one in examples} == {("answer", "answer"), ("conclusion", "answer")}
    for one in examples:
        better = parse_choice(one.reply)
        assert better
        good, bad = responses(one)[better - 1], responses(one)[2 - better]
        if one.stage == "answer":
            assert "good" in good and "bad" in bad and good.startswith("<SUMMARY>")
        else:
            assert good in ("2", "two") and bad == "3"


async def test_reasonings_are_checked_one_of_each_verdict_without_the_picture() -> None:
    for seed in range(20):
        checks = [
            one for one in (await found(slips_at("reasoning"), seed=seed)).examples if one.kind == "check"
        ]
        verdicts = [parse_check(one.reply) for one in checks]
        assert len(set(verdicts)) == len(verdicts)
        for one in checks:
            assert not one.picture and one.stage == "reasoning"
            assert ("Reasoning:\ngood" in one.prompt) == parse_check(one.reply)


async def test_at_most_so_many_pairs_and_none_of_equal_texts() -> None:
    for pairs in (1, 3):
        got = await found(slips_at("caption"), candidates=8, pairs=pairs, stages=("caption",))
        duels = [one for one in got.examples if one.kind == "duel"]
        assert len(duels) == pairs < got.tallies["caption"].labeled
        assert all(len(set(responses(one))) == 2 for one in duels)
    same = staged(lambda stage, before, rng: "2" if stage == "conclusion" else "so")
    got = await found(same)
    assert got.examples == []
    assert len(same.calls) == 5  # whole answers, four stages; no rollouts where there is nothing to choose
    assert got.usage.model_calls == 4 + 1 + 4 + 4 + 4


async def test_prompts_are_those_of_a_real_search() -> None:
    def words(stage: str, before: str, rng: random.Random) -> str:
        if stage == "conclusion":
            return "2" if "bad" not in before and rng.random() < 0.8 else "3"
        return f"{stage} {rng.choice(('good', 'bad'))}"

    write = writing(words)
    judged = set[tuple[str, bool]]()

    def script(prompt: Prompt, rng: random.Random) -> str:
        [message] = prompt.messages
        if message.text == QUESTION.text:
            return write(prompt, rng)
        judged.add((message.text, bool(message.images)))
        return rng.choice(
            ("I choose response 1. Verdict: correct.", "I choose response 2. Verdict: correct.")
        )

    model = ScriptedModel(script)
    for method, seed in itertools.product(("stage-beam", "best-of-n"), range(150)):
        request = make_request(method, n=4, judge="self", sampling=Sampling(seed=seed))
        await answer(request, model, QUESTION)
    stages = ("summary", "caption", "reasoning", "conclusion", "answer")
    examples = await many(staged(words), stages=stages, sure=0.6)
    assert {(one.kind, one.stage) for one in examples} == {
        *(("duel", stage) for stage in stages),
        ("check", "reasoning"),
    }
    assert {(one.prompt, one.picture) for one in examples} <= judged


async def test_the_same_generator_gives_the_same() -> None:
    one, other, third = [await found(slips_at("caption"), seed=seed) for seed in (3, 3, 4)]
    assert one == other != third


def rated(right: int, total: int) -> RatedCandidate:
    continuation = Continuation("x", (), None, "stop", 1, 1)
    return RatedCandidate(continuation, right / total, RolloutValue(right, total - right, total))


def test_by_chance_is_what_dealing_the_rollouts_out_anew_gives() -> None:
    for rights, each in [((3, 1, 0), 3), ((2, 2), 4), ((4, 0), 4), ((0, 0), 2)]:
        labeller = RolloutLabeler(RolloutQuestion(QUESTION, ScriptedModel({}), Sampling()), each, 0.75)
        results = [place < right for right in rights for place in range(each)]
        labelled = deals = 0
        for chosen in itertools.combinations(range(len(results)), sum(rights)):
            dealt = [
                rated(sum(place // each == number for place in chosen), each) for number in range(len(rights))
            ]
            deals += 1
            labelled += sum(
                labeller.label("caption", Prefix(), a, b) is not None
                for a, b in itertools.combinations(dealt, 2)
            )
        exact = by_chance([rated(right, each) for right in rights], 0.75)
        assert exact == pytest.approx(labelled / deals)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"stages": ("picture",)}, "no stage 'picture'; name some of summary, caption"),
        ({"stages": ()}, "no stage is named"),
        ({"candidates": 1}, "at least 2 candidates"),
        ({"rollouts": 0}, "1 rollout"),
        ({"sure": 0.5}, "above 0.5"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, object], words: str) -> None:
    with pytest.raises(DataError, match=words):
        DuelSettings(**settings)  # type: ignore[arg-type]
