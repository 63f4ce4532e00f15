"""How an answer gets its score: by comparing text, and by a scorer model where that is not enough."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable
from functools import partial
from hashlib import sha256
from typing import Any, Literal, TypeVar, get_args

from llava_cot.core.stages import StageFormat, parse, validate
from llava_cot.core.trace import Trace
from llava_cot.data.schedule import MAX_FAILURES_IN_A_ROW
from llava_cot.errors import ModelError, ModelFailure, ModelRefusal, ModelUnavailable
from llava_cot.evaluation.benchmarks import rule_named
from llava_cot.evaluation.eval_folder import EvalFolder, read_trace_key
from llava_cot.evaluation.types import AnswerScore, BenchmarkItem, ScoringRule
from llava_cot.models.base import Model, Prompt, Sampling, seed_of

# Which part of the text is scored. The paper scores the conclusion. The last line (of a model that reasons
# first) and the whole text are for models that were not trained on stages.
AnswerSource = Literal["conclusion", "last-line", "whole"]
ANSWER_SOURCES: tuple[AnswerSource, ...] = get_args(AnswerSource)

_THOUGHTS = re.compile(r"\s*(?:<(?:think|thinking|thought)>|\[THINK\]|◁think▷)")
_END_OF_THOUGHTS = re.compile(r"</(?:think|thinking|thought)>|\[/THINK\]|◁/think▷")

_T = TypeVar("_T")
_RETRIES = 2  # of a call to a model that fails
_ATTEMPTS = 3  # at a scorer's reply that can be read
_MAX_TOKENS = 1024  # of a scorer's reply

# Takes a prompt and the number of the attempt, from 0, and returns the scorer's reply.
AskScorer = Callable[[Prompt, int], Awaitable[str]]


async def retry(call: Callable[[], Awaitable[_T]]) -> _T:
    """Make a call, and up to twice more while it raises ModelFailure. Raises what the last attempt does."""
    for _ in range(_RETRIES):
        try:
            return await call()
        except ModelFailure:
            pass
    return await call()


def extract_answer(text: str, fmt: StageFormat, source: AnswerSource) -> str | None:
    """Return the part of a text that is scored, None if it has none.

    With "conclusion", a text without any stage counts as a whole, as in `Trace.answer`.
    """
    if source == "conclusion":
        return parse(text, fmt).answer
    if source == "last-line":
        return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), None)
    return text.strip() or None


def best_of_others(
    trace: Trace,
    item: BenchmarkItem,
    rule: ScoringRule,
    fmt: StageFormat,
    source: AnswerSource,
    conclusion: str | None,
) -> tuple[bool, float | None]:
    """Return whether the method sampled whole answers, and the best score among those that differ.

    The score is None where the text of one of them does not decide it and none is fully right; no scorer is
    asked about answers that were not chosen.
    """
    whole = [one.text for one in trace.candidates if one.stage == "answer" and one.parent is None]
    if trace.n < 2 or not whole:
        return False, None
    texts = {extract_answer(text, fmt, source) for text in whole} - {conclusion, None}
    found = [rule.match(item, text) for text in sorted(text for text in texts if text is not None)]
    best = max((score.value for score in found if score is not None), default=0.0)
    return True, None if None in found and best < 1 else best


async def score_answer(
    rule: ScoringRule, item: BenchmarkItem, conclusion: str | None, ask: AskScorer | None
) -> AnswerScore:
    """Score a conclusion, which is None where the answer has none.

    A scorer is asked only where `rule.match` returns None, and up to three times until a reply can be read.
    Without a scorer or a readable reply the score is "unsettled": worth 0, and counted apart from wrong
    answers. What `ask` raises is passed on.
    """
    if conclusion is None:
        return AnswerScore(0.0, "absent")
    if (found := rule.match(item, conclusion)) is not None:
        return found
    if ask is None:
        return AnswerScore(0.0, "unsettled", reason="the text does not decide it, and there is no scorer")
    prompt = rule.prompt(item, conclusion)
    reply = ""
    for attempt in range(_ATTEMPTS):
        reply = await ask(prompt, attempt)
        if (found := rule.read(item, conclusion, without_thinking(reply))) is not None:
            return found
    reason = f"none of {_ATTEMPTS} replies could be read; the last: {reply}"
    return AnswerScore(0.0, "unsettled", reason=reason)


def without_thinking(reply: str) -> str:
    """What a scorer says after its thoughts, which may name other answers; nothing if they do not end."""
    *thoughts, rest = _END_OF_THOUGHTS.split(reply)
    if thoughts:
        return rest.strip()
    return "" if _THOUGHTS.match(reply) else reply


class FolderScores:
    """Scores the answers of a folder: new ones, and all again where another scorer is used.

    A scorer's replies are stored, so that none is paid for twice; `usd` is what they have cost in all runs of
    the folder. `failed` counts the answers on which the scorer failed, the last because of `last_error`;
    these stay pending. `unavailable` says why its server refuses all requests, once it does.
    """

    def __init__(self, folder: EvalFolder, fmt: StageFormat, scorer: Model | None) -> None:
        self.failed = 0
        self.last_error: str | None = None
        self.unavailable: str | None = None
        self.usd = folder.total("scorer", "usd") if scorer else 0.0
        self._folder, self._fmt, self._scorer = folder, fmt, scorer
        self._failures_in_a_row = 0

    def pending(self) -> list[str]:
        """Return the keys of answers without a score, and of those that another scorer would score."""
        name = self._scorer.name if self._scorer else None
        scored, pending = set(), []
        for key, row in self._folder.items("score"):
            scored.add(key)
            if row["by"] in ("scorer", "unsettled") and row["scorer"] != name:
                pending.append(key)
        return pending + [key for key in self._folder.keys("trace") if key not in scored]

    async def score_pending(self, key: str) -> str | None:
        """Score an answer of an earlier run. Returns the scorer's error, if it failed."""
        run, id = read_trace_key(key)
        item = self._folder.item(run.benchmark, id)
        rule = rule_named(self._folder.get(run.benchmark, "benchmark")["rule"], run.benchmark)
        row, failed = self._folder.get(key, "score"), self.failed
        if row is not None:
            await self._score(key, item, rule, row)
        elif (trace := self._folder.trace(key)) is not None:
            await self.score_new(key, item, rule, trace, self._folder.get(key, "wall"))
        return self.last_error if self.failed > failed else None

    async def score_new(
        self, key: str, item: BenchmarkItem, rule: ScoringRule, trace: Trace, wall: float
    ) -> AnswerScore:
        """Score an answer whose trace has just been stored."""
        source = self._folder.get(read_trace_key(key)[0].model, "model")["answer"]
        conclusion = extract_answer(trace.text, self._fmt, source)
        sampled, others = best_of_others(trace, item, rule, self._fmt, source, conclusion)
        row = {
            "kept": not validate(trace.text, self._fmt),
            "absent": [name for name, text in trace.stages.items() if text is None],
            "lengths": {name: len(text) for name, text in trace.stages.items() if text is not None},
            "conclusion": conclusion,
            "sampled": sampled,
            "others": others,
            "candidates": len(trace.candidates),
            "warnings": sorted({warning.kind for warning in trace.warnings}),
            "usage": trace.usage.model_dump(mode="json"),
            "wall": wall,
        }
        return await self._score(key, item, rule, row)

    async def _score(
        self, key: str, item: BenchmarkItem, rule: ScoringRule, row: dict[str, Any]
    ) -> AnswerScore:
        """Score an answer by the facts in `row`, and store these with the score."""
        scorer = self._scorer
        name, ask = (scorer.name, partial(self._reply, scorer)) if scorer else (None, None)
        try:
            found = await score_answer(rule, item, row["conclusion"], ask)
        except ModelError as error:
            if isinstance(error, ModelUnavailable):
                self.unavailable = self.unavailable or str(error)
            self.failed, self.last_error = self.failed + 1, f"the scorer: {error}"
            found, name = AnswerScore(0.0, "unsettled", reason=str(error)), ""  # no scorer's name: pending
        score = {"value": found.value, "by": found.by, "said": found.extracted, "reason": found.reason}
        self._folder.put(key, "score", {**row, **score, "scorer": name})
        return found

    async def _reply(self, scorer: Model, prompt: Prompt, attempt: int) -> str:
        """Return the reply to a prompt, stored or new. Attempt 0 is greedy. Raises ModelError."""
        digest = sha256(json.dumps([[m.role, m.text] for m in prompt.messages]).encode()).hexdigest()
        key = json.dumps([scorer.name, digest, attempt])
        known = self._folder.get(key, "scorer")
        if known is not None:
            return str(known["text"])
        if self._failures_in_a_row >= MAX_FAILURES_IN_A_ROW:
            raise ModelFailure(
                f"{scorer.name} failed {MAX_FAILURES_IN_A_ROW} times in a row and is not asked again"
            )
        sampling = Sampling(0.5 * attempt, 1.0, max_tokens=_MAX_TOKENS, seed=seed_of(digest, attempt))
        try:
            [reply] = await retry(lambda: scorer.sample(prompt, 1, sampling))
        except ModelError as error:
            self._failures_in_a_row += not isinstance(error, ModelRefusal)
            raise
        self._failures_in_a_row = 0
        fields = ("text", "prompt_tokens", "completion_tokens", "usd")
        self._folder.put(key, "scorer", {name: getattr(reply, name) for name in fields})
        self.usd += reply.usd or 0.0
        return reply.text
