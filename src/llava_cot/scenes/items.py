"""Writes scenes to a folder: pictures and `questions.jsonl`, for training, testing or looking at.

Owns the folder's layout. `questions.jsonl` has a line a scene with `id`, `image` (a relative path),
`question`, `options`, `answer`, `type` and `scene`.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from llava_cot.core.question import Question, load_image
from llava_cot.scenes.questions import SceneQuestion, ask_about
from llava_cot.scenes.render import render
from llava_cot.scenes.teacher import teach
from llava_cot.scenes.world import Scene, draw_scene, scene_rng

_ID = re.compile(r"(?:scenes/)?(train|validation|test)-(\d{1,9})-(\d{1,9})")


@dataclass(frozen=True)
class SceneItem:
    """One question about one scene, with the teacher's stages. `id` is SPLIT-SEED-INDEX."""

    id: str
    scene: Scene
    question: SceneQuestion
    stages: dict[str, str]

    def picture(self) -> Image.Image:
        return render(self.scene)

    @property
    def answer(self) -> str:
        """What the conclusion ought to be: the bare answer, or an option's letter."""
        return self.question.conclusion

    def ask(self) -> Question:
        """The question as any method takes it, with its picture and reference."""
        image = load_image(self.picture())
        return Question(self.question.text, (image,), self.id, self.question.options, self.answer)


def make_item(split: str, seed: int, index: int) -> SceneItem:
    """The item that these three always give. Raises ValueError for a split that there is not."""
    rng = scene_rng(split, seed, index)
    scene = draw_scene(rng)
    question = ask_about(scene, rng)
    return SceneItem(f"{split}-{seed}-{index}", scene, question, teach(scene, question, rng))


def named_item(id: str) -> SceneItem | None:
    """The item of that id, also with "scenes/" before it, as the source of scenes has it; None if none."""
    found = _ID.fullmatch(id)
    return make_item(found[1], int(found[2]), int(found[3])) if found else None


def make_items(split: str, seed: int, count: int) -> Iterator[SceneItem]:
    return (make_item(split, seed, index) for index in range(count))


def write_scenes(
    out: str | Path,
    *,
    count: int,
    seed: int = 0,
    split: str = "test",
    on_progress: Callable[[int], None] | None = None,
) -> Path:
    """Write `count` scenes under `out`; `questions.jsonl` comes last, so it is there only when all is.

    The same set may be written again, as after an interruption. Raises ValueError for a count below 1,
    an unknown split, or a folder that holds anything else: another set's pictures would stay beside
    these, or its questions be lost.
    """
    if count < 1:
        raise ValueError(f"--count must be at least 1, not {count}")
    folder = Path(out)
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file: name a folder for the scenes")
    make_item(split, seed, 0)
    other = _other_file(folder, split, seed, count)
    if other is not None:
        raise ValueError(f"{folder} holds other files ({other}): name a new or empty folder for the scenes")
    (folder / "images").mkdir(parents=True, exist_ok=True)
    part = folder / "questions.jsonl.part"
    (folder / "questions.jsonl").unlink(missing_ok=True)
    with part.open("w", encoding="utf-8") as lines:
        for done, item in enumerate(make_items(split, seed, count), 1):
            item.picture().save(folder / _picture_name(item.id))
            lines.write(_line(item))
            if on_progress:
                on_progress(done)
    os.replace(part, folder / "questions.jsonl")
    return folder / "questions.jsonl"


def _other_file(folder: Path, split: str, seed: int, count: int) -> Path | None:
    """A file in the folder that is not of this set, if there is one; its path is relative."""
    ours = {Path(_picture_name(f"{split}-{seed}-{index}")) for index in range(count)}
    questions = Path("questions.jsonl")
    ours |= {questions, Path("questions.jsonl.part")}
    for path in folder.rglob("*"):
        if not path.is_dir() and path.relative_to(folder) not in ours:
            return path.relative_to(folder)
    if not (folder / questions).exists():
        return None
    with (folder / questions).open("rb") as found:
        same = all(found.readline() == _line(item).encode() for item in make_items(split, seed, count))
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
        "scene": item.scene.to_json(),
    }
    return json.dumps(line) + "\n"
