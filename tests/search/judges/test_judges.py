import math
from dataclasses import replace

import pytest
from playing import PICTURE, QUESTION, WHOLE, Rewarder, resources_for, tagged

from llava_cot import ask
from llava_cot.core.question import Question
from llava_cot.core.stages import LLAVA_COT, make_format
from llava_cot.core.trace import Candidate, Usage
from llava_cot.errors import ModelError
from llava_cot.models.base import Prompt, Sampling
from llava_cot.models.scripted import ScriptedModel
from llava_cot.search.ask import make_judge
from llava_cot.search.judge_prompts import check_reply, default_prompts
from llava_cot.search.judges import JUDGES, JudgeSetup
from llava_cot.search.judges.base import earlier, shown
from llava_cot.search.judges.likelihood import LikelihoodJudge
from llava_cot.search.judges.logits import LogitsJudge
from llava_cot.search.judges.reward_judge import RewardJudge
from llava_cot.search.judges.self_judge import REPLY_TOKENS, SelfJudge
from llava_cot.search.request import make_request
from llava_cot.search.resources import Resources

PROMPTS = default_prompts()
SAMPLING = Sampling(temperature=0.6, top_p=0.9, max_tokens=2048, stop=("</SUMMARY>",))
CONTEXT = tagged("summary", "plan") + tagged("caption", "three cubes")


def made(text: str, stage: str = "reasoning", id: int = 0, **fields: object) -> Candidate:
    return Candidate.model_validate(
        {"id": id, "parent": None, "round": 0, "stage": stage, "text": text} | fields
    )


A = made(tagged("reasoning", "alpha"), id=0)
B = made(tagged("reasoning", "beta"), id=1)


def says(reply: str) -> ScriptedModel:
    return ScriptedModel(lambda prompt, rng: reply)


@pytest.mark.parametrize(
    ("reply", "choice"), [("Since x, I choose response 2.", 2), ("Response [1]", 1), ("Both are fine.", None)]
)
async def test_the_self_judge_reads_its_models_reply(reply: str, choice: int | None) -> None:
    model = says(reply)
    said = await SelfJudge(JudgeSetup(model, LLAVA_COT, SAMPLING)).prefer(
        QUESTION, "reasoning", CONTEXT, A, B, seed=9
    )
    assert (said.choice, said.reply, said.scores) == (choice, reply, None)
    assert said.usage.model_calls == 1
    assert said.usage.completion_tokens == len(reply.split()) + 1
    assert said.usage.prompt_tokens == model.count_tokens(model.calls[0].prompt)


async def test_the_self_judge_sees_the_picture_the_hint_and_both_texts_without_tags() -> None:
    model = says("I choose response 1.")
    await SelfJudge(JudgeSetup(model, LLAVA_COT, SAMPLING)).prefer(
        QUESTION, "reasoning", CONTEXT, A, B, seed=9
    )
    [call] = model.calls
    text = PROMPTS.duel("reasoning", QUESTION.text, {"caption": "three cubes"}, "alpha", "beta")
    assert call.prompt == Prompt.of(text, (PICTURE,))
    assert call.sampling == replace(SAMPLING, max_tokens=REPLY_TOKENS, stop=(), seed=9)


async def test_reasoning_is_checked_by_text_alone_with_the_caption() -> None:
    model = says("Nothing incorrect here. Verdict: correct.")
    judge = SelfJudge(JudgeSetup(model, LLAVA_COT, SAMPLING))
    opinion = await judge.check(QUESTION, "reasoning", CONTEXT, A, seed=4)
    assert opinion is not None
    assert (opinion.correct, opinion.usage.model_calls) == (True, 1)
    [message] = model.calls[0].prompt.messages
    assert message.images == ()
    assert all(part in message.text for part in (QUESTION.text, "three cubes", "alpha"))
    assert "<REASONING>" not in message.text
    assert model.calls[0].sampling.seed == 4


async def test_reasoning_without_a_caption_is_checked_all_the_same() -> None:
    model = says("Verdict: incorrect.")
    opinion = await SelfJudge(JudgeSetup(model, LLAVA_COT, SAMPLING)).check(
        QUESTION, "reasoning", "", A, seed=4
    )
    assert opinion is not None and opinion.correct is False
    assert "Caption" not in model.calls[0].prompt.messages[0].text


@pytest.mark.parametrize("stage", ["summary", "caption", "conclusion", "answer", "sentence"])
async def test_nothing_but_reasoning_is_checked(stage: str) -> None:
    model = says("Verdict: incorrect.")
    assert (
        await SelfJudge(JudgeSetup(model, LLAVA_COT, SAMPLING)).check(QUESTION, stage, "", A, seed=4) is None
    )
    assert model.calls == []


