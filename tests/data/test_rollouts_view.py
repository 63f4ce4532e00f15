"""The page to look through rollouts: what it shows, and that hostile data run nothing in it."""

from pathlib import Path

import pytest
from command import run
from html_elements import HOSTILE, Elements
from PIL import Image
from playing import WORDS, tagged

from llava_cot.data.rollouts.rollout_file import QuestionRollouts, Rollout, write_rollouts
from llava_cot.view.rollouts_page import rollouts_page

STAGED = "\n\n".join(tagged(stage, text) for stage, text in WORDS.items())
VALUES = {"summary": 0.75, "caption": 0.5, "reasoning": 1.0, "conclusion": 1.0}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    Image.new("RGB", (8, 6)).save(tmp_path / "images/1.png")
    mixed = (
        Rollout(STAGED, True, times=3, logprob=-4.25, values=VALUES),
        Rollout(STAGED.replace("2 ", "3 "), False, values={"summary": 0.75}),
    )
    steps = Rollout("Two and two.\nIt is five.\nSo 5.", False, steps=((12, 1.0), (24, 0.0)))
    questions = [
        QuestionRollouts(
            "q/1",
            "How many?",
            "A",
            mixed,
            images=("images/1.png",),
            options=("2", "3"),
            extra={"type": "count"},
        ),
        QuestionRollouts("q/2", "What is it?", "4", (steps,)),
        QuestionRollouts("q/3", "And this?", "sofa", ()),
    ]
    write_rollouts(tmp_path / "rollouts.jsonl", questions)
    return tmp_path


def test_questions_answers_and_values_are_there(folder: Path) -> None:
    page = rollouts_page(folder, 200)
    elements = Elements(page)
    assert (elements.count("lc-record"), elements.count("lc-sample"), elements.count("lc-wrong")) == (3, 3, 2)
    assert elements.count("lc-stage") == 4 + 4 + 3
    values = [attrs["value"] for tag, attrs in elements.found if tag == "meter"]
    assert values == ["0.75", "0.5", "1.0", "1.0", "0.75", "1.0", "0.0"]
    found = [(attrs["data-source"], attrs["data-found"]) for tag, attrs in elements.found if tag == "article"]
    assert found == [("right and wrong", "count"), ("all wrong", ""), ("no answers", "")]
    for words in ("3 times", "log-probability -4.2", "not labeled", "So 5.", "no picture", "8&nbsp;×&nbsp;6"):
        assert words in page
    assert elements.count("lc-right") == 1


def test_the_choice_is_by_the_seed(folder: Path) -> None:
    assert Elements(rollouts_page(folder, 1)).count("lc-record") == 1
    assert len({rollouts_page(folder, 1, seed) for seed in range(12)}) == 3


def test_hostile_text_is_shown_as_text(tmp_path: Path) -> None:
    text = HOSTILE.replace("\ud800", "")
    sample = Rollout(text + tagged("conclusion", text), True, values={"conclusion": 1.0})
    options = {"extra": {"type": text, text: text}, "options": (text,)}
    write_rollouts(tmp_path / "rollouts.jsonl", [QuestionRollouts(text, text, text, (sample,), **options)])
    elements = Elements(rollouts_page(tmp_path, 9))
    assert [tag for tag, _ in elements.found].count("script") == 1
    for tag, attrs in elements.found:
        assert tag != "img" and not any(name.startswith("on") or name == "style" for name in attrs)


def test_the_command_writes_the_page(folder: Path) -> None:
    done = run("data", "view", folder, "--out", folder / "page.html")
    assert done.returncode == 0, done.stderr
    assert "q/1" in (folder / "page.html").read_text()
    done = run("data", "view", folder, "--out", folder / "page.html", "--only", "findings")
    assert done.returncode == 2 and b"rollouts are not checked" in done.stderr
