"""A folder of rollouts: what is in it, and that an interruption loses nothing and asks nothing twice."""

import json
import os
import random
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from playing import tagged

from llava_cot.core.images import load_image
from llava_cot.core.stages import LLAVA_COT
from llava_cot.data.reading import RecordFile
from llava_cot.data.record import Picture, Record, Turn, to_json
from llava_cot.data.rollouts.rollout_file import QuestionRollouts, Rollout, read_rollouts
from llava_cot.data.rollouts.rollout_set import (
    RolloutModel,
    RolloutResult,
    RolloutSettings,
    make_rollouts,
)
from llava_cot.data.rollouts.rollout_writer import balance
from llava_cot.errors import ModelFailure
from llava_cot.models.base import Continuation, OnText, Prompt, Sampling
from llava_cot.models.scripted import Script, ScriptedModel

COUNT = 10
SETTINGS: dict[str, Any] = {"samples": 4, "completions": 3}


def script(prompt: Prompt, rng: random.Random) -> str:
    """Half of its captions are bad, and a right answer comes of the others alone; of question 0 all are good.

    What question 9 asks for is a word, which it puts in another word.
    """
    text, number = prompt.prefix, prompt.messages[0].text.split()[-1]
    for stage in LLAVA_COT.names[sum(tag in text for tag in LLAVA_COT.closing_tags) :]:
        words = rng.choice(("good", "bad")) if stage == "caption" and number != "0" else "so"
        if stage == "conclusion":
            words = "a settee" if number == "sofa" else "99" if "bad" in text else number
        text += tagged(stage, words)
    return text[len(prompt.prefix) :]


class Broken(ScriptedModel):
    """Fails from call `at` on, or ends the process there."""

    def __init__(self, at: int, kill: bool = False) -> None:
        super().__init__(script)
        self.at, self.kill = at, kill

    async def sample(
        self, prompt: Prompt, n: int, sampling: Sampling, on_text: OnText | None = None
    ) -> list[Continuation]:
        if len(self.calls) >= self.at:
            if self.kill:
                os.kill(os.getpid(), signal.SIGKILL)
            raise ModelFailure("the server is gone")
        return await super().sample(prompt, n, sampling, on_text)


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    folder = tmp_path / "questions"
    (folder / "images").mkdir(parents=True)
    with (folder / "questions.jsonl").open("w") as lines:
        for number in range(COUNT):
            Image.new("RGB", (8, 8), (number, 0, 0)).save(folder / f"images/{number}.png")
            word = "sofa" if number == 9 else str(number)
            turns = (Turn(f"Write {word}", word), Turn("And then?", "7"))
            picture, extra = Picture(f"images/{number}.png"), {"type": "writing"}
            record = Record(f"q/{number}", turns, (picture,), "x", "MIT", extra)
            lines.write(json.dumps(to_json(record)) + "\n")
        lines.write(json.dumps(to_json(Record("q/none", (Turn("Write"),)))) + "\n")
        lines.write(json.dumps(to_json(Record("q/0", (Turn("Write 0", "0"),)))) + "\n")
    return folder


def made(questions: Path, out: Path, *models: ScriptedModel, **more: Any) -> RolloutResult:
    settings = RolloutSettings(**more.pop("settings", SETTINGS))
    named = [RolloutModel.here(model) for model in models]
    return make_rollouts(out, RecordFile(questions), named, settings, **more)


def lines(out: Path) -> list[QuestionRollouts]:
    return list(read_rollouts(out))


