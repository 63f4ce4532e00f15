"""What annotating would cost: guessed, and then measured by earlier questions."""

from pathlib import Path

import pytest
from teachers import CORRECT, Priced, judging, questions, staged

from llava_cot.data.annotation.annotate import annotate_to, estimate_for
from llava_cot.data.annotation.estimate import price_of
from llava_cot.data.annotation.procedure import AnnotationBudget
from llava_cot.data.annotation.teachers import ModelTeacher
from llava_cot.data.record import Record, Turn
from llava_cot.errors import DataError


def price(read: int, written: int) -> float:
    return (2 * read + 10 * written) / 1e6


def test_guesses_grow_with_questions_and_pictures(tmp_path: Path) -> None:
    out = tmp_path / "out"
    few = estimate_for(out, questions(10), price)
    many = estimate_for(out, questions(1000), price)
    seen = estimate_for(out, questions(10, root=tmp_path / "in"), price)
    assert not out.exists()
    assert (few.records, few.questions, few.seen) == (10, 10, 0) and few.cost.calls == 22
    assert many.cost.prompt_tokens == pytest.approx(100 * few.cost.prompt_tokens, rel=0.05)
    assert seen.cost.prompt_tokens == few.cost.prompt_tokens + 11_000
    assert few.cost.usd == price(few.cost.prompt_tokens, few.cost.completion_tokens)
    unasked = estimate_for(out, [Record("1", (Turn("?"),))], price)
    assert (unasked.questions, unasked.unanswered, unasked.cost.calls) == (0, 1, 0)
    assert "1 questions without a standard answer" in str(unasked) or unasked.unanswered == 1


def test_earlier_questions_are_the_measure_of_pending_ones(tmp_path: Path) -> None:
    model = Priced(lambda prompt, rng: CORRECT if judging(prompt) else staged("nought"))
    records = questions(60)
    annotate_to(tmp_path, records, ModelTeacher(model), budget=AnnotationBudget(questions=20))
    estimated = estimate_for(tmp_path, records, price)
    assert (estimated.records, estimated.seen, estimated.cost.calls) == (40, 20, 80)
    before = annotate_to(tmp_path, records[:0], ModelTeacher(model)).cost
    after = annotate_to(tmp_path, records, ModelTeacher(model)).cost
    assert after.prompt_tokens - before.prompt_tokens == pytest.approx(estimated.cost.prompt_tokens, rel=0.01)
    assert after.completion_tokens - before.completion_tokens == estimated.cost.completion_tokens
    assert estimate_for(tmp_path, records, price).cost.calls == 0


def test_prices_without_opening_a_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert price_of("https://api.example.org/v1", "gpt-4o")(10**6, 10**6) == 12.5
    assert price_of("https://api.example.org/v1", None)(1, 1) is None
    assert price_of("mini", None)(1, 1) is None
    (tmp_path / "llava-cot").mkdir()
    (tmp_path / "llava-cot" / "endpoints.yaml").write_text(
        "providers: {mine: {url: 'http://x/v1', model: big}}\nprices: {big: {input: 1, output: 1}}"
    )
    assert price_of("mine", None)(10**6, 0) == 1
    assert price_of("mine,http://y/v1", None)(10**6, 0) == 1
    with pytest.raises(DataError, match="is not a folder, an address or the name"):
        price_of("unknown", None)
