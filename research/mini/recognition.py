"""How well mini's pictures are told from others: fits `scenes.recognition.BOUNDS`, and measures them.

    python -m research.mini.recognition --photographs DIR

The bounds are fitted on training scenes alone, as drawn, compressed and resized; the table is of test scenes
and of pictures that are none. DIR holds photographs, of which crops are taken.
"""

from __future__ import annotations

import argparse
import io
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

from llava_cot.core.images import load_image
from llava_cot.scenes.items import make_item
from llava_cot.scenes.recognition import BOUNDS, is_scene, measure, unknown_words
from llava_cot.scenes.world import DIFFICULTIES, draw_scene, render, scene_rng

ROOT = Path(__file__).resolve().parents[2]
FITTED = 8000  # training scenes
# This share of scenes is below a measure's lower bound, and above its upper one; then the range is widened by
# a share of itself.
OUTSIDE, SLACK = 0.0005, 0.3

Picture = Image.Image
Draw = Callable[[random.Random], Picture]


# Scenes, by the split they are of.


def scene(split: str, rng: random.Random) -> Picture:
    difficulty = rng.choice(DIFFICULTIES)
    return render(draw_scene(scene_rng(split, 0, rng.randrange(10**6), difficulty), difficulty))


def compressed(picture: Picture, rng: random.Random) -> Picture:
    data = io.BytesIO()
    picture.save(data, "JPEG", quality=rng.randint(50, 95), subsampling=rng.choice((0, 2)))
    return Image.open(data).convert("RGB")


def resized(picture: Picture, rng: random.Random) -> Picture:
    width = rng.randint(96, 512)
    height = round(width * rng.uniform(0.9, 1.1))
    return picture.resize((width, height), rng.choice((Image.Resampling.BILINEAR, Image.Resampling.LANCZOS)))


def forms(split: str) -> dict[str, Draw]:
    return {
        "scenes as drawn": lambda rng: scene(split, rng),
        "scenes as JPEG, quality 50 to 95": lambda rng: compressed(scene(split, rng), rng),
        "scenes resized to 96 to 512 pixels": lambda rng: resized(scene(split, rng), rng),
        "scenes resized, as JPEG": lambda rng: compressed(resized(scene(split, rng), rng), rng),
    }


# Pictures that are none.


def photograph(files: list[Path]) -> Draw:
    """Crops of photographs at any scale, mirrored or not, some in gray."""

    def draw(rng: random.Random) -> Picture:
        with Image.open(rng.choice(files)) as opened:
            opened.draft("RGB", (1600, 1600))
            whole = ImageOps.exif_transpose(opened).convert("RGB")
        side = rng.uniform(0.3, 1) * min(whole.size)
        left, top = (rng.uniform(0, size - side) for size in whole.size)
        pixels = rng.randint(96, 512)
        crop = whole.resize((pixels, pixels), box=(left, top, left + side, top + side))
        crop = ImageOps.mirror(crop) if rng.random() < 0.5 else crop
        return crop.convert("L").convert("RGB") if rng.random() < 0.15 else crop

    return draw


def chart(rng: random.Random) -> Picture:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    numbers = np.random.default_rng(rng.getrandbits(32))
    with plt.style.context(rng.choice(["default", *plt.style.available])):
        figure, axes = plt.subplots(figsize=(4, rng.uniform(3, 4)), dpi=rng.choice((50, 80)))
        x, y = np.arange(rng.randint(3, 12)), numbers.random(rng.randint(3, 12)) * 100
        match rng.randrange(8):
            case 0:
                axes.bar(np.arange(len(y)), y)
            case 1:
                axes.barh(np.arange(len(y)), y)
            case 2:
                axes.plot(numbers.random((20, rng.randint(1, 4))).cumsum(axis=0))
            case 3:
                axes.pie(y, labels=[f"part {i}" for i in range(len(y))])
            case 4:
                left, right, tints, sizes = numbers.random((4, 60))
                axes.scatter(left, right, c=tints, s=100 * sizes)
            case 5:
                axes.hist(numbers.normal(size=(200, 2)))
            case 6:
                axes.imshow(
                    numbers.random((len(x), len(y))), cmap=rng.choice(["viridis", "gray", "coolwarm"])
                )
            case 7:
                axes.boxplot(numbers.normal(size=(30, len(x))))
        axes.set_title(" ".join(words(rng, 4)))
        if rng.random() < 0.2:
            figure.set_facecolor(str(rng.uniform(0.4, 0.9)))
            axes.set_facecolor(str(rng.uniform(0.4, 0.9)))
        figure.canvas.draw()
        drawn = Image.fromarray(np.asarray(figure.canvas.buffer_rgba())).convert("RGB")  # type: ignore[attr-defined]
        plt.close(figure)
    return drawn


