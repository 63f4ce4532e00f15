"""Version 1 of the published procedure, as plainly as transformers runs it: what our engine is compared with.

Stage-level beam search judged by the model itself, with the costs that the published inference script
pays: candidates one after another, each a `generate` of its own that processes the picture and reads the
whole prompt again; the whole text decoded at every token to look for the closing tag; at the reasoning
stage both texts verified again in every game; games one after another, and played although the texts are
the same. Its faults are left out: a reply that chooses nothing is settled by a coin instead of electing the
second, an end of text ends the search instead of looping, and there is a seed. Prompts, sampling and limits
of tokens are those of ours, so that the same work is asked of both.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

import torch
from plain import Plain
from torch import Tensor
from transformers import StoppingCriteria, StoppingCriteriaList

from llava_cot.core.question import Question, question_text
from llava_cot.core.stages import LLAVA_COT, Stage, last_closed, parse
from llava_cot.core.trace import Usage
from llava_cot.models.base import Prompt
from llava_cot.search.judge_prompts import default_prompts, parse_check, parse_choice
from llava_cot.search.judges.base import earlier


@dataclass(frozen=True)
class Limits:
    """Temperature and top-p of every call; the most new tokens of a candidate and of a judge's reply."""

    temperature: float
    top_p: float
    max_tokens: int
    reply_tokens: int


@dataclass(frozen=True)
class Text:
    """One generation. `ended` if the model itself ended it; its end token is not in `tokens`."""

    text: str
    tokens: tuple[int, ...]
    ended: bool


class _TagInText(StoppingCriteria):
    """Decodes all that there is, at every token, and looks for a tag in what is new."""

    def __init__(self, tokenizer: Any, prompt: Tensor, tags: tuple[str, ...]) -> None:
        self._tokenizer = tokenizer
        self._start = len(tokenizer.decode(prompt[0]))
        self._tags = tags

    def __call__(self, input_ids: Tensor, scores: Any, **kwargs: Any) -> Tensor:
        text = self._tokenizer.decode(input_ids[0])[self._start :]
        found = any(tag in text for tag in self._tags)
        return torch.full((len(input_ids),), found, dtype=torch.bool, device=input_ids.device)


@dataclass
class Published:
    """Answers one question at a time; `usage` adds up what that cost. `seconds` are not counted."""

    plain: Plain
    limits: Limits
    rng: random.Random
    usage: Usage = field(default_factory=Usage)

    def single(self, question: Question) -> str:
        """One pass, no search."""
        return self._candidate(question, Text("", (), False), ()).text

    def stage_beam(self, question: Question, n: int) -> str:
        """The answer's text after `n` candidates and n - 1 games at each stage."""
        kept = Text("", (), False)
        at = 0
        while at < len(LLAVA_COT.stages):
            tags = LLAVA_COT.closing_tags[at:]
            pool = [self._candidate(question, kept, tags) for _ in range(n)]
            while len(pool) > 1:
                first = pool.pop(self.rng.randrange(len(pool)))
                second = pool.pop(self.rng.randrange(len(pool)))
                pool.append(self._better(question, LLAVA_COT.stages[at], kept.text, first, second))
            best = pool[0]
            kept = Text(kept.text + best.text, kept.tokens + best.tokens, best.ended)
            closed = last_closed(best.text)
            if best.ended or closed is None:
                break
            at = max(at, closed) + 1
        return kept.text

    def _better(self, question: Question, stage: Stage, context: str, first: Text, second: Text) -> Text:
        asked, hints = question_text(question), earlier(stage.name, context, LLAVA_COT)
        a, b = (parse(text.text).stages[stage.name] or text.text for text in (first, second))
        if stage.name == "reasoning":
            if self._flagged(default_prompts().reasoning_check(asked, hints["caption"], a)):
                return second
            if self._flagged(default_prompts().reasoning_check(asked, hints["caption"], b)):
                return first
        prompt = Prompt.of(default_prompts().duel(stage.name, asked, hints, a, b), question.images)
        choice = parse_choice(self._generate(prompt, self.limits.reply_tokens).text)
        return (first, second)[self.rng.getrandbits(1) if choice is None else choice - 1]

    def _flagged(self, prompt: str) -> bool:
        return parse_check(self._generate(Prompt.of(prompt), self.limits.reply_tokens).text) is False

    def _candidate(self, question: Question, kept: Text, tags: tuple[str, ...]) -> Text:
        prompt = Prompt.of(question_text(question), question.images, kept.text, kept.tokens)
        return self._generate(prompt, self.limits.max_tokens, tags)

    def _generate(self, prompt: Prompt, max_tokens: int, tags: tuple[str, ...] = ()) -> Text:
        """One `generate` at batch 1 from nothing: processor, image encoder, whole prompt."""
        inputs = self.plain.encode(prompt)
        length = inputs["input_ids"].shape[1]
        tokenizer, end = self.plain.tokenizer, self.plain.model.generation_config.eos_token_id
        torch.manual_seed(self.rng.getrandbits(63))
        output = self.plain.model.generate(
            **inputs,
            do_sample=True,
            temperature=self.limits.temperature,
            top_p=self.limits.top_p,
            top_k=0,
            max_new_tokens=max_tokens,
            stopping_criteria=StoppingCriteriaList(
                [_TagInText(tokenizer, inputs["input_ids"], tags)] if tags else []
            ),
        )
        tokens = output[0, length:].tolist()
        self.usage += Usage(prompt_tokens=length, completion_tokens=len(tokens), model_calls=1)
        ended = tokens[-1] in (end if isinstance(end, list) else [end])
        tokens = tokens[:-1] if ended else tokens
        return Text(tokenizer.decode(tokens), tuple(tokens), ended)
