"""A folder of rollouts: each question is answered once, its results are saved, the file is written."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, Self, TypeVar

from llava_cot.core.files import write_whole
from llava_cot.core.question import Question
from llava_cot.core.trace import Usage
from llava_cot.data.annotation.annotate import AnnotationProgress
from llava_cot.data.record import Record, pictures_until, record_key
from llava_cot.data.rollouts.duel_set import checkable
from llava_cot.data.rollouts.labeling import is_right
from llava_cot.data.rollouts.rollout_card import RolloutSummary, rollout_card
from llava_cot.data.rollouts.rollout_file import ROLLOUT_FILE, write_rollouts
from llava_cot.data.rollouts.rollout_writer import SAMPLES, RolloutWriter, first_question
from llava_cot.data.rollouts.rollouts import complete_prefixes, prefixes_of, sample_answers
from llava_cot.data.schedule import ImagePool, run_interruptible
from llava_cot.data.store import Store, check_store_folder, unique_records
from llava_cot.errors import ImageError, ModelError, ModelRefusal, ModelUnavailable
from llava_cot.models.base import Model, Sampling, seed_of

_T = TypeVar("_T")


class CallModel(Protocol):
    """Calls a function with a model, a question and further arguments, in this process or on a cluster."""

    def __call__(
        self, function: Callable[..., Awaitable[_T]], question: Question, *arguments: Any
    ) -> Awaitable[_T]:
        """Raises ModelError."""
        ...


@dataclass(frozen=True)
class RolloutModel:
    """A model that answers; `prefilled` is how many tokens its prefills have run, None if it is not known."""

    name: str
    call: CallModel
    prefilled: Callable[[], int | None] = lambda: None

    @classmethod
    def here(cls, model: Model) -> Self:
        """A model in this process."""
        stats = getattr(model, "stats", None)
        return cls(
            model.name,
            lambda function, question, *arguments: function(model, question, *arguments),
            lambda: getattr(stats, "prefill_tokens", None),
        )


@dataclass(frozen=True)
class RolloutSettings:
    """What is sampled for a question: answers, and completions of each of their stages."""

    samples: int = 8
    completions: int = 0
    sampling: Sampling = field(default_factory=Sampling)

    def described(self, models: Sequence[RolloutModel]) -> dict[str, str]:
        """The settings as the card shows them."""
        found = self.of_answers(models[0])
        if self.completions:
            found["completions"] = str(self.completions)
        if len(models) > 1:
            found["completer"] = models[1].name
        return found

    def of_answers(self, model: RolloutModel) -> dict[str, str]:
        """The settings that a store compares: those of the answers. Values may be added later."""
        options = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty", "max_tokens", "seed")
        sampling = ", ".join(f"{name} {getattr(self.sampling, name):g}" for name in options)
        return {
            "purpose": "rollouts",
            "model": model.name,
            "samples": str(self.samples),
            "sampling": sampling,
        }

    def of_values(self, models: Sequence[RolloutModel]) -> str | None:
        """The store's kind for the values of stages; None if there are none."""
        if not self.completions:
            return None
        return " and ".join([f"values by {self.completions}", *(model.name for model in models[1:])])


@dataclass(frozen=True)
class RolloutResult:
    """What was written; how many questions `failed` in this run, and why the last one did."""

    summary: RolloutSummary
    failed: int
    why: str | None


def make_rollouts(
    folder: Path,
    records: Iterable[Record],
    models: Sequence[RolloutModel],
    settings: RolloutSettings,
    *,
    agree_within: float = 0.25,
    balanced: bool = False,
    limit: int | None = None,
    at_once: int = 64,
    on_progress: Callable[[AnnotationProgress], None] = lambda progress: None,
    on_interrupt: Callable[[], None] = lambda: None,
) -> RolloutResult:
    """Sample and complete what a folder does not have yet, `limit` questions in all, then write its files.

    Only the first turn of each record is used. The folder is new, empty, or of an earlier run with the same
    model, samples and sampling; values may be added later, or others. Answers, and the values of a question's
    stages, are saved as they arrive.

    Args:
        folder: The folder to write to.
        records: The questions; iterated over twice, so not an iterator.
        models: The first one answers; it, and a second one if there is one, complete the stages.
        settings: What is sampled.
        agree_within: A value is left out where those of two models differ by more than this share.
        balanced: Write as many right as wrong answers of each question (`balance`).
        limit: The first questions whose answers can be checked; None for all.
        at_once: The most questions in flight.
        on_progress: Called after each question.
        on_interrupt: Called at the first Ctrl-C; questions in flight are still waited for.

    Raises:
        DataError, StoreError, OSError: It cannot be done.
        KeyboardInterrupt: After Ctrl-C; then only the store is up to date.
    """
    check_store_folder(folder)
    with Store(folder) as store:
        store.match_settings(settings.of_answers(models[0]))
        run = _RolloutRun(models, store, settings, on_progress)
        pending = run.pending(records, limit)
        failure = asyncio.run(run_interruptible(pending, run.one, at_once, lambda: False, on_interrupt))
        writer = RolloutWriter(folder, store, run.values, agree_within, balanced)
        write_rollouts(folder / ROLLOUT_FILE, writer.questions(records, limit))
        writer.add_costs()
        why = failure or run.why
        write_whole(folder / "README.md", rollout_card(writer.summary, settings.described(models), why))
    return RolloutResult(writer.summary, run.progress.failed, why)


