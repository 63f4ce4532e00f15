"""A folder of judge examples: what is in it, and that an interruption loses and repeats nothing."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from playing import tagged

from llava_cot.core.images import load_image
from llava_cot.core.stages import LLAVA_COT
from llava_cot.data.reading import RecordFile
from llava_cot.data.record import Picture, Record, Turn, from_json, to_json
from llava_cot.data.rollouts.duel_set import DuelsResult, make_duels, why_not
from llava_cot.data.rollouts.duels import DuelSettings
from llava_cot.errors import ModelFailure
from llava_cot.models.base import Continuation, OnText, Prompt, Sampling
from llava_cot.models.scripted import ScriptedModel

TAGS = LLAVA_COT.closing_tags
COUNT = 12


def script(prompt: Prompt, rng: random.Random) -> str:
    """Half of its captions are bad, and what comes of them; it answers with the number in the question."""
    text, number = prompt.prefix, prompt.messages[0].text.split()[-1]
    for stage in LLAVA_COT.names[sum(tag in text for tag in TAGS) :]:
        words = rng.choice(("good", "bad")) if stage == "caption" else "so"
        if stage == "conclusion":
            words = "99" if "bad" in text else number
        text += tagged(stage, words)
    return text[len(prompt.prefix) :]


class Failing(ScriptedModel):
    """Fails from call `at` on."""

    def __init__(self, at: int) -> None:
        super().__init__(script)
        self.at = at

    async def sample(
        self, prompt: Prompt, n: int, sampling: Sampling, on_text: OnText | None = None
    ) -> list[Continuation]:
        if len(self.calls) >= self.at:
            raise ModelFailure("the server is gone")
        return await super().sample(prompt, n, sampling, on_text)


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    folder = tmp_path / "questions"
    (folder / "images").mkdir(parents=True)
    with (folder / "questions.jsonl").open("w") as lines:
        for number in range(COUNT):
            Image.new("RGB", (8, 8), (number, 0, 0)).save(folder / f"images/{number}.png")
            turns = (Turn(f"Write {number}", str(number)), Turn("And then?", "7"))
            picture = Picture(f"images/{number}.png")
            lines.write(json.dumps(to_json(Record(f"q/{number}", turns, (picture,), "x", "MIT"))) + "\n")
        for turn in (Turn("Write"), Turn("Write", "so and so and so and so and so")):
            lines.write(json.dumps(to_json(Record(f"q/{turn.answer}", (turn,)))) + "\n")
    return folder


def made(questions: Path, out: Path, model: ScriptedModel, **more: Any) -> DuelsResult:
    settings = DuelSettings(**more.pop("settings", {}))
    return make_duels(out, RecordFile(questions), model, settings, **more)


def lines(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "train.jsonl").read_text().splitlines()]


def test_the_folder_is_records_with_pictures_and_a_report(questions: Path, tmp_path: Path) -> None:
    out, model = tmp_path / "out", ScriptedModel(script)
    done = made(questions, out, model)
    assert (done.failed, done.summary.pending, done.summary.questions) == (0, 0, COUNT)
    records = [from_json(line, out) for line in lines(out)]
    assert len({record.id for record in records}) == len(records) > COUNT
    for record in records:
        [turn] = record.turns
        assert turn.response and turn.answer is None and turn.text == turn.question
        assert (record.source, record.license) == ("duels", "MIT")
        assert set(record.extra) == {"of", "model", "kind", "stage", "by", "worths"}
        assert record.extra["model"] == "scripted" and record.id.startswith(record.extra["of"] + "/")
        number = record.extra["of"].removeprefix("q/")
        assert f"Question:\nWrite {number}\n" in turn.text  # of two turns the first
        assert len(record.pictures) == (record.extra["kind"] == "duel")
        for picture in record.pictures:
            assert load_image(picture.read()).pil.getpixel((0, 0)) == (int(number), 0, 0)
    report = json.loads((out / "duels.json").read_text())
    assert report["settings"]["model"] == "scripted" and report["settings"]["sure"] == "0.75"
    assert report["usage"]["calls"] == sum(call.n for call in model.calls)
    assert report["usage"]["usd"] is None
    assert len({call.sampling.seed for call in model.calls}) == len(model.calls)
    assert sum(report["left_out"].values()) == 2
    stage = report["stages"]["caption"]
    duels = [r for r in records if (r.extra["kind"], r.extra["stage"]) == ("duel", "caption")]
    assert stage["duels"] == len(duels) == report["gaps"]["caption"]["1.00"] <= stage["labelled"]


@pytest.mark.parametrize("at", [1, 30, 61])
def test_after_a_failure_it_is_resumed_and_ends_the_same(questions: Path, tmp_path: Path, at: int) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    undisturbed = ScriptedModel(script)
    made(questions, whole, undisturbed)
    assert len(lines(whole)) > COUNT
    first = Failing(at)
    done = made(questions, broken, first, at_once=3)
    assert done.failed and done.why and "the server is gone" in done.why
    assert done.summary.pending == COUNT - done.summary.questions > 0
    again = ScriptedModel(script)
    assert made(questions, broken, again).summary.pending == 0
    assert (broken / "train.jsonl").read_bytes() == (whole / "train.jsonl").read_bytes()
    assert (broken / "duels.json").read_bytes() == (whole / "duels.json").read_bytes()
    searched = {call.prompt.messages[0].text for call in again.calls}
    assert len(searched) == done.summary.pending  # no finished question is searched again
    made(questions, broken, Failing(0))
    assert (broken / "train.jsonl").read_bytes() == (whole / "train.jsonl").read_bytes()


def test_how_many_run_together_changes_nothing(questions: Path, tmp_path: Path) -> None:
    for at_once in (1, 64):
        made(questions, tmp_path / str(at_once), ScriptedModel(script), at_once=at_once)
    assert lines(tmp_path / "1") == lines(tmp_path / "64")


def test_a_limit_is_the_beginning_and_may_be_raised(questions: Path, tmp_path: Path) -> None:
    few, all_of = tmp_path / "few", tmp_path / "all"
    assert made(questions, few, ScriptedModel(script), limit=5).summary.questions == 5
    made(questions, all_of, ScriptedModel(script))
    first = lines(few)
    assert first == lines(all_of)[: len(first)]
    made(questions, few, ScriptedModel(script))
    assert lines(few) == lines(all_of)


def test_a_picture_that_cannot_be_read_stays_pending(questions: Path, tmp_path: Path) -> None:
    (questions / "images/3.png").write_bytes(b"nonsense")
    done = made(questions, tmp_path / "out", ScriptedModel(script))
    assert done.failed == done.summary.pending == 1 and done.why and done.why.startswith("q/3: ")


def test_other_settings_are_refused(questions: Path, tmp_path: Path) -> None:
    made(questions, tmp_path / "out", ScriptedModel(script), limit=1)
    with pytest.raises(ValueError, match="begun with seed '0', and not '1'"):
        made(questions, tmp_path / "out", ScriptedModel(script), limit=1, settings={"seed": 1})


def test_which_answers_can_be_checked() -> None:
    assert why_not(Record("1", (Turn("Which?", "A", ("left", "a " * 20)),))) is None
    assert why_not(Record("1", (Turn("Which?", "3.5"),))) is None
    assert why_not(Record("1", (Turn("Which?", " "),))) == "no standard answer"
    assert why_not(Record("1", ())) == "no standard answer"
    assert "8 words" in (why_not(Record("1", (Turn("Describe it.", "a " * 9),))) or "")