def words(rng: random.Random, count: int) -> list[str]:
    return ["".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(2, 9))) for _ in range(count)]


def page(rng: random.Random) -> Picture:
    """Text in any font of matplotlib's, in any colors, or dark on light."""
    import matplotlib

    plain = rng.random() < 0.6
    paper = color(rng) if not plain else (rng.randint(200, 255),) * 3 if rng.random() < 0.8 else (150,) * 3
    picture = Image.new("RGB", (rng.randint(96, 512), rng.randint(96, 512)), paper)
    file = rng.choice(sorted(Path(matplotlib.get_data_path(), "fonts/ttf").glob("*.ttf")))
    font = ImageFont.truetype(file, rng.randint(8, 40))
    ink = (rng.randint(0, 80),) * 3 if plain else color(rng)
    for line in range(rng.randint(1, 30)):
        place = (rng.randint(0, 20), line * font.size * 1.2)
        ImageDraw.Draw(picture).text(place, " ".join(words(rng, 8)), fill=ink, font=font)
    return picture


def color(rng: random.Random) -> tuple[int, int, int]:
    return (rng.randrange(256), rng.randrange(256), rng.randrange(256))


def noise(rng: random.Random) -> Picture:
    """Of every pixel or of patches, with any mean, in color or in gray."""
    numbers = np.random.default_rng(rng.getrandbits(32))
    side, channels = rng.randint(4, 256), rng.choice((1, 3))
    match rng.randrange(3):
        case 0:
            values = numbers.random((side, side, channels))
        case 1:
            values = numbers.normal(rng.random(), rng.uniform(0.02, 0.4), (side, side, channels))
        case 2:
            values = (numbers.random((side, side, channels)) < rng.random()).astype(float)
    pixels = np.repeat(np.clip(values * 255, 0, 255).astype(np.uint8), 3 // channels, axis=2)
    return Image.fromarray(pixels).resize(
        (192, 192), rng.choice((Image.Resampling.NEAREST, Image.Resampling.BICUBIC))
    )


def gradient(rng: random.Random) -> Picture:
    """From one color, or gray, to another, in any direction; or one color alone."""
    angle, gray = rng.uniform(0, 2 * np.pi), rng.random() < 0.5
    ends = [[rng.randrange(256)] * 3 if gray else color(rng) for _ in range(2)]
    if rng.random() < 0.3:
        ends[1] = ends[0]
    y, x = np.mgrid[0:1:192j, 0:1:192j]
    share = np.clip(0.5 + (x - 0.5) * np.cos(angle) + (y - 0.5) * np.sin(angle), 0, 1)[:, :, None]
    return Image.fromarray((np.array(ends[0]) * (1 - share) + np.array(ends[1]) * share).astype(np.uint8))


def drawing(rng: random.Random) -> Picture:
    """Flat shapes on a paper of one color, half of the time gray."""
    paper = (rng.randrange(256),) * 3 if rng.random() < 0.5 else color(rng)
    picture = Image.new("RGB", (192, 192), paper)
    for _ in range(rng.randint(1, 12)):
        left, top, size = rng.randrange(160), rng.randrange(160), rng.randint(8, 60)
        box = (left, top, left + size, top + size * rng.uniform(0.5, 1.5))
        draw = ImageDraw.Draw(picture)
        rng.choice((draw.ellipse, draw.rectangle))(box, fill=color(rng))
    return picture


def screenshot(rng: random.Random) -> Picture:
    """Parts of the pictures in docs/img."""
    with Image.open(rng.choice(sorted((ROOT / "docs/img").glob("*.png")))) as opened:
        whole = opened.convert("RGB")
    width, height = (round(size * rng.uniform(0.4, 1)) for size in whole.size)
    left, top = rng.randint(0, whole.width - width), rng.randint(0, whole.height - height)
    return whole.crop((left, top, left + width, top + height))


def changed(rng: random.Random) -> Picture:
    """A scene in gray, upside down, in wrong colors, or a part of one."""
    picture = scene("test", rng)
    match rng.randrange(4):
        case 0:
            return picture.convert("L").convert("RGB")
        case 1:
            return ImageOps.flip(picture)
        case 2:
            return ImageOps.invert(picture)
    return picture.crop((0, 96, 96, 192))


def others(photographs: Path | None) -> dict[str, Draw]:
    files = sorted(
        path
        for path in (photographs.rglob("*") if photographs else ())
        if path.suffix.lower() in (".jpg", ".jpeg", ".png")
    )
    found: dict[str, Draw] = {f"photographs (crops of {len(files)})": photograph(files)} if files else {}
    return found | {
        "charts": chart,
        "text": page,
        "noise": noise,
        "gradients and plain colors": gradient,
        "flat shapes": drawing,
        "screenshots": screenshot,
        "scenes in gray, upside down, inverted or cut": changed,
    }


# Questions that are none of mini's.

_SUBJECTS = (
    "man", "dog", "car", "building", "woman", "sky", "bar", "country", "year", "player", "cat", "tree",
    "sign", "train", "company",
)  # fmt: skip
_WORDINGS = (
    "What is the {} doing?", "How many {}s are in the picture?", "What color is the {}?", "Is there a {}?",
    "Which {} has the highest value?", "Describe the {}.", "Where is the {}?", "Why is the {} there?",
)  # fmt: skip


def fit(draws: dict[str, Draw]) -> dict[str, tuple[float, float]]:
    rng = random.Random("fit")
    measured = [measure(draw(rng)) for draw in draws.values() for _ in range(FITTED // len(draws))]
    found = {}
    for name in BOUNDS:
        low, high = np.quantile([one[name] for one in measured], (OUTSIDE, 1 - OUTSIDE))
        more = SLACK * (high - low)
        found[name] = (float(low - more), float(high + more))
    return found


def noted(draw: Draw, count: int, seed: str) -> int:
    rng = random.Random(seed)
    return sum(not is_scene(load_image(draw(rng)).pil) for _ in range(count))


def rows(photographs: Path | None, count: int) -> Iterator[tuple[str, int, int]]:
    """Name, number and how many are noted, of each kind of picture and of question."""
    for name, draw in (forms("test") | others(photographs)).items():
        yield name, count, noted(draw, count, name)
    fresh = [make_item("test", 1, index, DIFFICULTIES[index % 2]).question for index in range(5 * count)]
    texts = ["\n".join((one.text, *(f"A. {option}" for option in one.options))) for one in fresh]
    yield "questions about scenes", len(texts), sum(bool(unknown_words(text)) for text in texts)
    texts = [wording.format(subject) for wording in _WORDINGS for subject in _SUBJECTS]
    yield "other questions", len(texts), sum(bool(unknown_words(text)) for text in texts)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m research.mini.recognition", description=__doc__)
    parser.add_argument("--photographs", type=Path, help="a folder of photographs")
    parser.add_argument("--count", type=int, default=1000, help="pictures of each kind")
    parser.add_argument("--fit", action="store_true", help="fit the bounds, and print them alone")
    options = parser.parse_args()
    if options.fit:
        for name, (low, high) in fit(forms("train")).items():
            print(f'    "{name}": ({low:.4f}, {high:.4f}),')
        return
    print("| | number | noted | % |\n| --- | ---: | ---: | ---: |")
    for name, number, found in rows(options.photographs, options.count):
        print(f"| {name} | {number:,} | {found:,} | {100 * found / number:.1f} |", flush=True)


if __name__ == "__main__":
    main()
