"""The pictures that mini-base learns from: hard training scenes, rendered once at the size it reads.

The folder `pictures/` of a run has `pixels.npy`, uint8 [count, 96, 96, 3], and `scenes.npy`, the scenes as
numbers. Number `count + i` is scene i mirrored.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from llava_cot.core.files import write_whole
from llava_cot.scenes.world import (
    COLORS,
    MATERIALS,
    MAX_OBJECTS,
    SHAPES,
    SIZES,
    Scene,
    SceneObject,
    draw_scene,
    render,
    scene_rng,
)

IMAGE_SIZE = 96
MEAN, STD = 0.5, 0.25  # of the image processor
SEED = 0
_CHUNK = 500

Pixels = NDArray[np.uint8]
Numbers = NDArray[np.float64]


def small(picture: Image.Image) -> Pixels:
    """As mini's image processor resizes it: [96, 96, 3]."""
    return np.asarray(picture.resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BILINEAR))


def mirrored(scene: Scene) -> Scene:
    objects = tuple(replace(item, x=1 - item.x, turn=-item.turn) for item in reversed(scene.objects))
    return Scene(objects, (-scene.light[0], scene.light[1]))


def _scene(number: int) -> Scene:
    return draw_scene(scene_rng("train", SEED, number, "hard"), "hard")


_ATTRIBUTES = {"size": SIZES, "color": COLORS, "material": MATERIALS, "shape": SHAPES}
_ROWS = MAX_OBJECTS + 1  # of one scene's numbers: the number of objects and the light, and then the objects


def _to_numbers(scene: Scene) -> Numbers:
    numbers = np.zeros((_ROWS, 7))
    numbers[0, :3] = len(scene.objects), *scene.light
    for row, item in enumerate(scene.objects, 1):
        codes = (values.index(getattr(item, name)) for name, values in _ATTRIBUTES.items())
        numbers[row] = (*codes, item.x, item.y, item.turn)
    return numbers


def _from_numbers(numbers: Numbers) -> Scene:
    count, *light = numbers[0, :3].tolist()
    objects = []
    for *codes, x, y, turn in numbers[1 : int(count) + 1].tolist():
        words = {
            name: values[int(code)] for (name, values), code in zip(_ATTRIBUTES.items(), codes, strict=True)
        }
        objects.append(SceneObject(**words, x=x, y=y, turn=turn))
    return Scene(tuple(objects), (light[0], light[1]))


def _chunk(start: int) -> tuple[Pixels, Numbers]:
    scenes = [_scene(number) for number in range(start, start + _CHUNK)]
    return np.stack([small(render(scene)) for scene in scenes]), np.stack(
        [_to_numbers(scene) for scene in scenes]
    )


def draw_pictures(folder: Path, count: int, on_progress: Callable[[int, int], None]) -> None:
    """Render at least `count` scenes into `folder`, after an interruption from the last complete chunk on."""
    folder.mkdir(parents=True, exist_ok=True)
    count = -(-count // _CHUNK) * _CHUNK
    done = folder / "done"  # how many scenes are drawn
    known = int(done.read_text()) if done.exists() else 0
    if known >= count:
        return
    mode: Literal["r+", "w+"] = "r+" if known else "w+"
    shape = (count, IMAGE_SIZE, IMAGE_SIZE, 3)
    pixels = np.lib.format.open_memmap(folder / "pixels.npy", mode, np.uint8, shape)
    scenes = np.lib.format.open_memmap(folder / "scenes.npy", mode, np.float64, (count, _ROWS, 7))
    starts = range(known, count, _CHUNK)
    with ProcessPoolExecutor() as pool:
        for start, (block, numbers) in zip(starts, pool.map(_chunk, starts), strict=True):
            pixels[start : start + _CHUNK], scenes[start : start + _CHUNK] = block, numbers
            pixels.flush()
            scenes.flush()
            write_whole(done, str(start + _CHUNK))
            on_progress(start + _CHUNK, count)


class Pool:
    """The rendered scenes of a run, by number."""

    def __init__(self, folder: Path):
        self.pixels: Pixels = np.load(folder / "pixels.npy", mmap_mode="r")
        self.scenes: Numbers = np.load(folder / "scenes.npy", mmap_mode="r")
        counts = self.scenes[:, 0, 0].astype(int)
        self.by_count = {
            int(size): np.concatenate([places, places + len(counts)])
            for size in np.unique(counts)
            for places in [np.flatnonzero(counts == size)]
        }

    def __len__(self) -> int:
        return 2 * len(self.pixels)

    def scene(self, number: int) -> Scene:
        count = len(self.pixels)
        scene = _from_numbers(self.scenes[number % count])
        return scene if number < count else mirrored(scene)

    def batch(self, numbers: Sequence[int]) -> dict[str, Tensor]:
        """The vision model's inputs: pixel_values [B, 1, 1, 3, 96, 96] and its constant inputs."""
        count = len(self.pixels)
        raw = [self.pixels[i] if i < count else self.pixels[i - count][:, ::-1] for i in numbers]
        pixels = (torch.from_numpy(np.stack(raw)).permute(0, 3, 1, 2).float() / 255 - MEAN) / STD
        ones = torch.ones(len(raw), 1, dtype=torch.long)
        return {
            "pixel_values": pixels[:, None, None],
            "aspect_ratio_ids": ones,
            "aspect_ratio_mask": ones[:, :, None],
        }
