"""What annotating would cost: estimated from earlier calls in the store, else guessed from a sample."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from llava_cot.core.files import home_path
from llava_cot.data.annotation.procedure import (
    ATTEMPTS,
    CALL_KINDS,
    CallCost,
    call_kind,
    cost_of,
    saved_outcomes,
)
from llava_cot.data.annotation.teachers import judge_prompt, write_prompt
from llava_cot.data.reading import random_items
from llava_cot.data.record import Record, record_key
from llava_cot.data.store import Store, unique_records
from llava_cot.errors import DataError
from llava_cot.models.base import Prompt
from llava_cot.models.registry import parse_model

SAMPLE = 200
_ENOUGH = 10  # earlier questions whose calls are taken as a measure
# Guesses, none of them measured: four characters of English for a token, a picture with a margin, four
# stages of some 250 words, a verdict of a sentence or two.
_CHARACTERS, _PICTURE, _WRITTEN, _VERDICT = 4, 1000, 350, 40
_SECOND_ATTEMPTS = 0.1  # the share of questions that need one

Price = Callable[[int, int], float | None]  # US dollars, of tokens read and written


@dataclass(frozen=True)
class Estimate:
    """What is pending, and its cost, estimated from `seen` earlier questions, or guessed if these are 0."""

    records: int
    questions: int  # turns with a standard answer
    unanswered: int  # turns without one, which are not annotated
    seen: int
    cost: CallCost

    def __str__(self) -> str:
        cost = self.cost
        guess = "a guess from a sample, no call was made"
        lines = {
            "records": f"{self.records:,}",
            "questions": f"{self.questions:,}",
            "calls": f"{cost.calls:,}, at most {2 * ATTEMPTS * self.questions:,}",
            "tokens read": f"{cost.prompt_tokens:,}",
            "tokens written": f"{cost.completion_tokens:,}",
            "cost": "no price known" if cost.usd is None else f"${cost.usd:,.2f}",
            "based on": f"{self.seen:,} questions asked before" if self.seen else guess,
        }
        if self.unanswered:
            lines["not asked"] = f"{self.unanswered:,} questions without a standard answer"
        return "\n".join(f"{name:15} {value}" for name, value in lines.items())


def estimate(records: Iterable[Record], store: Store, price: Price) -> Estimate:
    """Estimate the cost of the records that are pending in a store. Keeps only a sample of them in memory."""
    questions = unanswered = 0

    def pending() -> Iterator[Record]:
        nonlocal questions, unanswered
        for record, first in unique_records(records, store):
            if first and saved_outcomes(store, record_key(record)) is None:
                answered = sum(bool(turn.answer) for turn in record.turns)
                questions += answered
                unanswered += len(record.turns) - answered
                yield record

    sample, count = random_items(pending(), SAMPLE, seed=0)
    seen = store.counts().get(call_kind("write", 1), 0)
    if seen >= _ENOUGH:
        known, base = cost_of(store, CALL_KINDS), seen
    else:
        known, base, seen = _guess(sample), sum(bool(t.answer) for r in sample for t in r.turns), 0
    share = questions / base if base else 0.0
    read, written = round(known.prompt_tokens * share), round(known.completion_tokens * share)
    cost = CallCost(round(known.calls * share), read, written, price(read, written))
    return Estimate(count, questions, unanswered, seen, cost)


def _guess(sample: list[Record]) -> CallCost:
    """The cost of a sample, if every conclusion is judged and some questions need a second attempt."""
    read = written = calls = 0.0
    for record in sample:
        earlier: list[tuple[str, str]] = []
        for turn in record.turns:
            if not turn.answer:
                continue
            write = _tokens(write_prompt(turn, earlier, ())) + _PICTURE * len(record.pictures)
            read += (1 + _SECOND_ATTEMPTS) * (write + _tokens(judge_prompt(turn, turn.answer)))
            written += (1 + _SECOND_ATTEMPTS) * (_WRITTEN + _VERDICT)
            calls += (1 + _SECOND_ATTEMPTS) * 2
            earlier.append((turn.text, "x" * (_WRITTEN * _CHARACTERS)))
    return CallCost(round(calls), round(read), round(written))


def _tokens(prompt: Prompt) -> int:
    return sum(len(message.text) for message in prompt.messages) // _CHARACTERS


def price_of(spec: str, model_name: str | None) -> Price:
    """The price of a teacher that is not opened. Raises ModelError, and DataError for an unknown name."""
    from llava_cot.models.endpoint.config import load_config

    config = load_config()
    name = parse_model(spec)
    if name.kind == "folder" and not home_path(spec).is_dir():
        raise DataError(f"{spec} is not a folder, an address or the name of a server in endpoints.yaml")
    found = config.prices.get(model_name or name.servers[0].model or "") if name.servers else None
    return lambda read, written: None if found is None else found.of(read, written)