class _RolloutRun:
    """One run over a folder's questions."""

    def __init__(
        self,
        models: Sequence[RolloutModel],
        store: Store,
        settings: RolloutSettings,
        on_progress: Callable[[AnnotationProgress], None],
    ) -> None:
        self.models, self.store, self.settings, self.on_progress = models, store, settings, on_progress
        self.values = settings.of_values(models)
        usd = sum(store.total(kind, "usd") for kind in filter(None, (SAMPLES, self.values)))
        self.progress = AnnotationProgress(usd=usd)
        self.why: str | None = None
        self.images = ImagePool()
        self._prefilled = self._prefills()

    def pending(self, records: Iterable[Record], limit: int | None) -> Iterator[tuple[str, Record]]:
        last = self.values or SAMPLES
        for record, first in unique_records(checkable(records, limit), self.store):
            if not first:
                continue
            key = record_key(record)
            if self.store.get(key, last) is None:
                yield key, record
            else:
                self.progress.done += 1
                self.on_progress(replace(self.progress))

    async def one(self, item: tuple[str, Record]) -> str | None:
        """Answer one question; returns the model's failure, if there was one."""
        key, record = item
        try:
            async with self.images.open(record.pictures[: pictures_until(record, 0)]) as images:
                question = replace(first_question(record), images=await images())
                if self.store.get(key, SAMPLES) is None:
                    await self._sample(key, question)
                if self.values is not None:
                    await self._complete(key, question, self.values)
        except ModelUnavailable:
            raise
        except (ImageError, ModelError) as error:
            self.progress.failed += 1
            self.why = f"{record.id}: {error}"
            self.on_progress(replace(self.progress))
            return None if isinstance(error, ImageError | ModelRefusal) else self.why
        self.progress.done += 1
        self.progress.fresh += 1
        self.on_progress(replace(self.progress))
        return None

    async def _sample(self, key: str, question: Question) -> None:
        sampling = self._seeded(key)
        found = await self.models[0].call(sample_answers, question, self.settings.samples, sampling)
        answers = [vars(answer) for answer in found.answers]
        self._put(key, SAMPLES, {"answers": answers}, found.usage, found.usage)

    async def _complete(self, key: str, question: Question, kind: str) -> None:
        """Complete the stages of the distinct answers that are right or wrong, each beginning once."""
        stages = [
            (number, stage, prefix)
            for number, answer in enumerate(self.store.get(key, SAMPLES)["answers"])
            if is_right(answer["text"], question) is not None
            for stage, prefix in prefixes_of(answer["text"]).items()
            if prefix is not None
        ]
        prefixes = list(dict.fromkeys(prefix for _, _, prefix in stages))
        arguments = prefixes, self.settings.completions, self._seeded(key)
        by_model = await asyncio.gather(
            *(model.call(complete_prefixes, question, *arguments) for model in self.models)
        )
        counts, usage, alone = [], Usage(), Usage()
        for found in by_model:
            usage = sum((one.usage for one in found), usage)
        for number, stage, prefix in stages:
            values = [found[prefixes.index(prefix)] for found in by_model]
            counts.append([number, stage, [[value.right, value.wrong] for value in values]])
            alone = sum((value.usage for value in values), alone)
        self._put(key, kind, {"counts": counts}, usage, alone)

    def _seeded(self, key: str) -> Sampling:
        return replace(self.settings.sampling, seed=seed_of(self.settings.sampling.seed, key))

    def _put(self, key: str, kind: str, value: dict[str, Any], usage: Usage, alone: Usage) -> None:
        """Save a result with its cost, and what it would cost if every label were computed by itself."""
        before, self._prefilled = self._prefilled, self._prefills()
        known = before is not None and self._prefilled is not None
        cost = {
            "calls": usage.model_calls,
            "prompt_tokens": usage.prompt_tokens,
            "completion_tokens": usage.completion_tokens,
            "usd": usage.usd,
            # Those of all questions since the last result: only the sum means something.
            "prefilled_tokens": (self._prefilled or 0) - (before or 0) if known else None,
            "alone_prompt_tokens": alone.prompt_tokens,
            "alone_completion_tokens": alone.completion_tokens,
        }
        self.store.put(key, kind, value | cost)
        self.progress.usd += usage.usd or 0.0

    def _prefills(self) -> int | None:
        counts = [model.prefilled() for model in self.models]
        return None if None in counts else sum(filter(None, counts))
