"""How a question travels to a worker."""

import io
import pickle

import numpy as np
import pytest
from PIL import Image

from llava_cot.core.question import ImageLimits, Question, load_image
from llava_cot.errors import ImageError
from llava_cot.evaluation.cluster import PackedQuestion
from llava_cot.scenes.items import make_item


def noise(mode: str, size: tuple[int, int] = (40, 30)) -> Image.Image:
    rng = np.random.default_rng(3)
    channels = {"RGB": 3, "RGBA": 4, "L": 1}[mode]
    return Image.frombytes(mode, size, rng.bytes(size[0] * size[1] * channels))


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L"])
@pytest.mark.parametrize("format", ["PNG", "JPEG", None])
def test_a_question_arrives_as_it_was(mode: str, format: str | None) -> None:
    source: Image.Image | bytes = noise(mode)
    if format is not None:
        data = io.BytesIO()
        noise("RGB" if format == "JPEG" else mode).save(data, format)
        source = data.getvalue()
    images = (load_image(source, name="a.png"), load_image(noise("L", (1, 1)), name="b"))
    question = Question("How many?", images, "7", ("one", "two"), "A")
    packed = PackedQuestion.pack(question)
    assert all(isinstance(data, bytes) for _, data in packed.pictures)
    found = pickle.loads(pickle.dumps(packed)).unpack()
    assert found == question  # pixel by pixel, by their hashes
    assert [image.name for image in found.images] == ["a.png", "b"]
    assert found.images[0].pil.tobytes() == images[0].pil.tobytes()


def test_a_picture_beyond_the_usual_limits_can_be_sent() -> None:
    limits = ImageLimits(max_bytes=10**9, max_pixels=10**9)
    large = noise("RGB", (2700, 2700))  # 22 MB as PNG
    question = Question("How many?", (load_image(large, limits=limits),))
    packed = PackedQuestion.pack(question)
    with pytest.raises(ImageError):
        load_image(packed.pictures[0][1])
    assert packed.unpack() == question


def test_a_scene_arrives_as_it_was() -> None:
    question = make_item("validation", 0, 3).ask()
    assert PackedQuestion.pack(question).unpack() == question