def test_the_folder_has_questions_answers_values_and_pictures(questions: Path, tmp_path: Path) -> None:
    out, model = tmp_path / "out", ScriptedModel(script)
    done = made(questions, out, model)
    found = {line.id: line for line in lines(out)}
    assert [*found] == [f"q/{number}" for number in range(COUNT)]
    for number, line in enumerate(found.values()):
        assert (line.question, line.answer) == (
            (f"Write {number}", str(number)) if number < 9 else ("Write sofa", "sofa")
        )
        [picture] = line.pictures(out)
        assert load_image(picture.read()).pil.getpixel((0, 0)) == (number, 0, 0)
        assert line.extra == {"type": "writing"}
        for sample in line.samples:
            assert sample.right == ("bad" not in sample.text) and sample.logprob == -len(sample.text)
            assert sample.values is not None and [*sample.values] == [*LLAVA_COT.names]
            assert [sample.values[stage] for stage in ("caption", "reasoning", "conclusion")] == [
                sample.right
            ] * 3
            assert sample.values["summary"] in (0, 1 / 3, 2 / 3, 1)
        assert sum(sample.times for sample in line.samples) == (4 if number < 9 else 0)
    assert {sample.values["summary"] for sample in found["q/0"].samples if sample.values} == {1.0}
    assert done.summary.mixed == sum(line.mixed for line in found.values()) > 0
    assert (done.summary.drawn, done.summary.undecided) == (36, 4)
    assert done.summary.left_out == {"no standard answer": 1, "the id of an earlier one": 1}
    card = (out / "README.md").read_text()
    assert "license: mit" in card and "| questions | 10 |" in card and "completions | 3 |" in card


def test_a_beginning_that_answers_share_is_completed_once(questions: Path, tmp_path: Path) -> None:
    model = ScriptedModel(script)
    done = made(questions, tmp_path / "out", model)
    asked = Counter((call.prompt.messages[0].text, call.prompt.prefix) for call in model.calls)
    assert set(asked.values()) == {1}
    [mixed, *_] = [line for line in lines(tmp_path / "out") if line.mixed]
    prefixes = [prefix for text, prefix in asked if text == mixed.question]
    assert len(prefixes) == 1 + 1 + 2 + 2  # the answers, and their summary, captions and reasonings
    assert done.summary.labels == 4 * done.summary.samples
    [(kind, spent, alone)] = done.summary.cost_lines()  # a script prefills nothing
    assert kind == "generated" and spent < alone


def test_without_completions_there_are_no_values(questions: Path, tmp_path: Path) -> None:
    model = ScriptedModel(script)
    done = made(questions, tmp_path / "out", model, settings={"samples": 4})
    assert all(sample.values is None for line in lines(tmp_path / "out") for sample in line.samples)
    assert len(model.calls) == COUNT and done.summary.labels == done.summary.samples


@pytest.mark.parametrize("at", [1, 17, 40])
@pytest.mark.parametrize("kill", [False, True])
def test_after_a_failure_or_a_kill_it_is_resumed_and_asks_nothing_twice(
    questions: Path, tmp_path: Path, at: int, kill: bool
) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    undisturbed = ScriptedModel(script)
    made(questions, whole, undisturbed)
    if kill:
        child = os.fork()
        if not child:
            made(questions, broken, Broken(at, kill=True), at_once=2)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    else:
        done = made(questions, broken, Broken(at), at_once=2)
        assert done.failed and done.why and "the server is gone" in done.why
        assert done.summary.pending > 0 and "Not complete" in (broken / "README.md").read_text()
    again = ScriptedModel(script)
    assert made(questions, broken, again).summary.pending == 0
    for name in ("rollouts.jsonl", "README.md"):
        assert (broken / name).read_bytes() == (whole / name).read_bytes()
    # At most what two questions had in flight is asked again, answers that were stored are not.
    assert len(again.calls) <= len(undisturbed.calls) - at + 2 * 6
    made(questions, broken, Broken(0))
    assert (broken / "rollouts.jsonl").read_bytes() == (whole / "rollouts.jsonl").read_bytes()


def test_stored_answers_are_completed_without_sampling_again(questions: Path, tmp_path: Path) -> None:
    made(questions, tmp_path / "out", Broken(1), at_once=1, limit=1)
    again = ScriptedModel(script)
    made(questions, tmp_path / "out", again, limit=1)
    assert all(call.prompt.prefix for call in again.calls)


