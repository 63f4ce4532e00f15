"""The scores of a folder: the first of each answer, and new ones where another scorer is asked.

Owns when an answer is owed a score. What a score is made of are the subjects of `answers.py` and of
`scoring/`; a scorer's replies that of `scorer.py`.
"""

from __future__ import annotations

from typing import Any

from llava_cot.core.stages import StageFormat
from llava_cot.core.trace import Trace
from llava_cot.data.store import Store
from llava_cot.errors import ModelError
from llava_cot.evaluation.answers import best_of_others, said, shape
from llava_cot.evaluation.benchmarks.rules_by_name import rule_named
from llava_cot.evaluation.kept import facts_of, kept_item, kept_trace, read_key, row
from llava_cot.evaluation.scorer import Scorer
from llava_cot.evaluation.scoring.asking import score
from llava_cot.evaluation.types import AnswerScore, BenchmarkItem, ScoringRule
from llava_cot.models.base import Model


class Scores:
    """`failed` counts the answers that the scorer failed on, the last because of `why`; they stay owed."""

    def __init__(self, store: Store, fmt: StageFormat, scorer: Model | None) -> None:
        self.failed = 0
        self.why: str | None = None
        self._store, self._fmt = store, fmt
        self._scorer = Scorer(scorer, store) if scorer else None

    @property
    def usd(self) -> float:
        """What the scorer's replies have cost."""
        return self._scorer.usd if self._scorer else 0.0

    def owed(self) -> list[str]:
        """Keys of answers that another scorer was asked about, or could have been; and those never scored."""
        name = self._scorer.name if self._scorer else None
        scored, owed = set(), []
        for key, kept in self._store.items("score"):
            scored.add(key)
            if kept["by"] in ("scorer", "unsettled") and kept["scorer"] != name:
                owed.append(key)
        return owed + [key for key in self._store.keys("trace") if key not in scored]

    async def again(self, key: str) -> str | None:
        """Score what is owed; what the scorer could not do, if that was so."""
        setting, id = read_key(key)
        item = kept_item(self._store, setting.benchmark, id)
        rule = rule_named(self._store.get(setting.benchmark, "benchmark")["rule"])
        kept = self._store.get(key, "score")
        failed = self.failed
        if kept is not None:
            await self._score(key, item, rule, facts_of(kept))
        elif (trace := kept_trace(self._store, key)) is not None:
            await self.first(key, item, rule, trace, self._store.get(key, "wall"))
        return self.why if self.failed > failed else None

    async def first(
        self, key: str, item: BenchmarkItem, rule: ScoringRule, trace: Trace, wall: float
    ) -> AnswerScore:
        """Score an answer that has just been kept."""
        way = self._store.get(read_key(key)[0].model, "model")["answer"]
        conclusion = said(trace.text, self._fmt, way)
        sampled, others = best_of_others(trace, item, rule, self._fmt, way, conclusion)
        facts = {
            **shape(trace, self._fmt),
            "conclusion": conclusion,
            "sampled": sampled,
            "others": others,
            "candidates": len(trace.candidates),
            "usage": trace.usage.model_dump(mode="json"),
            "wall": wall,
        }
        return await self._score(key, item, rule, facts)

    async def _score(
        self, key: str, item: BenchmarkItem, rule: ScoringRule, facts: dict[str, Any]
    ) -> AnswerScore:
        name = self._scorer.name if self._scorer else None
        try:
            found = await score(rule, item, facts["conclusion"], self._scorer.ask if self._scorer else None)
        except ModelError as error:
            self.failed, self.why = self.failed + 1, f"the scorer: {error}"
            found, name = (
                AnswerScore(0.0, "unsettled", reason=str(error)),
                "",
            )  # no scorer's name: it stays owed
        self._store.put(key, "score", row(found, name, facts))
        return found