async def test_options_are_part_of_the_question() -> None:
    model = says("I choose response 1.")
    asked = Question("Which?", (PICTURE,), options=("left", "right"))
    await SelfJudge(JudgeSetup(model, LLAVA_COT, SAMPLING)).prefer(asked, "answer", "", A, B, seed=9)
    assert "Which?\nA. left\nB. right\n" in model.calls[0].prompt.messages[0].text


async def test_logits_average_both_orders_so_that_a_liking_for_a_position_cancels() -> None:
    def choose(prompt: Prompt, options: object) -> list[float]:
        text = prompt.messages[0].text
        good = 0 if text.index("beta") < text.index("alpha") else 1
        scores = [3.0, 0.0]
        scores[good] += 1.0
        return scores

    model = ScriptedModel({}, choose)
    said = await LogitsJudge(JudgeSetup(model)).prefer(QUESTION, "reasoning", CONTEXT, A, B, seed=9)
    ab, ba = 1 / (1 + math.exp(1.0 - 3.0)), 1 / (1 + math.exp(4.0))
    assert said.choice == 2
    assert said.scores == pytest.approx(((ab + ba) / 2, 1 - (ab + ba) / 2))
    assert [options for _, options in model.choices] == [(" 1", " 2")] * 2
    assert all(prompt.messages[0].images == (PICTURE,) for prompt, _ in model.choices)
    assert all(prompt.prefix == "I choose response" for prompt, _ in model.choices)
    assert said.usage.model_calls == 2
    assert said.usage.prompt_tokens == sum(model.count_tokens(prompt) for prompt, _ in model.choices)


@pytest.mark.parametrize("scores", [[0.0, 0.0], [-1.0, -3.0], [float("-inf"), float("-inf")]])
async def test_logits_that_favour_a_position_alone_choose_nothing(scores: list[float]) -> None:
    said = await LogitsJudge(JudgeSetup(ScriptedModel({}, lambda prompt, options: scores))).prefer(
        QUESTION, "answer", "", A, B, seed=9
    )
    assert (said.choice, said.scores) == (None, (0.5, 0.5))


async def test_logits_may_be_as_far_apart_as_can_be() -> None:
    def choose(prompt: Prompt, options: object) -> list[float]:
        text = prompt.messages[0].text
        return [0.0, float("-inf")] if text.index("alpha") < text.index("beta") else [-1e30, 0.0]

    said = await LogitsJudge(JudgeSetup(ScriptedModel({}, choose))).prefer(
        QUESTION, "answer", "", A, B, seed=9
    )
    assert said.choice == 1
    assert said.scores == pytest.approx((1.0, 0.0))


@pytest.mark.parametrize(
    ("a", "b", "choice"),
    [
        ({"logprob": -4.0, "tokens": (1, 2, 3, 4)}, {"logprob": -3.0, "tokens": (1, 2)}, 1),
        ({"logprob": -4.0, "completion_tokens": 2}, {"logprob": -4.0, "completion_tokens": 8}, 2),
        ({"logprob": 0.0}, {"logprob": -1.0, "tokens": (1,)}, 1),
        ({"logprob": -4.0, "tokens": (1, 2)}, {"logprob": -4.0, "tokens": (1, 2)}, None),
    ],
)
async def test_likelihood_compares_means(
    a: dict[str, object], b: dict[str, object], choice: int | None
) -> None:
    said = await LikelihoodJudge().prefer(QUESTION, "answer", "", made("a", **a), made("b", **b), seed=9)
    assert said.choice == choice
    assert said.usage.model_calls == 0


async def test_likelihood_refuses_a_model_without_log_probabilities() -> None:
    with pytest.raises(ModelError, match="needs log-probabilities"):
        await LikelihoodJudge().prefer(QUESTION, "answer", "", A, B, seed=9)


def test_judges_are_made_by_name() -> None:
    for name in JUDGES:
        resources = resources_for(name)
        request = make_request("best-of-n", judge=name, sampling=SAMPLING, resources=resources)
        made = make_judge(name, says(""), request, resources)
        assert (made.name, made.setup.fmt, made.setup.sampling) == (name, LLAVA_COT, SAMPLING)
        used = {"model": "scripted", "reward model": "rewarder", "nothing": None}[JUDGES[name].uses]
        assert made.model_name == (f"{used} / {used}" if JUDGES[name].reference else used)
    with pytest.raises(ValueError, match="no judge 'coin'; choose one of self, logits, likelihood"):
        make_request("best-of-n", judge="coin")


