import asyncio
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from playing import PICTURE, SEARCHES, WHOLE, WORDS, Rewarder, remainder, resources_for, tagged
from pydantic import ValidationError

from llava_cot import ask, ask_sync
from llava_cot.core.question import Question
from llava_cot.core.stages import make_format
from llava_cot.errors import ImageError
from llava_cot.models.base import Prompt, Sampling, explain_sampling
from llava_cot.models.scripted import ScriptedModel
from llava_cot.search.judge_prompts import default_prompts
from llava_cot.search.methods import METHODS

CRITERIA = default_prompts().criteria


def noisy(prompt: Prompt, rng: random.Random) -> str:
    """Answers in stages, with different reasoning each time; judges when asked to judge."""
    asked = prompt.messages[0].text
    if "Verdict:" in asked:
        return "It holds. Verdict: correct."
    if "I choose response" in asked:
        return f"Since it is better, I choose response {rng.choice((1, 2))}."
    begun = [stage for stage in WORDS if f"<{stage.upper()}>" in prompt.prefix]
    close = f" </{begun[-1].upper()}>" if begun and not prompt.prefix.endswith(">") else ""
    rest = (tagged(s, f"{WORDS[s]} {rng.random()}.") for s in WORDS if s not in begun)
    return close + " ".join(rest)


def asked_of(model: ScriptedModel) -> list[Prompt]:
    return [call.prompt for call in model.calls] + [prompt for prompt, _ in model.choices]


def pictured(prompt: Prompt) -> bool:
    """Whether the one message of the user, or the first after instructions, has the picture."""
    return next(message.images for message in prompt.messages if message.role == "user") == (PICTURE,)


@pytest.mark.parametrize(("method", "judge"), [*SEARCHES, ("best-of-n", "reward")])
async def test_no_method_and_no_judge_loses_the_picture(method: str, judge: str | None) -> None:
    """Every prompt has it, but the check of reasoning, which the paper makes without."""
    model, given = ScriptedModel(noisy), resources_for(judge)
    trace = await ask(
        model,
        None,
        Question("How many?", (PICTURE,), reference="2"),
        method=method,
        n=None if METHODS[method].single else 3,
        judge=judge,
        resources=given,
    )
    if isinstance(given.judge_model, Rewarder):
        assert all(prompt.messages[0].images == (PICTURE,) for prompt, _ in given.judge_model.asked)
        assert given.judge_model.asked
    checks = sum("Verdict:" in call.prompt.messages[0].text for call in model.calls)
    searched = method in ("stage-beam", "adaptive-stage-beam")
    assert checks == (3 if searched and judge == "self" else 0)
    assert all("Verdict:" in prompt.messages[0].text for prompt in asked_of(model) if not pictured(prompt))
    assert any(map(pictured, asked_of(model)))
    assert trace.answer is not None and trace.answer.startswith(WORDS["conclusion"])
    scored = METHODS[method].scores
    rounds = {trace.candidates[number].round for number in trace.chosen}
    assert len(trace.verdicts) == (0 if judge is None or scored else 2 * len(rounds))
    assert bool(trace.scores) == scored
    assert trace.judge == judge


async def test_the_defaults_are_the_paper_s() -> None:
    model = ScriptedModel(noisy)
    trace = await ask(model, None, "How many?")
    assert (trace.method, trace.n, trace.judge, trace.seed) == ("stage-beam", 2, "self", 0)
    assert (trace.temperature, trace.top_p, trace.max_tokens) == (0.6, 0.9, 2048)
    assert len(trace.candidates) == 8
    assert {(c.sampling.temperature, c.sampling.top_p) for c in model.calls} == {(0.6, 0.9)}
    criteria = [c for call in model.calls for c in CRITERIA.values() if c in call.prompt.messages[0].text]
    assert criteria == [CRITERIA[stage] for stage in WORDS]
    assert (await ask(model, None, "How many?", method="single")).n == 1


