"""Published verifiers as judges: process reward models, which answer by a sign, and critics, which write."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from endpoint_double import Double
from hypothesis import given
from hypothesis import strategies as st
from playing import PICTURE, QUESTION, WHOLE, WORDS, tagged

from llava_cot import ask, open_model
from llava_cot.core.question import PLACE, Question
from llava_cot.core.stages import LLAVA_COT, make_format
from llava_cot.core.trace import Candidate, Usage
from llava_cot.errors import DataError
from llava_cot.models.base import Prompt, Reward, Sampling
from llava_cot.models.scripted import ScriptedModel
from llava_cot.search.ask import make_judge
from llava_cot.search.judge_prompts import default_prompts, load_judge_prompts
from llava_cot.search.judges import Judge, JudgeSetup
from llava_cot.search.judges.prm import ProcessRewardJudge
from llava_cot.search.judges.reward_judge import RewardJudge
from llava_cot.search.judges.steps import combine, split_steps
from llava_cot.search.request import make_request
from llava_cot.search.resources import Resources
from llava_cot.search.verifier_prompts import parse_score, step_turns

FIXTURES = Path(__file__).parents[2] / "fixtures/verifiers"
PROMPTS = default_prompts()
STEPS = list(WORDS.values())


def made(text: str, stage: str = "answer") -> Candidate:
    return Candidate.model_validate({"id": 0, "parent": None, "round": 0, "stage": stage, "text": text})


def test_steps_are_the_paragraphs_of_stages_without_tags() -> None:
    assert split_steps(WHOLE, LLAVA_COT) == STEPS
    open_stage = "<SUMMARY> One.\n \nTwo\nlines. </SUMMARY><CAPTION> Thr"
    assert split_steps(open_stage, LLAVA_COT) == ["One.", "Two\nlines.", "Thr"]
    assert split_steps("No tags.\n\n\nAt all.", LLAVA_COT) == ["No tags.", "At all."]
    thought = "<think>\nHm.\n\nAha.\n</think>\n\n<answer>Two.</answer>"
    assert split_steps(thought, make_format("think,answer")) == ["Hm.", "Aha.", "Two."]
    assert split_steps(" \n", LLAVA_COT) == []


@given(st.text(alphabet="ab \n<>/SUMARYCPTION", max_size=80))
def test_no_text_is_lost_between_steps(text: str) -> None:
    bare = text
    for tag in (*LLAVA_COT.opening_tags, *LLAVA_COT.closing_tags):
        bare = bare.replace(tag, "")
    found = split_steps(text, LLAVA_COT)
    assert "".join("".join(found).split()) == "".join(bare.split())
    assert all(step == step.strip() != "" for step in found)


def test_the_scores_of_steps_become_one() -> None:
    for how, expected in (("min", 0.25), ("mean", 0.5), ("last", 0.75)):
        assert combine([0.5, 0.25, 0.75], how) == expected  # type: ignore[arg-type]


def test_the_turns_are_those_that_visualprm_was_trained_on() -> None:
    record = json.loads((FIXTURES / "visualprm.json").read_text())["conversations"]
    turns = step_turns(PROMPTS, QUESTION, STEPS)
    roles = {"system": "system", "human": "user", "gpt": "assistant"}
    expected = [(roles[turn["from"]], turn["value"]) for turn in record[:-1]]
    assert [(turn.role, turn.text.replace(PLACE, "<image>")) for turn in turns] == expected
    assert [turn.images for turn in turns] == [(), (PICTURE,), *[()] * (len(turns) - 2)]
    assert list(PROMPTS.signs) == [record[-1]["value"], "-"]


def test_pictures_keep_their_places_in_the_question() -> None:
    two = step_turns(PROMPTS, Question("Which?", (PICTURE, PICTURE)), ["a"])[1]
    assert two.text.startswith(f"### Question:\n{PLACE}\n{PLACE}\nWhich?")
    own = step_turns(PROMPTS, Question(f"Is {PLACE} red?", (PICTURE,)), ["a"])[1]
    assert own.text.startswith(f"### Question:\nIs {PLACE} red?")
    assert step_turns(PROMPTS, Question("Why?"), ["a"])[1].text.startswith("### Question:\nWhy?\n\n### Sol")


RIGHT = {"I will count.": 0.9, "There are 3 cubes.": 0.5, "3 minus 1 is 2.": 0.2, "2": 0.6}


def signs(prompt: Prompt, options: Sequence[str]) -> list[float]:
    """The probability of "+" after a step, which its turn ends with."""
    import math

    last = prompt.messages[-1].text
    p = next(value for step, value in RIGHT.items() if last.endswith(step))
    return [math.log(p) - 1.0, math.log(1 - p) - 1.0]  # other tokens have some of the probability, too


@pytest.mark.parametrize(("how", "score"), [(None, 0.55), ("mean", 0.55), ("min", 0.2), ("last", 0.6)])
async def test_a_score_is_made_of_the_probabilities_of_plus(how: Any, score: float) -> None:
    model = ScriptedModel({}, signs)
    judge = ProcessRewardJudge(JudgeSetup(model, step_scores=how))
    assert judge.model_name == ("scripted" if how is None else f"scripted ({how} of steps)")
    found = await judge.score(QUESTION, "answer", "", made(WHOLE), seed=0)
    assert found.value == pytest.approx(score)
    asked = [prompt for prompt, options in model.choices if options == ("+", "-")]
    assert len(asked) == (1 if how == "last" else 4)
    assert all(prompt.messages[-1].role == "user" and not prompt.prefix for prompt in asked)
    tokens = sum(map(model.count_tokens, asked))
    assert found.usage == Usage(prompt_tokens=tokens, model_calls=len(asked))
    assert found.reply.startswith("Steps: 0.")


async def test_steps_of_the_context_are_not_asked_about_again() -> None:
    model = ScriptedModel({}, signs)
    judge = ProcessRewardJudge(JudgeSetup(model))
    context = tagged("summary", WORDS["summary"])
    first = await judge.score(QUESTION, "summary", "", made(context), seed=0)
    caption = made("\n\n" + tagged("caption", WORDS["caption"]))
    second = await judge.score(QUESTION, "caption", context, caption, seed=0)
    assert (first.value, second.value) == (pytest.approx(0.9), pytest.approx(0.7))
    assert len(model.choices) == 2


def writing(prompt: Prompt, rng: random.Random) -> str:
    return tagged("conclusion", rng.choice(["I will count.", "3 minus 1 is 2.", "2", "There are 3 cubes."]))


async def test_best_of_n_keeps_the_candidate_of_the_best_steps_also_behind_a_server() -> None:
    settings: dict[str, Any] = {"method": "best-of-n", "n": 12, "judge": "prm", "sampling": Sampling(seed=1)}
    trace = await ask(
        ScriptedModel(writing), PICTURE, "q", **settings,
        resources=Resources(judge_model=ScriptedModel({}, signs)),
    )  # fmt: skip
    assert trace.text == tagged("conclusion", "I will count.")

    class Signs(Double):
        """Gives the likeliest tokens as a server with a chat model does."""

        async def _choice(self, index: int, sample: Any, prompt: Prompt, fields: dict[str, Any]) -> Any:
            choice = await super()._choice(index, sample, prompt, fields)
            if fields.get("top_logprobs") and "Copy this" not in prompt.messages[-1].text:
                plus, minus = signs(prompt, ("+", "-"))
                top = [{"token": "-", "logprob": minus}, {"token": "+", "logprob": plus}]
                choice["logprobs"] = {"content": [{"token": "+", "logprob": plus, "top_logprobs": top}]}
            return choice

    with Signs(ScriptedModel(lambda prompt, rng: "+")) as server, closing(open_model(server.url)) as served:
        again = await ask(
            ScriptedModel(writing), PICTURE, "q", **settings, resources=Resources(judge_model=served)
        )
    assert again.text == trace.text
    assert [v.scores for v in again.verdicts] == [
        None if v.scores is None else pytest.approx(v.scores) for v in trace.verdicts
    ]


# Critics.


@pytest.mark.parametrize(
    ("reply", "score"),
    [
        ("Well reasoned, but one cube is missed. Score: 85.", 0.85),
        ("**Score:** 85/100\nIt is right.", 0.85),
        ("Score: 20? No. Score: 70", 0.7),
        ("Score: <|begin_of_box|>7<|end_of_box|>", 0.07),
        (r"\boxed{40}", 0.4),
        ("85\nThe response is right in all but one thing.", 0.85),
        ("I count 3 cubes and 4 spheres.", None),
        ("Score: 850", None),
        ("Score: N.", None),
        ("Scores: 85", None),
        ("All of it is seen. Verdict: correct.", 1),
        ("One is missed.\nVerdict: incorrect.", 0),
        ("Verdict: correct. Score: 30", 0.3),
        ("", None),
    ],
)
def test_a_rating_is_read(reply: str, score: float | None) -> None:
    assert parse_score(reply, PROMPTS) == score


@given(
    st.text() | st.lists(st.sampled_from(["Score:", "8", ".", "**", "<|b|>", "\n", "/", "-"])).map("".join)
)
def test_whatever_a_critic_writes_is_a_share_or_nothing(reply: str) -> None:
    found = parse_score(reply, PROMPTS)
    assert found is None or 0 <= found <= 1


@pytest.fixture
def critic_prompts() -> Any:
    return load_judge_prompts(FIXTURES / "llava-critic.yaml")


async def test_a_critic_rates_the_whole_answer_in_its_own_words(critic_prompts: Any) -> None:
    model = ScriptedModel(lambda prompt, rng: "It is right. Score: 90")
    resources = Resources(judge_prompts=critic_prompts)
    judge = make_judge("critic", model, make_request("best-of-n", judge="critic"), resources)
    found = await judge.score(QUESTION, "answer", "So: ", made("two"), seed=3)
    assert (found.value, found.reply, found.usage.model_calls) == (0.9, "It is right. Score: 90", 1)
    [call] = model.calls
    assert call.prompt.messages[0].images == (PICTURE,)
    assert call.prompt.messages[0].text.endswith(
        "follows:\nQuestion: [How many are left?]\nThe LMM response: [So: two]\nASSISTANT:\n"
    )
    assert (call.sampling.temperature, call.sampling.stop) == (0.0, ())


@pytest.mark.parametrize(
    ("reply", "value"),
    [
        ("1.0", 1),
        ("0.0", 0),
        ('{\n  "analysis": "2 of 3 are named",\n  "score": 0.7\n}', 0.7),
        (r"The count is right. \boxed{Correct}", 1),
        ("<|begin_of_box|>0.0<|end_of_box|>", 0),
        (r"\boxed{Incorrect}", 0),
        ("I cannot say whether it is Correct.", 0.5),
    ],
)
async def test_a_critic_may_reply_in_another_form(reply: str, value: float) -> None:
    model = ScriptedModel(lambda prompt, rng: reply)
    resources = Resources(judge_prompts=load_judge_prompts(FIXTURES / "glm-reward.yaml"))
    judge = make_judge("critic", model, make_request("best-of-n", judge="critic"), resources)
    found = await judge.score(QUESTION, "answer", "So: ", made("two"), seed=3)
    assert found.value == value
    lines = model.calls[0].prompt.messages[0].text.splitlines()
    assert lines[1:] == ["Question: How many are left?", "Response: So: two"]


async def test_a_critic_chooses_and_a_reply_without_a_rating_is_in_the_middle() -> None:
    def script(prompt: Prompt, rng: random.Random) -> str:
        text = prompt.messages[-1].text
        if "Rate the response" not in text:
            return writing(prompt, rng)
        return "Score: 70." if "minus" in text else "Score: 30." if "cubes." in text else "I cannot say."

    trace = await ask(ScriptedModel(script), PICTURE, "q", method="weighted-best-of-n", n=12, judge="critic")
    texts = {one.id: one.text for one in trace.candidates}
    by_text = {texts[score.candidate]: score.value for score in trace.scores}
    assert by_text[tagged("conclusion", "3 minus 1 is 2.")] == 0.7
    assert by_text[tagged("conclusion", "2")] == 0.5
    best = await ask(ScriptedModel(script), PICTURE, "q", method="best-of-n", n=12, judge="critic")
    assert best.text == tagged("conclusion", "3 minus 1 is 2.")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("signs: ['+', '+']", "signs"),
        ("signs: [yes, no]", "put them in quotes"),
        ("score: ' '", "score"),
        ("score_range: [10, 10]", "lowest and the highest"),
    ],
)
def test_wording_that_cannot_be_read_is_refused(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "prompts.yaml"
    file.write_text(text)
    with pytest.raises(DataError, match=words):
        load_judge_prompts(file)


# Reward models with a number a step.


class Steps:
    """A process reward model: the length of each step's text."""

    name = "steps"

    def __init__(self) -> None:
        self.answers: list[str] = []

    async def reward(self, prompt: Prompt, answer: str) -> Reward:
        self.answers.append(answer)
        values = tuple(float(len(step)) for step in answer.split("<extra_0>")[:-1])
        return Reward(values[-1], 7, None, values)


@pytest.mark.parametrize(("how", "score"), [(None, 2.0), ("last", 2.0), ("min", 1.0), ("mean", 2.0)])
async def test_a_reward_model_with_a_number_a_step_gets_marked_steps(how: Any, score: float) -> None:
    model, prompts = Steps(), PROMPTS.model_copy(update={"step_end": "<extra_0>"})
    judge: Judge = RewardJudge(JudgeSetup(model, prompts=prompts, step_scores=how))
    context = tagged("summary", "a")
    found = await judge.score(QUESTION, "caption", context, made(tagged("caption", "bbb\n\ncc")), seed=0)
    assert (found.value, found.reply) == (score, "Steps: 1.00, 3.00, 2.00.")
    assert model.answers == ["a<extra_0>bbb<extra_0>cc<extra_0>"]