def test_values_may_be_added_to_answers_and_are_those_of_one_run(questions: Path, tmp_path: Path) -> None:
    made(questions, tmp_path / "whole", ScriptedModel(script))
    made(questions, tmp_path / "out", ScriptedModel(script), settings={"samples": 4})
    again = ScriptedModel(script)
    made(questions, tmp_path / "out", again)
    assert all(call.prompt.prefix for call in again.calls)
    assert lines(tmp_path / "out") == lines(tmp_path / "whole")
    assert (tmp_path / "out/README.md").read_text() == (tmp_path / "whole/README.md").read_text()


def test_how_many_run_together_changes_nothing(questions: Path, tmp_path: Path) -> None:
    for at_once in (1, 64):
        made(questions, tmp_path / str(at_once), ScriptedModel(script), at_once=at_once)
    assert lines(tmp_path / "1") == lines(tmp_path / "64")


def always(words: str) -> Script:
    """Completes each answer with this conclusion."""

    def write(prompt: Prompt, rng: random.Random) -> str:
        left = LLAVA_COT.names[sum(tag in prompt.prefix for tag in LLAVA_COT.closing_tags) :]
        return "".join(tagged(stage, words if stage == "conclusion" else "so") for stage in left)

    return write


def test_a_value_is_left_out_where_two_models_differ(questions: Path, tmp_path: Path) -> None:
    settings = {"samples": 2, "completions": 2}
    first, second = ScriptedModel(always("1")), ScriptedModel(always("99"))
    second.name = "other"
    for within, known in ((0.25, ["conclusion"]), (1.0, [*LLAVA_COT.names])):
        done = made(
            questions, tmp_path / "out", first, second, settings=settings, agree_within=within
        )  # the second time from the store alone
        line = lines(tmp_path / "out")[1]
        assert [*(line.samples[0].values or {})] == known
    assert line.samples[0].values == {"summary": 0.5, "caption": 0.5, "reasoning": 0.5, "conclusion": 1.0}
    assert done.summary.unlabeled == {}
    assert {call.prompt.prefix == "" for call in second.calls} == {False}
    assert len(first.calls) == COUNT + len(second.calls)


def test_balanced_questions_have_as_many_right_as_wrong_answers(questions: Path, tmp_path: Path) -> None:
    everything = made(questions, tmp_path / "out", ScriptedModel(script)).summary
    done = made(questions, tmp_path / "out", Broken(0), balanced=True).summary
    found = lines(tmp_path / "out")
    assert sum(len(line.samples) for line in found) == done.written < everything.written == done.samples
    assert len(found) == everything.mixed and done.unbalanced == everything.questions - everything.mixed
    assert all(
        [sample.right for sample in line.samples].count(True) * 2 == len(line.samples) for line in found
    )


def test_balancing_draws_evenly_and_in_order() -> None:
    kept: Counter[str] = Counter()
    samples = tuple(Rollout(str(number), number > 2) for number in range(10))  # three wrong
    for number in range(700):
        found = balance(QuestionRollouts(str(number), "?", "1", samples))
        assert found is not None
        texts = [sample.text for sample in found.samples]
        assert texts == sorted(texts) and texts[:3] == ["0", "1", "2"] and len(texts) == 6
        kept.update(texts[3:])
    assert all(abs(kept[str(number)] - 300) < 60 for number in range(3, 10))
    assert balance(QuestionRollouts("1", "?", "1", samples[3:])) is None


def test_other_settings_are_refused(questions: Path, tmp_path: Path) -> None:
    made(questions, tmp_path / "out", ScriptedModel(script), limit=1)
    with pytest.raises(ValueError, match="begun with samples '4', and not '5'"):
        made(questions, tmp_path / "out", ScriptedModel(script), settings=SETTINGS | {"samples": 5})


def test_a_picture_that_cannot_be_read_stays_pending(questions: Path, tmp_path: Path) -> None:
    (questions / "images/3.png").write_bytes(b"nonsense")
    done = made(questions, tmp_path / "out", ScriptedModel(script))
    assert done.failed == done.summary.pending == 1 and done.why and done.why.startswith("q/3: ")
