"""Annotating: the procedure, what is saved, and that an interrupted run ends with the same set."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections import Counter
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from teachers import CORRECT, INCORRECT, Priced, asked, judging, moody, questions, replying, staged

from llava_cot.core.question import PLACE
from llava_cot.data.annotation import annotate
from llava_cot.data.annotation.annotate import AnnotationProgress, annotate_to
from llava_cot.data.annotation.procedure import AnnotationBudget, parse_budget
from llava_cot.data.annotation.teachers import ModelTeacher, SceneTeacher
from llava_cot.data.reading import RecordFile
from llava_cot.data.record import Picture, Record, Turn
from llava_cot.data.schedule import MAX_FAILURES_IN_A_ROW
from llava_cot.data.store import STORE_FILE, Store
from llava_cot.errors import (
    DataError,
    ModelError,
    ModelFailure,
    ModelRefusal,
    ModelUnavailable,
    StoreError,
)
from llava_cot.models.base import Continuation, Model, OnText, Prompt, Sampling
from llava_cot.scenes.items import make_items
from llava_cot.view.summaries import annotation_end


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def rejects(folder: Path) -> dict[tuple[object, object], object]:
    return {(line["id"], line["turn"]): line["why"] for line in lines(folder / "rejects.jsonl")}


def run(model: Model, records: list[Record], out: Path, **options: object) -> object:
    return annotate_to(out, records, ModelTeacher(model), **options)  # type: ignore[arg-type]


def test_what_is_the_answer_to_the_letter_is_not_judged(tmp_path: Path) -> None:
    model = replying(lambda question, judge, time: staged("0"))
    run(model, questions(1, root=tmp_path / "in"), tmp_path / "out")
    [call] = model.calls
    assert not judging(call.prompt) and len(call.prompt.messages[0].images) == 1
    [line] = lines(tmp_path / "out" / "train.jsonl")
    assert line["conversations"][1] == {"from": "gpt", "value": staged("0")}  # type: ignore[index]
    assert (tmp_path / "out" / str(line["image"])).read_bytes() == (tmp_path / "in/images/0.png").read_bytes()
    assert not (tmp_path / "out" / "rejects.jsonl").read_text()


@pytest.mark.parametrize(
    ("first", "verdict", "why"),
    [
        ("No stages at all.", CORRECT, "format"),
        (staged("0").replace("CAPTION", "caption"), CORRECT, "format"),
        (staged("0", "As the standard answer tells."), CORRECT, "leak"),
        (staged("Nought"), INCORRECT, "conclusion"),
        (staged("I cannot help with that."), INCORRECT, "conclusion"),
        (staged("Nought"), "Well, who knows.", "no verdict"),
    ],
)
def test_two_attempts_and_then_the_reason(tmp_path: Path, first: str, verdict: str, why: str) -> None:
    seeds = []

    def script(prompt: Prompt, rng: random.Random) -> str:
        seeds.append(rng.random())
        return verdict if judging(prompt) else first

    run(Priced(script), questions(1), tmp_path)
    assert rejects(tmp_path) == {("q/0", 0): why}
    writes = 2 if why in ("format", "leak") else 4
    assert len(seeds) == writes and len(set(seeds)) > 1
    [line] = lines(tmp_path / "rejects.jsonl")
    attempt = {"write": first} | ({"judge": verdict} if writes == 4 else {})
    assert line["attempts"] == [attempt, attempt]
    assert not (tmp_path / "train.jsonl").read_text()


def test_the_second_attempt_may_hold(tmp_path: Path) -> None:
    model = replying(
        lambda question, judge, time: CORRECT if judge else "?" if time == 1 else staged("nought")
    )
    done = annotate_to(tmp_path, questions(1), ModelTeacher(model))
    assert (done.summary.turns, done.summary.rejected.total(), done.cost.calls) == (1, 0, 3)
    assert done.cost.usd == pytest.approx(0.03)


def test_a_rejected_turn_removes_only_itself_and_later_ones_do_not_see_it(tmp_path: Path) -> None:
    model = replying(
        lambda question, judge, time: INCORRECT if judge else "?" if ".1" in question else staged("0")
    )
    run(model, questions(1, turns=3, root=tmp_path / "in"), tmp_path / "out")
    shown = {asked(call.prompt): call.prompt.messages for call in model.calls}
    assert [m.text for m in shown["Which number is 0.1?"][:2]] == ["Which number is 0.0?", staged("0")]
    assert [m.text for m in shown["Which number is 0.2?"][:-1]] == ["Which number is 0.0?", staged("0")]
    assert all(
        [len(m.images) for m in messages] == [1, *[0] * (len(messages) - 1)] for messages in shown.values()
    )
    [line] = lines(tmp_path / "out" / "train.jsonl")
    assert [message["value"] for message in line["conversations"][::2]] == [  # type: ignore[index]
        "Which number is 0.0?", "Which number is 0.2?"]  # fmt: skip
    assert rejects(tmp_path / "out") == {("q/0", 1): "format"}


def test_a_picture_of_a_later_turn_is_shown_from_that_turn_on(tmp_path: Path) -> None:
    [one] = questions(1, turns=3, root=tmp_path / "in")
    names = [f"images/{number}.png" for number in range(3)]
    for number, name in enumerate(names):
        (tmp_path / "in" / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (4, 4), (number, 0, 0)).save(tmp_path / "in" / name)
    turns = tuple(replace(turn, question=f"{PLACE}{turn.question}") for turn in one.turns)
    record = replace(
        one, turns=turns, pictures=tuple(Picture(name, tmp_path / "in" / name) for name in names)
    )
    model = replying(
        lambda question, judge, time: INCORRECT if judge else "?" if ".1" in question else staged("0")
    )
    run(model, [record], tmp_path / "out")
    shown = {
        asked(call.prompt)[-4:]: [len(m.images) for m in call.prompt.messages if m.role == "user"]
        for call in model.calls
        if not judging(call.prompt)
    }
    assert shown == {"0.0?": [1], "0.1?": [1, 1], "0.2?": [1, 2]}
    [written] = RecordFile(tmp_path / "out")
    assert [turn.text.count(PLACE) for turn in written.turns] == [1, 2] and len(written.pictures) == 3


def test_what_cannot_be_asked_costs_nothing(tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"no picture")
    records = [
        Record("none", (Turn("Why?"),)),
        Record("empty", (Turn("Why?", " "),)),
        Record("broken", (Turn("Why?", "So"),), (Picture("bad.png", tmp_path / "bad.png"),)),
        Record("gone", (Turn("Why?", "So"),), (Picture("no.png", tmp_path / "no.png"),)),
        Record("nothing", (Turn("Why?", "So"),), (Picture("none"),)),
    ]
    model = replying(lambda question, judge, time: staged("So"))
    run(model, records, tmp_path / "out")
    why = {key[0]: value for key, value in rejects(tmp_path / "out").items()}
    assert why == {
        "none": "no answer", "empty": "no answer",
        "broken": "picture", "gone": "picture", "nothing": "picture",
    }  # fmt: skip
    assert model.calls == []
    records[3].pictures[0].file.write_bytes((Path("examples/scene.png")).read_bytes())  # type: ignore[union-attr]
    run(model, records, tmp_path / "out")
    assert len(model.calls) == 1 and ("gone", 0) not in rejects(tmp_path / "out")


class Refusing(Priced):
    def __init__(self, error: ModelError, often: int = 10**9) -> None:
        super().__init__(lambda prompt, rng: staged("never mind"))
        self.error, self.left = error, often

    async def sample(
        self, prompt: Prompt, n: int, sampling: Sampling, on_text: OnText | None = None
    ) -> list[Continuation]:
        self.left -= 1
        if self.left >= 0:
            self.calls.append(None)  # type: ignore[arg-type]
            raise self.error
        if judging(prompt):
            return [Continuation(CORRECT, (), None, "eos", 1, 1)]
        return await super().sample(prompt, n, sampling, on_text)


def test_a_failure_leaves_the_question_pending(tmp_path: Path) -> None:
    done = annotate_to(tmp_path, questions(5), ModelTeacher(Refusing(ModelFailure("in vain"), 2)), at_once=1)
    assert (done.failed, done.gave_up, done.summary.pending, done.summary.records) == (2, False, 2, 3)
    assert "**Not complete:** 2 of the records" in (tmp_path / "README.md").read_text()
    again = annotate_to(tmp_path, questions(5), ModelTeacher(Refusing(ModelFailure("in vain"), 0)))
    assert (again.failed, again.summary.pending, again.summary.records) == (0, 0, 5)
    assert [line["id"] for line in lines(tmp_path / "train.jsonl")] == [f"q/{i}" for i in range(5)]


@pytest.mark.parametrize("error", [ModelFailure("in vain"), ModelError("refused: it takes no pictures")])
def test_many_in_a_row_end_it(tmp_path: Path, error: ModelError) -> None:
    model = Refusing(error)
    done = annotate_to(tmp_path, questions(100), ModelTeacher(model), at_once=4)
    assert done.gave_up and done.why == str(error)
    assert MAX_FAILURES_IN_A_ROW <= len(model.calls) <= MAX_FAILURES_IN_A_ROW + 4
    again = annotate_to(tmp_path, questions(100), ModelTeacher(Refusing(error, 0)))
    assert (again.summary.records, again.summary.rejected.total(), again.summary.pending) == (100, 0, 0)


def test_a_server_that_refuses_everything_ends_it_at_the_first_reply(tmp_path: Path) -> None:
    annotate_to(tmp_path, questions(3), ModelTeacher(Refusing(ModelFailure("in vain"), 0)))
    model = Refusing(ModelUnavailable("You exceeded your current quota", 429))
    done = annotate_to(tmp_path, questions(50), ModelTeacher(model), at_once=4)
    assert len(model.calls) <= 4 and done.gave_up and not done.complete
    assert (done.summary.records, done.summary.pending, done.summary.rejected.total()) == (3, 47, 0)
    [_, pending] = annotation_end(tmp_path, done)
    assert pending.startswith("still pending: 47 records (You exceeded your current quota);")
    assert "still to be annotated (You exceeded your current quota)" in (tmp_path / "README.md").read_text()
    again = annotate_to(tmp_path, questions(50), ModelTeacher(Refusing(ModelFailure("in vain"), 0)))
    assert (again.summary.records, again.summary.pending, again.complete) == (50, 0, True)


def test_a_refusal_is_asked_once_more_and_is_then_a_reason_of_its_own(tmp_path: Path) -> None:
    model = Refusing(ModelRefusal("tutor refused to answer: I'm sorry"), 2 * 30)
    done = annotate_to(tmp_path, questions(32), ModelTeacher(model), at_once=1)
    assert done.summary.rejected == {"refusal": 30}  # and none of the others is given up
    assert (done.summary.records, done.failed, done.gave_up, done.complete) == (2, 0, False, True)
    lines_of = lines(tmp_path / "rejects.jsonl")
    assert (lines_of[0]["why"], lines_of[0]["reason"]) == ("refusal", "tutor refused to answer: I'm sorry")
    assert "rejected: 30 turns: the teacher refused to answer" in list(annotation_end(tmp_path, done))
    assert "| the teacher refused to answer | 30 |" in (tmp_path / "README.md").read_text()
    calls = len(model.calls)
    annotate_to(tmp_path, questions(32), ModelTeacher(model))
    assert len(model.calls) == calls


def test_refusals_count_for_a_budget_of_questions(tmp_path: Path) -> None:
    model = Refusing(ModelRefusal("no"))
    done = annotate_to(
        tmp_path, questions(9), ModelTeacher(model), budget=AnnotationBudget(questions=4), at_once=1
    )
    assert (done.summary.pending, len(model.calls)) == (5, 8)


def test_whatever_is_missing_is_summed_up_by_reason(tmp_path: Path) -> None:
    model = replying(lambda question, judge, time: "It is so." if "is 0." in question else staged("1"))
    records = [*questions(2), *questions(1), Record("none", (Turn("Why?"),))]
    done = annotate_to(tmp_path, records, ModelTeacher(model))
    assert done.complete
    assert list(annotation_end(tmp_path, done))[1:] == [
        "rejected: 1 turn: the stages were not complete and in order",
        "rejected: 1 turn: the turn has no standard answer",
        "left out: 1 record: an earlier record has the same id",
    ]
    nothing = annotate_to(tmp_path / "nothing", [records[0], records[3]], ModelTeacher(model))
    assert not nothing.complete  # everything was rejected
    failing = Refusing(ModelFailure("the server at one failed"), 3)
    failed = annotate_to(tmp_path / "failed", questions(5), ModelTeacher(failing), at_once=1)
    assert failed.failures == {"the server at one failed": 3} and not failed.complete
    assert "failed: 3 records: the server at one failed" in list(annotation_end(tmp_path, failed))
    assert "| the server at one failed | 3 |" in (tmp_path / "failed" / "README.md").read_text()


def test_what_was_cut_off_is_told_apart(tmp_path: Path) -> None:
    class Cut(Priced):
        async def sample(
            self, prompt: Prompt, n: int, sampling: Sampling, on_text: OnText | None = None
        ) -> list[Continuation]:
            return [Continuation("", (), None, "length", 1, 2048)]

    run(Cut(moody), questions(1), tmp_path)
    assert rejects(tmp_path) == {("q/0", 0): "cut"}


def test_budgets(tmp_path: Path) -> None:
    records, model = questions(40), replying(lambda question, judge, time: CORRECT if judge else staged("?"))
    done = annotate_to(
        tmp_path, records, ModelTeacher(model), budget=AnnotationBudget(questions=10), at_once=4
    )
    assert (done.summary.records, done.summary.pending, done.why) == (
        10, 30, "the budget of 10 questions is spent")  # fmt: skip
    done = annotate_to(tmp_path, records, ModelTeacher(model), budget=AnnotationBudget(usd=0.30), at_once=4)
    assert 0.30 <= (done.cost.usd or 0) <= 0.30 + 4 * 0.01 and done.why == "the budget of $0.3 is spent"
    done = annotate_to(tmp_path, records, ModelTeacher(model), budget=AnnotationBudget(usd=0.30), at_once=4)
    assert done.cost.usd == pytest.approx(0.01 * len(model.calls))
    done = annotate_to(tmp_path, records, ModelTeacher(model))
    assert (done.summary.records, done.summary.pending, done.cost.calls) == (40, 0, 80)
    assert len(model.calls) == 80


@pytest.mark.parametrize(
    ("text", "budget"),
    [("5usd", AnnotationBudget(usd=5)), ("$2.50", AnnotationBudget(usd=2.5)),
     ("5 USD", AnnotationBudget(usd=5)), ("5$", AnnotationBudget(usd=5)),
     ("200", AnnotationBudget(questions=200)), ("0", AnnotationBudget(questions=0))],
)  # fmt: skip
def test_a_budget_in_words(text: str, budget: AnnotationBudget) -> None:
    assert parse_budget(text) == budget


@pytest.mark.parametrize("text", ["", "five", "5eur", "-5usd", "1e3", "5.5", "usd", "nan"])
def test_a_budget_that_is_none(text: str) -> None:
    with pytest.raises(DataError, match="neither money"):
        parse_budget(text)


class Killed(Exception):
    """Instead of SIGKILL."""


class Dying(Store):
    """Dies at the n-th `put`, before or after the value is saved."""

    left = 0
    after = False

    def put(self, key: str, kind: str, value: object) -> None:
        Dying.left -= 1
        if Dying.left == 0 and not Dying.after:
            raise Killed
        super().put(key, kind, value)
        if Dying.left == 0:
            raise Killed


def files(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in ("train.jsonl", "rejects.jsonl", "README.md")}


@settings(max_examples=25)
@given(st.lists(st.tuples(st.integers(1, 12), st.booleans()), max_size=8), st.integers(1, 8))
@pytest.mark.slow
def test_interrupted_at_any_write_it_ends_with_the_same_set(
    kills: list[tuple[int, bool]], at_once: int
) -> None:
    records = questions(8, turns=2)
    with TemporaryDirectory() as scratch:
        calm, killed = Path(scratch, "calm"), Path(scratch, "killed")
        run(Priced(moody), records, calm)
        model = Priced(moody)
        for left, after in kills:
            Dying.left, Dying.after = left, after
            with contextlib.suppress(Killed), patch.object(annotate, "Store", Dying):
                run(model, records, killed, at_once=at_once)
        run(model, records, killed)
        assert files(killed) == files(calm)
        times = Counter((call.prompt, call.sampling.seed) for call in model.calls)
        # What was in flight when it died is called again, and nothing else.
        assert sum(count - 1 for count in times.values()) <= len(kills) * at_once


def test_a_kill_between_the_calls_repeats_neither(tmp_path: Path) -> None:
    model = replying(lambda question, judge, time: CORRECT if judge else staged("nought"))
    for left in (2, 2):  # after the first call's reply, then after the second's
        Dying.left, Dying.after = left, False
        with contextlib.suppress(Killed), patch.object(annotate, "Store", Dying):
            run(model, questions(1), tmp_path)
    # The second reply was lost twice before it was saved; the first never again.
    assert [judging(call.prompt) for call in model.calls] == [False, True, True]
    run(model, questions(1), tmp_path)
    assert [judging(call.prompt) for call in model.calls] == [False, True, True]


def test_a_store_of_other_settings_is_refused(tmp_path: Path) -> None:
    run(replying(lambda *_: staged("0")), questions(1), tmp_path)
    with pytest.raises(StoreError, match="with teacher 'scripted', and not 'scenes'"):
        annotate_to(tmp_path, questions(1), SceneTeacher())


def test_what_is_asked_is_the_key(tmp_path: Path) -> None:
    model = replying(lambda question, judge, time: CORRECT if judge else staged("It."))
    run(model, questions(2), tmp_path)
    changed = [questions(1)[0], Record("q/1", (Turn("Another?", "1"),)), *questions(1)]
    done = annotate_to(tmp_path, changed, ModelTeacher(model))
    assert [asked(call.prompt) for call in model.calls[4:]] == ["Another?", "Another?"]
    assert (done.summary.records, done.summary.repeated) == (2, 1)


def test_no_more_than_asked_for_are_in_flight(tmp_path: Path) -> None:
    flying = most = 0

    class Slow(Priced):
        async def sample(
            self, prompt: Prompt, n: int, sampling: Sampling, on_text: OnText | None = None
        ) -> list[Continuation]:
            nonlocal flying, most
            flying += 1
            most = max(most, flying)
            await asyncio.sleep(0.02)
            flying -= 1
            return await super().sample(prompt, n, sampling, on_text)

    taken: list[AnnotationProgress] = []
    run(Slow(moody), questions(60), tmp_path, at_once=7, on_progress=taken.append)
    assert most == 7
    assert (taken[-1].done, taken[-1].fresh, taken[-1].turns) == (60, 60, 60)


def test_bad_input_in_the_middle_keeps_the_replies(tmp_path: Path) -> None:
    def records() -> object:
        yield from questions(3)
        raise DataError("line 4 is none")

    class Anew:
        def __iter__(self) -> object:
            return records()

    model = replying(lambda question, judge, time: CORRECT if judge else staged("it"))
    with pytest.raises(DataError, match="line 4"):
        annotate_to(tmp_path, Anew(), ModelTeacher(model))  # type: ignore[arg-type]
    assert not (tmp_path / "train.jsonl").exists()
    with Store(tmp_path) as store:
        assert store.counts() == {"write 1": 3, "judge 1": 3, "record": 3}
    with pytest.raises(DataError, match="needed twice"):
        annotate_to(tmp_path, iter(questions(1)), ModelTeacher(model))


def test_a_budget_in_money_needs_a_price(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no price for scenes"):
        annotate_to(tmp_path / "out", questions(1), SceneTeacher(), budget=AnnotationBudget(usd=1))
    assert not (tmp_path / "out").exists()


def test_the_scenes_teach_themselves(tmp_path: Path) -> None:
    items = list(make_items("train", 3, 4))
    records = [
        Record(f"scenes/{item.id}", (Turn(item.question.text, item.answer, item.question.options),))
        for item in items
    ]
    other = Record(records[0].id + "0", (Turn("Is it?", "yes"),))
    done = annotate_to(tmp_path, [*records, other, *questions(1)], SceneTeacher())
    assert done.summary.records == 4 and done.summary.rejected == {"not the teacher's": 2}
    first = lines(tmp_path / "train.jsonl")[0]["conversations"][1]["value"]  # type: ignore[index]
    assert all(text in first for text in items[0].stages.values())
    assert (tmp_path / STORE_FILE).is_file()
