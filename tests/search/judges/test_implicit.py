"""The judge implicit, by models whose log-probabilities are known, word by word."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from typing import Any

import httpx
import pytest
from command import run
from playing import PICTURE, QUESTION, WORDS, tagged
from serving import ASK, Served, served

from llava_cot import ask, ask_sync
from llava_cot.core.question import Question, question_text
from llava_cot.core.stages import LLAVA_COT, make_format
from llava_cot.core.trace import Candidate, Usage
from llava_cot.errors import RequestError
from llava_cot.models.base import Prompt, Sampling
from llava_cot.models.scripted import ScriptedModel
from llava_cot.search.ask import make_judge
from llava_cot.search.calibration import Calibration
from llava_cot.search.judges import Judge
from llava_cot.search.request import make_request, parse_spec
from llava_cot.search.resources import ResourceOptions, Resources, ResourceSpec, for_requests, read_resources

CONTEXT = tagged("summary", "plan") + tagged("caption", "three cubes")


class Known(ScriptedModel):
    """A word of a text, wherever it stands, has the log-probability that `words` says, or else -1."""

    def __init__(self, words: Mapping[str, float], script: Any = None, name: str = "base") -> None:
        super().__init__(script or {}, self._logprobs)
        self.words, self.name = words, name

    def _logprobs(self, prompt: Prompt, options: Sequence[str]) -> list[float]:
        return [self.total(option) for option in options]

    def total(self, text: str) -> float:
        return sum(self.words.get(word, -1.0) for word in re.findall(r"\w+", text))

    def price(self, prompt_tokens: int, completion_tokens: int) -> float:
        return 0.5 * prompt_tokens


def made(text: str, stage: str = "reasoning") -> Candidate:
    return Candidate.model_validate({"id": 0, "parent": None, "round": 0, "stage": stage, "text": text})


def implicit(model: Any, weight: float = 0.0, fmt: Any = LLAVA_COT, **resources: Any) -> Judge:
    ready = Resources(likelihood_weight=weight, **resources)
    request = make_request("best-of-n", judge="implicit", resources=ready, fmt=fmt)
    return make_judge("implicit", model, request, ready)


TRAINED = Known({"right": -0.5, "wrong": -4.0, "cubes": -0.25}, name="trained")
BASE = Known({"right": -2.0, "wrong": -1.5})


@pytest.mark.parametrize("weight", [0.0, 0.5, 1.0])
async def test_a_score_is_the_log_ratio_of_all_words_so_far(weight: float) -> None:
    judge = implicit(BASE, weight, judge_model=TRAINED)
    for text in ("right right", "wrong", ""):
        candidate = made(tagged("reasoning", text) if text else "")
        found = await judge.score(QUESTION, "reasoning", CONTEXT, candidate, seed=0)
        whole = CONTEXT + candidate.text
        plain = BASE.total(whole)
        assert found.value == pytest.approx(TRAINED.total(whole) - plain + weight * plain)
    assert (judge.name, judge.can_score, judge.probability) == ("implicit", True, False)
    assert judge.model_name == "trained / base" + (f" + {weight:g} likelihood" if weight else "")


async def test_the_reference_is_not_asked_where_it_cancels_out() -> None:
    candidate, calls = made(tagged("reasoning", "right wrong")), []

    class Asked(Known):
        def _logprobs(self, prompt: Prompt, options: Sequence[str]) -> list[float]:
            calls.append(self.name)
            return super()._logprobs(prompt, options)

    trained, base = Asked(TRAINED.words, name="trained"), Asked(BASE.words)
    costs = []
    for weight in (0.0, 1.0):
        found = await implicit(base, weight, judge_model=trained).score(
            QUESTION, "reasoning", CONTEXT, candidate, seed=0
        )
        costs.append((tuple(calls), found.usage.model_calls))
        calls.clear()
    assert costs == [(("trained", "base"), 2), (("trained",), 1)]


async def test_what_was_a_candidate_is_not_computed_again_as_the_context() -> None:
    trained, base = Known({"cubes": -0.25}), Known({})
    judge = implicit(base, judge_model=trained)
    asked = Question("Which?", (PICTURE,), options=("left", "right"))
    caption, reasoning = made(CONTEXT, "caption"), made(" Two cubes remain.")
    first = await judge.score(asked, "caption", "", caption, seed=0)
    second = await judge.score(asked, "reasoning", CONTEXT, reasoning, seed=0)
    again = await judge.score(asked, "reasoning", CONTEXT, reasoning, seed=0)
    assert (first.value, second.value, again.value) == (0.75, 1.5, 1.5)
    question = Prompt.of(question_text(asked), (PICTURE,))
    begun = Prompt.of(question_text(asked), (PICTURE,), CONTEXT)
    expected = [(question, (CONTEXT,)), (begun, (reasoning.text,)), (begun, (reasoning.text,))]
    assert trained.choices == base.choices == expected
    whole = base.count_tokens(Prompt.of(question_text(asked), (PICTURE,), CONTEXT + reasoning.text))
    assert second.usage == Usage(prompt_tokens=2 * whole, model_calls=2, usd=float(whole))


def drawing(name: str, words: Mapping[str, float]) -> Known:
    """A model that writes right and wrong stages, and finds all wrong ones likelier than the right ones."""

    def script(prompt: Prompt, rng: random.Random) -> str:
        opened = [stage for stage in WORDS if f"<{stage.upper()}>" in prompt.prefix]
        begun = [stage for stage in opened if f"</{stage.upper()}>" not in prompt.prefix]
        return "\n\n".join(
            [f" </{stage.upper()}>" for stage in begun]
            + [
                tagged(stage, rng.choice(("wrong", "wrong", "right")) + rng.choice((" indeed.", ".")))
                for stage in WORDS
                if stage not in opened
            ]
        )

    return Known(words, script, name)


SPECS = (
    "stage-beam-8@implicit", "best-of-8@implicit", "weighted-best-of-8@implicit", "swires-8@implicit",
    "stage-wise-beam-8@implicit", "sentence-beam-8@implicit", "adaptive-stage-beam-8@implicit",
)  # fmt: skip


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("who", ["judge_model", "reference"])
async def test_every_method_keeps_what_the_trained_model_prefers(spec: str, who: str) -> None:
    trained, base = {"right": -0.5, "wrong": -4.0}, {"right": -2.0, "wrong": -1.5}
    answering, other = drawing("one", base), Known(trained, name="two")
    if who == "reference":  # the trained model answers
        answering, other = drawing("one", trained), Known(base, name="two")
    given: Any = {who: other, "calibration": Calibration("implicit", 0.0, 1.0)}
    method = parse_spec(spec).method
    trace = await ask(
        answering, PICTURE, "Is it?", method=method, n=8, judge="implicit",
        sampling=Sampling(seed=4), resources=Resources(**given).fitting(method, "implicit"),
    )  # fmt: skip
    texts = {0: ""}
    for one in trace.candidates:  # with what each continues
        texts[one.id] = ("" if one.parent is None else texts[one.parent]) + one.text
    ends = [text for text in texts.values() if "</CONCLUSION>" in text]
    assert any("wrong" in text for text in texts.values()), "there was nothing to choose from"
    assert trace.text.count("right") == max(text.count("right") for text in ends)
    assert trace.scores or trace.verdicts
    assert trace.judge_model == ("two / one" if who == "judge_model" else "one / two")


async def test_candidates_on_different_paths_are_compared_by_the_whole_of_them() -> None:
    """A good reasoning after a bad caption is worth less than a fair one after a good caption."""
    judge = implicit(BASE, judge_model=TRAINED)
    bad, good = tagged("caption", "wrong wrong"), tagged("caption", "right")
    after_bad = await judge.score(QUESTION, "reasoning", bad, made("right"), seed=0)
    after_good = await judge.score(QUESTION, "reasoning", good, made("fair"), seed=0)
    assert after_good.value == 1.5 > after_bad.value == -3.5


async def test_a_thought_is_scored_as_the_model_writes_it() -> None:
    fmt = make_format("thinking")
    trained = Known({})
    judge = implicit(Known({}), fmt=fmt, judge_model=trained)
    opened, closed = fmt.opening_tags[0], fmt.closing_tags[0]
    answer = f"\n\n{fmt.opening_tags[1]}Two.{fmt.closing_tags[1]}"
    await judge.score(QUESTION, fmt.names[0], "", made(f"{opened}\nHm.\n{closed}"), seed=0)
    await judge.score(QUESTION, fmt.final, f"{opened}\nHm.\n{closed}", made(answer), seed=0)
    prompts = [(prompt.prefix, *options) for prompt, options in trained.choices]
    assert prompts == [("", f"\nHm.\n{closed}"), (f"\nHm.\n{closed}", "\n\nTwo.")]
    assert all(prompt.thinking == (opened, closed) for prompt, _ in trained.choices)


class Adapted(Known):
    """As a local model declares an adapter of another checkpoint."""

    adapted, weights = "base-folder", "base-folder"


class Short(Known):
    """A model that scores short options alone, as many servers."""

    scores_texts = False


@pytest.mark.parametrize(
    ("answering", "resources", "words"),
    [
        (BASE, {}, r"implicit needs a model that was trained .* --judge-model.*--reference"),
        (BASE, {"judge_model": BASE}, "implicit compares base with itself; pass another --judge-model"),
        (BASE, {"judge_model": Short({}, name="served")}, "log-probabilities of whole texts, which served"),
        (Short({}, name="served"), {"judge_model": TRAINED}, "whole texts, which served does not give"),
        (
            type("Other", (Known,), {"weights": "other-folder"})({}),
            {"judge_model": Adapted({}, name="lora")},
            "the judge model lora is an adapter of base-folder.*; pass --reference base-folder",
        ),
    ],
)
async def test_what_cannot_work_is_refused_before_any_model_runs(
    answering: Known, resources: dict[str, Any], words: str
) -> None:
    with pytest.raises(RequestError, match=words):
        await ask(answering, None, "q", judge="implicit", resources=Resources(**resources))
    assert not answering.calls


async def test_an_adapter_is_compared_with_the_base_that_answers() -> None:
    base = type("Base", (Known,), {"weights": "base-folder", "adapted": None})
    judge = implicit(base({}), judge_model=Adapted({}, name="lora"))
    assert judge.model_name == "lora / base"


@pytest.fixture(scope="module")
def server() -> Any:
    given = Resources(judge_model=Known({"right": -0.5, "wrong": -4.0}, name="trained"))
    with served(drawing("base", {"right": -2.0, "wrong": -1.5}), resources=given) as running:
        yield running


def test_a_server_offers_it_where_it_has_the_trained_model(server: Served) -> None:
    reply = server.ask(model="base:stage-beam-8@implicit", extra_body={"include_trace": True})
    trace = reply.choices[0].trace
    assert (trace["judge"], trace["judge_model"]) == ("implicit", "trained / base")
    assert "wrong" not in trace["text"]
    with served(drawing("base", {})) as other:
        body = {"model": "base:stage-beam-4@implicit", "messages": ASK}
        refusal = httpx.post(f"{other.url}/chat/completions", json=body, timeout=60)
    assert refusal.status_code == 400 and "implicit needs a model" in refusal.json()["error"]["message"]


def test_all_candidates_are_scored_at_once() -> None:
    """In a tournament too, each once: the engine runs them in one batch."""
    running, most = 0, 0

    class Counting(Known):
        async def choose(self, prompt: Prompt, options: Sequence[str]) -> list[float]:
            nonlocal running, most
            running += 1
            most = max(most, running)
            found = await super().choose(prompt, options)
            running -= 1
            return found

    def script(prompt: Prompt, rng: random.Random) -> str:
        return tagged("conclusion", f"{rng.random()}")

    trained = Counting({}, name="trained")
    ask_sync(
        Known({}, script), None, "q", method="best-of-n", n=6, judge="implicit",
        resources=Resources(judge_model=trained),
    )  # fmt: skip
    assert (most, len(trained.choices)) == (6, 6)


def test_the_resources_are_read_described_and_refused_where_they_have_no_use(tmp_path: Any) -> None:
    named = ResourceOptions(judge_model=str(tmp_path), reference="mini", likelihood_weight=0.5)
    spec = read_resources(named)
    used = {"--judge-model": str(tmp_path.resolve()), "--reference": "mini", "--likelihood-weight": "0.5"}
    assert spec.describe("stage-beam", "implicit") == used
    assert spec.describe("stage-beam", "logits") == {"--judge-model": str(tmp_path.resolve())}
    request = parse_spec("stage-beam-4@implicit").request(resources=spec)
    assert for_requests(spec, [request]).judge_model_kind == "model"
    with pytest.raises(ValueError, match="--reference is only used by the judge implicit; drop it"):
        for_requests(ResourceSpec(reference="mini"), [make_request("best-of-n", judge="self")])


def test_a_model_that_is_its_own_reference_is_refused_on_the_command_line() -> None:
    done = run("ask", "none", "Why?", "--judge", "implicit", "--judge-model", "mini")
    assert done.returncode == 2 and b"the judge implicit compares mini with itself" in done.stderr
