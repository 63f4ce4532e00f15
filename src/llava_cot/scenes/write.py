"""Writes scenes to a folder: pictures and `questions.jsonl`, for training, testing or looking at.

Owns the folder's layout. `questions.jsonl` has a line a scene with `id`, `image` (a relative path),
`question`, `options`, `answer`, `type` and `scene`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from llava_cot.question import Question, load_image
from llava_cot.scenes.questions import SceneQuestion, ask_about
from llava_cot.scenes.render import render
from llava_cot.scenes.teacher import teach
from llava_cot.scenes.world import Scene, draw_scene, scene_rng


@dataclass(frozen=True)
class Item:
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


def make_item(split: str, seed: int, index: int) -> Item:
    """The item that these three always give. Raises ValueError for a split that there is not."""
    rng = scene_rng(split, seed, index)
    scene = draw_scene(rng)
    question = ask_about(scene, rng)
    return Item(f"{split}-{seed}-{index}", scene, question, teach(scene, question, rng))


def make_items(split: str, seed: int, count: int) -> Iterator[Item]:
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

    Raises ValueError for a count below 1, an unknown split, or a folder that already has other files.
    """
    if count < 1:
        raise ValueError(f"--count must be at least 1, not {count}")
    folder = Path(out)
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file: name a folder for the scenes")
    if folder.exists() and any(
        p.name not in ("images", "questions.jsonl", "questions.jsonl.part") for p in folder.iterdir()
    ):
        raise ValueError(f"{folder} holds other files: name a new or empty folder for the scenes")
    make_item(split, seed, 0)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    part = folder / "questions.jsonl.part"
    (folder / "questions.jsonl").unlink(missing_ok=True)
    with part.open("w", encoding="utf-8") as lines:
        for done, item in enumerate(make_items(split, seed, count), 1):
            name = f"images/{item.id}.png"
            item.picture().save(folder / name)
            line = {
                "id": item.id,
                "image": name,
                "question": item.question.text,
                "options": list(item.question.options),
                "answer": item.answer,
                "type": item.question.type,
                "scene": item.scene.to_json(),
            }
            lines.write(json.dumps(line) + "\n")
            if on_progress:
                on_progress(done)
    os.replace(part, folder / "questions.jsonl")
    return folder / "questions.jsonl"
