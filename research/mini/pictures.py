"""The pictures that mini learns from: training scenes, rendered once at the size it reads.

The folder `pictures/` of a run has `pixels.npy`, uint8 [count, 96, 96, 3], and `counts.npy`, the number of
objects of each scene. A scene itself is drawn again from its number. Number `count + i` is scene i mirrored.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from llava_cot.scenes.world import Scene, draw_scene, render, scene_rng

IMAGE_SIZE = 96
MEAN, STD = 0.5, 0.25  # of the image processor
SEED = 0
_CHUNK = 500

Pixels = NDArray[np.uint8]


def small(picture: Image.Image) -> Pixels:
    """As mini's image processor resizes it: [96, 96, 3]."""
    return np.asarray(picture.resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BILINEAR))


def mirrored(scene: Scene) -> Scene:
    objects = tuple(replace(item, x=1 - item.x, turn=-item.turn) for item in reversed(scene.objects))
    return Scene(objects, (-scene.light[0], scene.light[1]))


def _scene(number: int) -> Scene:
    return draw_scene(scene_rng("train", SEED, number, "hard"), "hard")


def _chunk(start: int) -> tuple[Pixels, list[int]]:
    scenes = [_scene(number) for number in range(start, start + _CHUNK)]
    return np.stack([small(render(scene)) for scene in scenes]), [len(scene.objects) for scene in scenes]


def draw_pictures(folder: Path, count: int, on_progress: Callable[[int, int], None]) -> None:
    """Render at least `count` scenes into `folder`, after an interruption from the last complete chunk on."""
    folder.mkdir(parents=True, exist_ok=True)
    count = -(-count // _CHUNK) * _CHUNK
    pixels, counts, part = folder / "pixels.npy", folder / "counts.npy", folder / "pixels.part.npy"
    if counts.exists():
        return
    done = folder / "counts.part"
    known = [int(word) for word in done.read_text().split()] if done.exists() and part.exists() else []
    known = known[: len(known) // _CHUNK * _CHUNK]
    shape = (count, IMAGE_SIZE, IMAGE_SIZE, 3)
    file = np.lib.format.open_memmap(part, "r+" if known else "w+", np.uint8, shape)
    starts = range(len(known), count, _CHUNK)
    with ProcessPoolExecutor() as pool, done.open("a" if known else "w") as log:
        for start, (block, numbers) in zip(starts, pool.map(_chunk, starts), strict=True):
            file[start : start + _CHUNK] = block
            file.flush()
            known += numbers
            log.write(" ".join(map(str, numbers)) + "\n")
            log.flush()
            on_progress(len(known), count)
    part.replace(pixels)
    np.save(counts, np.array(known, np.uint8))
    done.unlink()


class Pool:
    """The rendered scenes of a run, by number."""

    def __init__(self, folder: Path):
        self.pixels: Pixels = np.load(folder / "pixels.npy", mmap_mode="r")
        counts = np.load(folder / "counts.npy")
        self.by_count = {
            int(size): np.concatenate([places, places + len(counts)])
            for size in np.unique(counts)
            for places in [np.flatnonzero(counts == size)]
        }

    def __len__(self) -> int:
        return 2 * len(self.pixels)

    def scene(self, number: int) -> Scene:
        count = len(self.pixels)
        return _scene(number) if number < count else mirrored(_scene(number - count))

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