async def test_settings_reach_the_model() -> None:
    model = ScriptedModel(noisy)
    await ask(
        model,
        None,
        "q",
        sampling=Sampling(temperature=0, top_p=0.5, max_tokens=77),
        method="best-of-n",
        judge="self",
    )
    assert {(c.sampling.temperature, c.sampling.top_p) for c in model.calls} == {(0, 0.5)}
    assert [c.sampling.max_tokens for c in model.calls] == [77, 256]


@pytest.mark.parametrize("method", METHODS)
async def test_a_seed_settles_everything_and_gathering_nothing(method: str) -> None:
    async def one(seed: int, model: ScriptedModel) -> dict[str, Any]:
        n = None if METHODS[method].single else 4
        given = resources_for(METHODS[method].judge)
        trace = await ask(model, None, "q", method=method, n=n, sampling=Sampling(seed=seed), resources=given)
        return trace.model_dump(exclude={"usage": {"seconds"}, "candidates": {"__all__": {"tokens"}}})

    alone = [await one(seed, ScriptedModel(noisy)) for seed in range(4)]
    shared = ScriptedModel(noisy)
    assert await asyncio.gather(*(one(seed, shared) for seed in range(4))) == alone
    assert len({trace["text"] for trace in alone}) == 4


async def test_images_come_from_anywhere_and_in_any_number(tmp_path: Path) -> None:
    path = tmp_path / "red.png"
    PICTURE.pil.save(path)
    model = ScriptedModel(remainder(WHOLE))
    for source in (path, str(path), path.read_bytes(), Image.open(path), PICTURE, [PICTURE]):
        trace = await ask(model, source, "q", method="single")
        assert [image.sha256 for image in trace.question.images] == [PICTURE.sha256]
    trace = await ask(model, [path, PICTURE, path], "q", method="single")
    assert [image.name for image in trace.question.images] == ["red.png", "image", "red.png"]
    assert len(model.calls[-1].prompt.messages[0].images) == 3
    assert (await ask(model, [], "q", method="single")).question.images == ()


async def test_a_question_brings_its_images_and_options() -> None:
    model = ScriptedModel(noisy)
    asked = Question("Which?", (PICTURE,), id="3", options=("left", "right"), reference="A")
    trace = await ask(model, None, asked, method="single")
    assert model.calls[0].prompt.messages[0].text == "Which?\nA. left\nB. right"
    assert model.calls[0].prompt.messages[0].images == (PICTURE,)
    assert (trace.question.id, trace.question.text, trace.question.reference) == ("3", "Which?", "A")


async def test_a_custom_format_goes_all_the_way() -> None:
    def script(prompt: Prompt, rng: random.Random) -> str:
        if "Reply" in prompt.messages[0].text:
            return "I choose response 1."
        return f"<answer>{rng.random()}</answer>" if prompt.prefix else f"<think>{rng.random()}</think>"

    model = ScriptedModel(script)
    trace = await ask(model, None, "q", fmt=make_format("think,answer"))
    assert set(trace.stages) == {"think", "answer"}
    first, second = (c.prompt.messages[0].text for c in model.calls if "Reply" in c.prompt.messages[0].text)
    assert "think" in first
    assert str(trace.stages["think"]) in second


# Of the methods with a cut-off, each needs three stages.
TWO_STAGES = [search for search in SEARCHES if "calibration" not in METHODS[search[0]].accepts]


