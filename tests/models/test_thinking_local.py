"""Local models whose chat template opens the thinking: they go on with what they wrote, token for token."""

from collections.abc import Iterator

import pytest
import tiny
import torch
from opening import Tiny, noise

from llava_cot import open_model
from llava_cot.core.question import Question
from llava_cot.core.stages import THINKING, Stage, StageFormat, make_format, validate
from llava_cot.models.base import Message, Prompt, Sampling
from llava_cot.models.local.checkpoint import load_checkpoint
from llava_cot.models.local.model import LocalModel
from llava_cot.search.ask import ask

PICTURE = noise(1)
MESSAGES = (Message("user", "How many?", (PICTURE,)),)
QUESTION = Question("How many?", (PICTURE,))


@pytest.fixture(scope="module")
def thinker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tiny]:
    folder = tiny.make("llava", tmp_path_factory.mktemp("thinker"), thinking=True)
    loaded = load_checkpoint(folder, "cpu", "float32")
    model = LocalModel(folder, device="cpu")
    yield Tiny(folder, model, model, loaded.model, loaded.processor)
    model.close()


def by_hand(thinker: Tiny, text: str, tokens: int) -> list[int]:
    """Greedy tokens after a text that follows the template's opening tag."""
    inputs = thinker.inputs(MESSAGES)
    tokenizer = thinker.processor.tokenizer
    more = tokenizer(text, add_special_tokens=False, return_tensors="pt")
    for name in ("input_ids", "attention_mask"):
        inputs[name] = torch.cat([inputs[name], more[name].to(inputs[name].dtype)], dim=1)
    made = thinker.network.generate(**inputs, max_new_tokens=tokens, do_sample=False)
    return made[0, inputs["input_ids"].shape[1] :].tolist()


async def test_a_thought_is_cut_closed_and_answered(thinker: Tiny) -> None:
    trace = await ask(
        thinker.model, None, QUESTION, method="single", fmt=THINKING, think_tokens=9,
        sampling=Sampling(temperature=0, max_tokens=20),
    )  # fmt: skip
    decode = thinker.processor.tokenizer.decode
    thought = decode(thinker.generate(MESSAGES, 9))
    answer = decode(by_hand(thinker, f"{thought}\n</think>", 11))
    assert trace.text.startswith(f"<think>{thought}\n</think>")
    assert trace.staging == "thinking" and not validate(trace.text, THINKING)
    assert trace.answer == answer.strip()
    assert (trace.usage.model_calls, trace.usage.completion_tokens) == (2, 20)


async def test_a_thought_that_ends_by_itself_goes_on_as_if_never_stopped(thinker: Tiny) -> None:
    tokenizer = thinker.processor.tokenizer
    ids = thinker.generate(MESSAGES, 24)
    texts = [tokenizer.decode(ids[: i + 1]) for i in range(len(ids))]
    # The text of a whole token that comes only once, and not before the fourth, stands for the closing tag.
    at = next(
        i
        for i in range(4, 16)
        if (piece := texts[i][len(texts[i - 1]) :]).strip() == piece != ""
        and piece.isascii()
        and texts[-1].count(piece) == 1
        and piece not in "<think><answer></answer>"
    )
    close = texts[at][len(texts[at - 1]) :]
    fmt = StageFormat(
        (Stage("thinking", "<think>", close), Stage("answer", "<answer>", "</answer>")), thinking=True
    )
    for method in ("single", "stage-beam"):
        trace = await ask(
            thinker.model, None, QUESTION, method=method, n=1, fmt=fmt,
            sampling=Sampling(temperature=0, max_tokens=24 if method == "single" else 23 - at),
        )  # fmt: skip
        assert trace.text.startswith(f"<think>{texts[at]}\n\n<answer>"), method
        assert trace.stages["answer"] == texts[-1][len(texts[at]) :].strip(), method


@pytest.mark.parametrize(
    "method", ["stage-beam", "sentence-beam", "best-of-n", "majority", "stage-wise-beam"]
)
async def test_searches_run(thinker: Tiny, method: str) -> None:
    trace = await ask(
        thinker.model, None, QUESTION, method=method, fmt=THINKING, think_tokens=8, min_think_tokens=4,
        sampling=Sampling(max_tokens=16),
    )  # fmt: skip
    assert trace.staging == "thinking"
    assert {found.kind for found in validate(trace.text, THINKING)} <= {"nested", "empty"}
    assert list(trace.stages) == ["thinking", "answer"] and trace.stages["answer"] is not None


def test_arguments_of_the_chat_template(thinker: Tiny) -> None:
    assert thinker.model.thinks(THINKING)
    plain = open_model(thinker.folder, device="cpu", chat_template_kwargs={"enable_thinking": False})
    try:
        assert not plain.thinks(THINKING)  # type: ignore[attr-defined]
        prompt = Prompt(MESSAGES)
        assert plain.count_tokens(prompt) > thinker.model.count_tokens(prompt)
    finally:
        plain.close()


async def test_prompted_stages_and_judges_come_after_an_empty_thought(
    thinker: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts: list[Prompt] = []
    sample = thinker.model.sample

    async def noted(prompt: Prompt, *rest: object) -> object:
        prompts.append(prompt)
        return await sample(prompt, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(thinker.model, "sample", noted)
    trace = await ask(
        thinker.model, None, Question("How many?"), fmt=make_format("look,say"), stages="prompted",
        sampling=Sampling(max_tokens=4),
    )  # fmt: skip
    assert trace.staging == "prompted" and trace.verdicts
    assert prompts and all(prompt.prefix.startswith("\n</think>\n\n") for prompt in prompts)
    assert all(prompt.thinking == ("<think>", "</think>") for prompt in prompts)
