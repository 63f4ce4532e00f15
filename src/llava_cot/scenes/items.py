"""Items: one question about one scene, with its picture and the teacher's answer; and folders of them.

A folder has `images/` and `questions.jsonl`, whose lines have `id`, `image` (a relative path), `question`,
`options`, `answer`, `type`, `depth` and `scene`.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from PIL import Image

from llava_cot.core.question import Question, load_image
from llava_cot.scenes.questions import SceneQuestion, american_spelling, ask_about
from llava_cot.scenes.teacher import teach
from llava_cot.scenes.world import Scene, draw_scene, render, scene_rng

_ID = re.compile(r"(?:scenes/)?(?:(hard)-)?(train|validation|test)-(\d{1,9})-(\d{1,9})")


@dataclass(frozen=True)
class SceneItem:
    """One question about one scene, with the teacher's stages."""

    id: str  # SPLIT-SEED-INDEX, after "hard-" for a hard one
    scene: Scene
    question: SceneQuestion
    stages: dict[str, str]

    def picture(self) -> Image.Image:
        return render(self.scene)

    @property
    def answer(self) -> str:
        """The right conclusion: the bare answer, or an option's letter."""
        return self.question.conclusion

    def ask(self) -> Question:
        """The question for a method, with its picture and reference."""
        image = load_image(self.picture())
        return Question(self.question.text, (image,), self.id, self.question.options, self.answer)

    def has_question(self, text: str, options: Sequence[str], answer: str | None) -> bool:
        """Whether this is the item's question, options and answer, in American or British spelling."""
        given = [american_spelling(word) for word in (text, *options, answer or "")]
        return given == [self.question.text, *self.question.options, self.answer]


def make_item(split: str, seed: int, index: int, difficulty: str = "standard") -> SceneItem:
    """Make an item, always the same for the same arguments.

    Raises:
        ValueError: An unknown split or difficulty.
    """
    rng = scene_rng(split, seed, index, difficulty)
    scene = draw_scene(rng, difficulty)
    question = ask_about(scene, rng, difficulty=difficulty)
    return SceneItem(_item_id(split, seed, index, difficulty), scene, question, teach(scene, question))


def _item_id(split: str, seed: int, index: int, difficulty: str) -> str:
    id = f"{split}-{seed}-{index}"
    return id if difficulty == "standard" else f"{difficulty}-{id}"


def named_item(id: str) -> SceneItem | None:
    """The item with an id, which may begin with "scenes/" as in records; None if it is no such id."""
    found = _ID.fullmatch(id)
    return make_item(found[2], int(found[3]), int(found[4]), found[1] or "standard") if found else None


def make_items(split: str, seed: int, count: int, difficulty: str = "standard") -> Iterator[SceneItem]:
    return (make_item(split, seed, index, difficulty) for index in range(count))


def write_scenes(
    out: str | Path, *, count: int, seed: int = 0, split: str = "test", difficulty: str = "standard"
) -> Path:
    """Write a folder of items. `questions.jsonl` is written last, so it is there only if everything is.

    Args:
        out: The folder. It may hold the same set, as after an interruption, and nothing else.
        split: "train", "validation" or "test".
        difficulty: "standard" or "hard".

    Returns:
        The path of `questions.jsonl`.

    Raises:
        ValueError: The count is below 1, the split or difficulty is unknown, or the folder holds other files.
    """
    if count < 1:
        raise ValueError(f"--count must be at least 1, not {count}")
    folder = Path(out)
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file: name a folder for the scenes")
    chosen = (split, seed, count, difficulty)
    next(make_items(*chosen))  # raises for an unknown split or difficulty
    if other := _other_file(folder, *chosen):
        raise ValueError(f"{folder} holds other files ({other}): name a new or empty folder for the scenes")
    (folder / "images").mkdir(parents=True, exist_ok=True)
    part = folder / "questions.jsonl.part"
    (folder / "questions.jsonl").unlink(missing_ok=True)
    with part.open("w", encoding="utf-8") as lines:
        for item in make_items(*chosen):
            item.picture().save(folder / _picture_name(item.id))
            lines.write(_line(item))
    os.replace(part, folder / "questions.jsonl")
    return folder / "questions.jsonl"


def _other_file(folder: Path, split: str, seed: int, count: int, difficulty: str) -> Path | None:
    """The relative path of a file in the folder that is not of this set; None if there is none."""
    ours = {Path(_picture_name(_item_id(split, seed, index, difficulty))) for index in range(count)}
    questions = Path("questions.jsonl")
    ours |= {questions, Path("questions.jsonl.part")}
    for path in folder.rglob("*"):
        if not path.is_dir() and path.relative_to(folder) not in ours:
            return path.relative_to(folder)
    if not (folder / questions).exists():
        return None
    with (folder / questions).open("rb") as found:
        items = make_items(split, seed, count, difficulty)
        same = all(found.readline() == _line(item).encode() for item in items)
        return None if same and not found.read(1) else questions


def _picture_name(id: str) -> str:
    return f"images/{id}.png"


def _line(item: SceneItem) -> str:
    line = {
        "id": item.id,
        "image": _picture_name(item.id),
        "question": item.question.text,
        "options": list(item.question.options),
        "answer": item.answer,
        "type": item.question.type,
        "depth": item.question.depth,
        "scene": asdict(item.scene),
    }
    return json.dumps(line) + "\n"
