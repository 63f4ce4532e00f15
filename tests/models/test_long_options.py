"""Options of a hundred tokens and more: scored exactly, in one batch, after a cached prefix."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from opening import Tiny, noise

from llava_cot.core.question import question_text
from llava_cot.models.base import Message, Prompt, Sampling
from llava_cot.models.registry import open_model
from llava_cot.scenes.items import make_item

KINDS = ["mllama", "llava", "qwen2.5-vl"]
PREFIX = "<SUMMARY> I will count what is left. </SUMMARY>"
# As stages are: the first of them has some 150 tokens.
TEXTS = [
    "\n\n<CAPTION> There are " + ", ".join(f"{n} red cubes and a blue ball" for n in numbers) + ". </CAPTION>"
    for numbers in (range(8), (3, 1), (2, 7, 1, 8, 2))
]


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest, opened: Callable[[str], Tiny]) -> Tiny:
    return opened(request.param)


def forward(kind: Tiny, messages: tuple[Message, ...], ids: list[int], count: int) -> float:
    """The log-probability of the last `count` ids after the messages, by one pass of transformers alone."""
    inputs = kind.inputs(messages)
    more = torch.tensor([ids])
    longer = {**inputs, "input_ids": torch.cat([inputs["input_ids"], more], 1)}
    for name in ("attention_mask", "mm_token_type_ids", "cross_attention_mask"):
        if name in inputs:
            last = inputs[name][:, -1:]
            last = torch.zeros_like(last) if name == "mm_token_type_ids" else last
            longer[name] = torch.cat([inputs[name], last.expand(-1, len(ids), *last.shape[2:])], 1)
    with torch.no_grad():
        logprobs = kind.network(**longer).logits[0, -count - 1 : -1].log_softmax(-1)
    return float(logprobs.gather(1, more.T[-count:]).sum())


async def test_a_stage_has_the_log_probability_of_one_plain_pass(kind: Tiny) -> None:
    tokenizer = kind.processor.tokenizer
    messages = (Message("user", "How many are left?", (noise(3),)),)
    before, *both = (tokenizer.encode(PREFIX + text, add_special_tokens=False) for text in ("", *TEXTS))
    assert all(ids[: len(before)] == before for ids in both)
    assert len(both[0]) - len(before) > 100
    expected = [forward(kind, messages, ids, len(ids) - len(before)) for ids in both]
    prompt = Prompt(messages, PREFIX)
    stats = kind.model.stats
    known = stats.prefills, stats.prefill_tokens
    together = await asyncio.gather(*(kind.model.choose(prompt, [text]) for text in TEXTS))
    assert [score for [score] in together] == pytest.approx(expected, abs=2e-3)
    # One pass for what all share, one for the texts of similar length.
    assert stats.prefills - known[0] <= 4
    for model in (kind.model, kind.alone):
        again = [(await model.choose(prompt, [text]))[0] for text in TEXTS]
        assert again == pytest.approx(expected, abs=2e-3)


async def test_candidates_are_scored_by_the_tokens_that_were_sampled() -> None:
    """So their scores are the log-probabilities that they were sampled with."""
    model = open_model("mini", device="cpu")
    question = make_item("test", 3, 0).ask()
    prompt = Prompt.of(question_text(question), question.images)
    sampling = Sampling(temperature=1.3, top_p=1.0, max_tokens=200, stop=("</SUMMARY>",))
    [summary] = await model.sample(prompt, 1, sampling)
    begun = replace(prompt, prefix=summary.text, prefix_tokens=summary.tokens)
    captions = await model.sample(begun, 8, replace(sampling, stop=("</CAPTION>",)))
    assert len({one.text for one in captions}) > 2
    before = replace(model.stats)
    found = await asyncio.gather(
        *(model.choose(replace(prompt, prefix=summary.text), [one.text]) for one in captions)
    )
    assert [score for [score] in found] == pytest.approx([one.logprob for one in captions], abs=5e-3)
    assert model.stats.encodings == before.encodings, "the picture was encoded again"
    assert model.stats == before, "what was sampled was computed again"
    model._sampled.clear()
    again = await asyncio.gather(
        *(model.choose(replace(prompt, prefix=summary.text), [one.text]) for one in captions)
    )
    assert [score for [score] in again] == pytest.approx([score for [score] in found], abs=5e-3)
    longest = max(len(one.tokens) for one in captions)
    assert model.stats.prefill_tokens - before.prefill_tokens <= 8 * longest
    assert model.stats.prefills - before.prefills <= 3
    model.close()


async def test_a_sample_whose_end_was_cut_off_is_computed(opened: Callable[[str], Tiny]) -> None:
    """Its last token was drawn with what follows the stop string, and its score would be that of both."""
    model, tokenizer = opened("llava").model, opened("llava").processor.tokenizer
    crossing = 0
    for seed in range(40):
        prompt = Prompt.of("How many are left?", (noise(4),))
        settings = Sampling(temperature=2.0, top_p=1.0, max_tokens=40, seed=seed, stop=("e", "o", "a"))
        [sample] = await model.sample(prompt, 1, settings)
        ids = tokenizer.encode(sample.text, add_special_tokens=False) if sample.text else []
        if ids != list(sample.tokens) or sample.finish != "stop":
            continue
        [score] = await model.choose(prompt, [sample.text])
        model._sampled.clear()
        [exact] = await model.choose(prompt, [sample.text])
        assert score == pytest.approx(exact, abs=5e-3)
        crossing += abs((sample.logprob or 0) - exact) > 0.01
    assert crossing, "no token crossed the end of a sample"