@pytest.mark.parametrize(("method", "judge"), [*TWO_STAGES, ("best-of-n", "reward")])
async def test_a_stage_may_be_named_answer_first_or_last(method: str, judge: str | None) -> None:
    for stages in ("think,answer", "answer,why"):
        first, last = make_format(stages).names

        def script(prompt: Prompt, rng: random.Random, first: str = first, last: str = last) -> str:
            if "Reply" in prompt.messages[0].text:
                return "I choose response 2."
            begun = "" if prompt.prefix else f"<{first}>{rng.random()}</{first}>"
            return f"{begun}<{last}>two</{last}>"

        trace = await ask(
            ScriptedModel(script),
            None,
            Question("q", reference="two"),
            method=method,
            judge=judge,
            fmt=make_format(stages),
            resources=resources_for(judge, "two"),
        )
        assert (trace.answer, trace.final) == ("two", last)
        assert set(trace.stages) == {first, last}
        judged = any(verdict.decided_by != "same" for verdict in trace.verdicts) or bool(trace.scores)
        agreed = method == "adaptive-stage-beam"  # all say "two", so that there is nothing to judge
        assert judged == (judge is not None and not agreed)


def test_the_synchronous_form() -> None:
    assert ask_sync(ScriptedModel(remainder(WHOLE)), PICTURE, "q", judge="likelihood").answer == "2"


async def test_the_synchronous_form_in_an_event_loop_says_what_to_write() -> None:
    with pytest.raises(RuntimeError, match=r"write await ask\(\.\.\.\)"):
        ask_sync(ScriptedModel({}), None, "q")


def refused(**settings: Any) -> Callable[[], Any]:
    return lambda: ask_sync(ScriptedModel({}), **({"image": None, "question": "q"} | settings))


def sampled(**options: Any) -> Callable[[], Any]:
    """The same for options of sampling, whose faults are put into a sentence where they enter."""

    def call() -> Any:
        try:
            sampling = Sampling(**options)
        except ValidationError as error:
            raise ValueError(explain_sampling(error)) from None
        return refused(sampling=sampling)()

    return call


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (refused(method="magic"), "no method 'magic'; choose one of single, direct, majority, "),
        (refused(judge="reward"), "needs a reward model; pass one with --judge-model"),
        (
            refused(method="weighted-best-of-n", judge="self"),
            "needs scores, and self gives none; choose one of",
        ),
        (refused(judge="coin"), "no judge 'coin'; choose one of self, logits, likelihood"),
        (refused(n=0), "n is 0; a question needs at least one candidate"),
        (refused(n=-3, method="single"), "n is -3"),
        *(
            (refused(n=2, method=name), f"{name} takes one sample, not 2")
            for name, kind in METHODS.items()
            if kind.single
        ),
        (refused(method="majority", judge="self"), "majority uses no judge"),
        (refused(method="adaptive-best-of-n", judge="self"), "needs scores, and self gives none"),
        (
            refused(method="adaptive-best-of-n", judge="likelihood"),
            "needs probabilities, and the scores of likelihood are none; choose",
        ),
        (refused(method="prism"), "prism needs a second model that reasons; pass one with --reasoner"),
        (refused(method="cot-few-shot"), "cot-few-shot needs worked examples; pass one with --examples"),
        (sampled(temperature=-1), "temperature is -1; give a number of at least 0"),
        (sampled(temperature=float("nan")), "temperature is nan"),
        (sampled(top_p=0), "top_p is 0"),
        (sampled(top_p=1.5), "top_p is 1.5"),
        (sampled(max_tokens=0), "max_tokens is 0"),
        (refused(question=" \n"), "the question is empty"),
        (refused(image=PICTURE, question=Question("q", (PICTURE,))), "has images of its own"),
        (refused(question=Question("q", options=("x",) * 27)), "27 options"),
    ],
)
def test_what_cannot_be_done_is_refused_in_one_sentence(call: Callable[[], Any], words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_the_synchronous_form_raises_the_error_alone() -> None:
    with pytest.raises(ValueError, match="no method 'magic'") as caught:
        ask_sync(ScriptedModel({}), None, "q", method="magic")
    assert caught.value.__context__ is None


def test_an_image_that_cannot_be_read_is_refused() -> None:
    with pytest.raises(ImageError):
        refused(image="/does/not/exist.png")()
