"""Judge examples say which candidate leads to the right answer, in the self-judge's own words."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from command import run
from training import picture, write

from llava_cot.data.records import DataError, Record, Turn, to_json
from llava_cot.judges.prompts import parse_check, parse_choice
from llava_cot.models.base import Prompt, Sampling
from llava_cot.models.scripted import ScriptedModel
from llava_cot.stages import parse
from llava_cot.train.duels import write_duels
from llava_cot.train.encode import load_pictures
from llava_cot.train.judging import Settings, duels, is_right
from llava_cot.train.rows import read_records

SETTINGS = Settings(n=6, rollouts=3, sampling=Sampling(0.8, max_tokens=200))


def script(prompt: Prompt, rng: random.Random) -> str:
    """Sees 3 or 4 cubes, and counts what it saw. Summaries differ and do not matter."""
    stages = parse(prompt.prefix).stages
    seen = 4 if "4" in (stages["caption"] or "") else 3
    if stages["caption"] is None:
        seen = rng.choice((3, 4))
    parts = {
        "summary": f"I will count{'.' * rng.randint(1, 3)}",
        "caption": f"There are {seen} cubes.",
        "reasoning": f"One by one that makes {seen}.",
        "conclusion": str(seen),
    }
    rest = [f"<{n.upper()}> {t} </{n.upper()}>" for n, t in parts.items() if stages[n] is None]
    return "\n\n".join(rest)


def records(folder: Path, count: int = 40) -> list[Record]:
    return [Record(f"r/{i}", (Turn("How many?", "3"),), (picture(folder, i),)) for i in range(count)]


async def test_the_better_candidate_is_chosen_in_either_order(tmp_path: Path) -> None:
    model = ScriptedModel(script)
    choices = []
    for one in records(tmp_path):
        for example in await duels(model, one, load_pictures(one), SETTINGS, seed=1):
            [turn] = example.turns
            assert turn.response is not None
            if example.extra["kind"] == "caption-duel":
                choice = parse_choice(turn.response)
                first = turn.question.split("Response 1:\n")[1].split("\n")[0]
                assert (choice == 1) == (first == "There are 3 cubes.")
                assert example.pictures == one.pictures
                choices.append(choice)
            elif example.extra["kind"].startswith("check"):
                assert parse_check(turn.response) is ("makes 3" in turn.question)
                assert example.pictures == ()
    assert 10 < choices.count(1) < len(choices) - 10 and len(choices) > 30


@pytest.mark.parametrize(
    ("answer", "right"),
    [("B", True), ("b.", True), ("the Red cube", True), ("B. red cube", True), ("A", False), (None, False)],
)
def test_an_option_is_right_by_letter_or_text(answer: str | None, right: bool) -> None:
    assert is_right(answer, Turn("Which?", "B", ("ball", "red cube"))) is right


def test_an_interrupted_folder_ends_with_the_same_set(tmp_path: Path) -> None:
    some = records(tmp_path / "in", 12)
    write_duels(ScriptedModel(script), some, tmp_path / "whole", SETTINGS, 1)

    class Interrupted(Exception):
        pass

    def stop(done: int) -> None:
        if done == 5:
            raise Interrupted

    with pytest.raises(ExceptionGroup):
        write_duels(ScriptedModel(script), some, tmp_path / "cut", SETTINGS, 1, stop)
    kept = tmp_path / "cut" / "duels.jsonl"
    kept.write_text(kept.read_text() + '{"id": "r/1')
    assert not (tmp_path / "cut" / "train.jsonl").exists()
    count = write_duels(ScriptedModel(script), some, tmp_path / "cut", SETTINGS, 1)
    ours, theirs = (sorted((tmp_path / n / "train.jsonl").read_text().splitlines()) for n in ("cut", "whole"))
    assert ours == theirs and len(ours) == count > 12
    read = list(read_records(tmp_path / "cut" / "train.jsonl"))
    assert all(load_pictures(one) or not one.pictures for one in read)
    with pytest.raises(DataError, match="made with other settings"):
        write_duels(ScriptedModel(script), some, tmp_path / "cut", SETTINGS, 2)


def test_the_command_makes_duels_of_minis_answers(tmp_path: Path) -> None:
    from llava_cot.scenes.write import make_item

    item = make_item("train", 0, 3)
    (tmp_path / "in").mkdir()
    item.picture().save(tmp_path / "in" / "a.png")
    turn = Turn(item.question.text, item.answer, item.question.options)
    one = Record("a", (turn,), (picture(tmp_path / "in", 1),))
    write(tmp_path / "in", [one])
    line = to_json(one) | {"image": "a.png"}
    (tmp_path / "in" / "train.jsonl").write_text(json.dumps(line) + "\n")
    done = run(
        "data", "duels", tmp_path / "in", "--model", "mini", "--out", tmp_path / "out", "-n", "2",
        "--rollouts", "1", "--temperature", "1.5",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout == b"" and b"examples to" in done.stderr
    assert (tmp_path / "out" / "train.jsonl").is_file()
