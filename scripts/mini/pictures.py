"""Renders the training scenes once, at the size the model reads, into one memory-mapped file.

    python scripts/mini/pictures.py --out RUN --count 60000

Writes RUN/pictures.npy, uint8 [count, 96, 96, 3]. A scene is drawn again from its seed, so only pixels are
kept. Interrupted, it starts over (a few minutes); complete, it does nothing.
"""

from __future__ import annotations

import argparse
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from llava_cot.scenes.render import render
from llava_cot.scenes.world import draw_scene, scene_rng

IMAGE_SIZE = 96
SEED = 0
_CHUNK = 500


def small(picture: Image.Image) -> np.ndarray:
    """As mini's image processor resizes it."""
    return np.asarray(picture.resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BILINEAR))


def _render_chunk(start: int) -> np.ndarray:
    return np.stack(
        [small(render(draw_scene(scene_rng("train", SEED, i)))) for i in range(start, start + _CHUNK)]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, default=60_000)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    target = args.out / "pictures.npy"
    if target.exists():
        return
    part = target.with_suffix(".part.npy")
    count = -(-args.count // _CHUNK) * _CHUNK
    file = np.lib.format.open_memmap(part, "w+", np.uint8, (count, IMAGE_SIZE, IMAGE_SIZE, 3))
    with ProcessPoolExecutor() as pool:
        starts = range(0, count, _CHUNK)
        for start, block in zip(starts, pool.map(_render_chunk, starts), strict=True):
            file[start : start + _CHUNK] = block
            print(f"\r{start + _CHUNK}/{count} pictures", end="", flush=True)
    file.flush()
    part.rename(target)
    print()


if __name__ == "__main__":
    main()