@pytest.mark.parametrize(
    ("stage", "text", "images", "parts"),
    [
        ("reasoning", tagged("reasoning", "alpha"), False, (PROMPTS.check_reasoning, "three cubes", "alpha")),
        ("caption", tagged("caption", "alpha"), True, ("The part: caption", "alpha")),
        ("conclusion", tagged("conclusion", "alpha"), True, ("The part: conclusion", "three cubes", "alpha")),
        ("answer", WHOLE, True, ("Is this answer correct?", WHOLE)),
        ("sentence", " And so on.", True, ("correct so far?", "three cubes", "And so on.")),
    ],
)
async def test_a_score_of_logits_is_the_probability_of_correct(
    stage: str, text: str, images: bool, parts: tuple[str, ...]
) -> None:
    model = ScriptedModel({}, lambda prompt, options: [-1.0, -3.0])
    found = await LogitsJudge(JudgeSetup(model)).score(QUESTION, stage, CONTEXT, made(text, stage), seed=0)
    assert found.value == pytest.approx(1 / (1 + math.exp(-2)))
    [(prompt, options)] = model.choices
    assert (prompt.prefix, options) == ("Verdict:", (" correct", " incorrect"))
    assert prompt.messages[0].images == ((PICTURE,) if images else ())
    for part in (QUESTION.text, "Verdict: correct.", *parts):
        assert part in prompt.messages[0].text
    assert "plan" not in prompt.messages[0].text or stage in ("answer", "sentence")
    assert found.usage == Usage(prompt_tokens=model.count_tokens(prompt), model_calls=1)


def test_words_that_are_scored_are_those_of_a_reply() -> None:
    assert [check_reply(correct) for correct in (True, False)] == [
        f"{PROMPTS.verdict}{verdict}." for verdict in PROMPTS.verdicts
    ]


async def test_a_reward_is_of_the_whole_path() -> None:
    model = Rewarder(lambda text: text.count("a"))
    judge = RewardJudge(JudgeSetup(model))
    asked = Question("Which?", (PICTURE,), options=("left", "right"))
    a, b = made(tagged("reasoning", "aaa")), made(tagged("reasoning", "b"))
    for first, second, choice in ((a, b, 1), (b, a, 2), (a, a, None)):
        said = await judge.prefer(asked, "reasoning", CONTEXT, first, second, seed=0)
        assert said.choice == choice
        assert said.usage == Usage(prompt_tokens=8, model_calls=2, usd=1.0)
    prompt = Prompt.of("Which?\nA. left\nB. right", (PICTURE,))
    assert set(model.asked) == {(prompt, CONTEXT + a.text), (prompt, CONTEXT + b.text)}
    found = await judge.score(asked, "reasoning", CONTEXT, a, seed=0)
    assert (found.value, found.usage.model_calls) == (said.scores[0] if said.scores else None, 1)


async def test_another_model_judges_in_place_of_the_first_and_its_price_counts() -> None:
    class Priced(ScriptedModel):
        name = "stronger"

        def price(self, prompt_tokens: int, completion_tokens: int) -> float | None:
            return 1e-3 * prompt_tokens + completion_tokens

        async def sample(self, *given, **more):  # type: ignore[no-untyped-def]
            return [replace(c, usd=self.price(0, c.completion_tokens)) for c in await super().sample(*given)]

    answers = [tagged("conclusion", "a b c"), tagged("conclusion", "d")]
    for judge in ("self", "logits"):
        left = list(answers)
        model = ScriptedModel(lambda prompt, rng, left=left: left.pop(0))
        stronger = Priced(lambda prompt, rng: "I choose response 1.")
        trace = await ask(
            model, None, "q", method="best-of-n", judge=judge, resources=Resources(judge_model=stronger)
        )
        assert (trace.model, trace.judge, trace.judge_model) == ("scripted", judge, "stronger")
        assert len(model.calls) == 1 and not model.choices
        calls = len(stronger.calls) + len(stronger.choices)
        read = sum(stronger.count_tokens(prompt) for prompt, _ in stronger.choices)
        assert trace.usage.usd == pytest.approx(5.0 if judge == "self" else 1e-3 * read)
        assert trace.usage.model_calls == 2 + calls == (3 if judge == "self" else 4)
    trace = await ask(ScriptedModel(lambda prompt, rng: "x"), None, "q", method="best-of-n", judge="self")
    assert trace.judge_model == "scripted"


def test_a_judge_is_shown_the_stage_or_all_there_is_besides() -> None:
    assert shown(tagged("caption", "x"), "caption", LLAVA_COT) == "x"
    assert shown(" no tags. ", "caption", LLAVA_COT) == "no tags."
    skipped = tagged("reasoning", "x")
    assert shown(skipped, "caption", LLAVA_COT) == skipped
    assert shown(WHOLE, "conclusion", LLAVA_COT) == WHOLE
    think = make_format("think,answer")
    for whole in ("<think>t</think><answer>1</answer>", "I count one. <answer>1</answer>"):
        assert shown(whole, "answer", think) == whole
    assert shown("<answer>1</answer>", "answer", think) == "1"


def test_what_came_earlier() -> None:
    assert earlier("answer", "", LLAVA_COT) == {}
    assert earlier("sentence", "So far.", LLAVA_COT) == {"sentence": "So far."}
    assert earlier("reasoning", CONTEXT, LLAVA_COT) == {"summary": "plan", "caption": "three cubes"}
    assert earlier("think", "", make_format("think,answer")) == {}
