"""Scorers: asked once, kept, changed without asking the model again."""

from __future__ import annotations

import random
from pathlib import Path

from eval_runs import Moody, contents, entry, numbers, run
from teachers import staged

from llava_cot.errors import ModelFailure, ModelUnavailable
from llava_cot.evaluation.results import QuestionResult, RunResults
from llava_cot.evaluation.types import AnswerScore
from llava_cot.models.base import Prompt


def vague(prompt: Prompt, rng: random.Random) -> str:
    """An answer that words do not compare with "number 3": a phrase that has none of them."""
    return staged("some quantity or other")


def benchmark(count: int = 4):  # type: ignore[no-untyped-def]
    return numbers(count, rule="words", right="the figure {}")


class Judge(Moody):
    def __init__(self, name: str, reply: str, **others: object) -> None:
        super().__init__(lambda prompt, rng: reply, **others)  # type: ignore[arg-type]
        self.name = name


def found(folder: Path) -> list[QuestionResult]:
    [rows] = contents(folder).values()
    return [one for one, _ in rows.values()]


def test_without_a_scorer_it_stays_unsettled(tmp_path: Path) -> None:
    run(tmp_path, benchmark(), Moody(vague))
    assert {(one.score.by, one.score.value) for one in found(tmp_path)} == {("unsettled", 0.0)}


def test_a_scorer_is_called_once_and_its_reply_is_stored(tmp_path: Path) -> None:
    kind, model = Judge("kind", "Yes"), Moody(vague)
    run(tmp_path, benchmark(), model, scorer=kind)
    assert [one.score for one in found(tmp_path)] == [AnswerScore(1.0, "scorer", "", "Yes")] * 4
    assert kind.tries == 4
    run(tmp_path, benchmark(), model, scorer=kind)
    assert (kind.tries, model.tries) == (4, 4)


def test_another_scorer_scores_anew_without_new_answers_and_may_be_changed_back(tmp_path: Path) -> None:
    kind, strict, model = Judge("kind", "Yes"), Judge("strict", "No"), Moody(vague)
    run(tmp_path, benchmark(), model)
    before = found(tmp_path)
    run(tmp_path, benchmark(), model, scorer=kind)
    after = found(tmp_path)
    assert [one.score.value for one in after] == [1.0] * 4
    assert [one.usage for one in after] == [one.usage for one in before]
    run(tmp_path, benchmark(), model, scorer=strict)
    assert [one.score.value for one in found(tmp_path)] == [0.0] * 4
    run(tmp_path, benchmark(), model, scorer=kind)
    assert found(tmp_path) == after
    assert (kind.tries, strict.tries, model.tries) == (4, 4, 4)
    run(tmp_path, benchmark(), model)
    assert found(tmp_path) == before


def test_a_new_scorer_rescores_the_whole_folder(tmp_path: Path) -> None:
    kind, model = Judge("kind", "Yes"), Moody(vague)
    run(tmp_path, benchmark(), model)
    run(tmp_path, numbers(2, name="others"), Moody(), scorer=kind)
    with RunResults([tmp_path]) as results:
        [setting] = [setting for setting in results.runs if setting.benchmark == "numbers"]
        assert all(one.score.by == "scorer" for one in results.results(setting))


def test_a_scorer_s_failure_is_no_score_of_zero(tmp_path: Path) -> None:
    broken, model = Judge("kind", "Yes", failing=lambda prompt: ModelFailure("busy")), Moody(vague)
    done = run(tmp_path, benchmark(), model, scorer=broken)
    assert (done.failed, done.unscored, done.last_error, done.abandoned) == (0, 4, "the scorer: busy", {})
    assert {one.score.by for one in found(tmp_path)} == {"unsettled"}
    broken.failing, broken.tries = lambda prompt: None, 0
    assert run(tmp_path, benchmark(), model, scorer=broken).unscored == 0
    assert [one.score.value for one in found(tmp_path)] == [1.0] * 4
    assert (broken.tries, model.tries) == (4, 4)


def test_a_scorer_that_keeps_failing_is_skipped_and_answering_continues(tmp_path: Path) -> None:
    gone = Judge("kind", "Yes", failing=lambda prompt: ModelFailure("gone"))
    done = run(tmp_path, benchmark(40), entry(Moody(vague), at_once=1), scorer=gone)
    assert (done.failed, done.unscored, done.abandoned) == (0, 40, {})
    assert gone.tries == 20 * 3


def test_a_scorer_whose_server_refuses_everything_ends_the_run(tmp_path: Path) -> None:
    closed = Judge("kind", "Yes", failing=lambda prompt: ModelUnavailable("the quota is used up", 429))
    model = Moody(vague)
    done = run(tmp_path, benchmark(40), entry(model, at_once=1), scorer=closed)
    assert (done.scorer_unavailable, done.abandoned, closed.tries) == ("the quota is used up", {}, 1)
    assert model.tries <= 2
    again = run(tmp_path, benchmark(40), entry(model, at_once=1), scorer=closed)
    assert again.scorer_unavailable and closed.tries == 2 and model.tries <= 2
    open_again = Judge("kind", "Yes")
    last = run(tmp_path, benchmark(40), entry(model), scorer=open_again)
    assert (last.unscored, last.scorer_unavailable, model.tries) == (0, None, 40)
