"""What is the same is found, what is not is let be; the index agrees with brute force."""

import io
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from llava_cot.data.overlap import (
    HASH_BITS,
    LIKE,
    NEAR,
    BenchmarkIndex,
    Fingerprint,
    PictureIndex,
    fingerprint,
    normalize,
    question_key,
)
from llava_cot.data.record import Record, Turn
from llava_cot.errors import ImageError
from llava_cot.scenes.items import make_items

PICTURES = [item.picture() for item in make_items("validation", 5, 12)]


def encoded(image: Image.Image, format: str = "PNG", **options: int) -> bytes:
    data = io.BytesIO()
    image.save(data, format, **options)
    return data.getvalue()


def apart(a: Fingerprint, b: Fingerprint) -> int:
    return (a.phash ^ b.phash).bit_count()


def test_another_file_with_the_same_pixels_is_the_same_picture() -> None:
    first = fingerprint(encoded(PICTURES[0], compress_level=1))
    assert first == fingerprint(encoded(PICTURES[0], "BMP"))
    assert len(first.sha256) == 64 and 0 < first.phash < 2**HASH_BITS


def test_a_compressed_a_scaled_and_a_trimmed_copy_are_near_and_other_scenes_are_not() -> None:
    hashes = [fingerprint(encoded(picture)) for picture in PICTURES]
    for picture, known in zip(PICTURES, hashes, strict=True):
        width, height = picture.size
        copies = [
            encoded(picture, "JPEG", quality=60),
            encoded(picture.resize((128, 128))),
            encoded(picture.resize((400, 400))),
            encoded(picture.crop((2, 2, width - 2, height - 2))),
        ]
        for copy in map(fingerprint, copies):
            assert copy.sha256 != known.sha256 and apart(copy, known) <= NEAR
        assert apart(fingerprint(encoded(picture.crop((4, 4, width - 4, height - 4)))), known) <= LIKE
    assert min(apart(a, b) for i, a in enumerate(hashes) for b in hashes[:i]) > LIKE


def test_what_is_no_picture_is_refused_by_name() -> None:
    with pytest.raises(ImageError, match=r"x/1\.png"):
        fingerprint(b"nonsense", "x/1.png")


@given(st.lists(st.integers(0, 40), max_size=8), st.integers(0, 40), st.integers(0, 60), st.randoms())
def test_the_index_finds_what_brute_force_finds(
    known: list[int], other: int, distance: int, rng: random.Random
) -> None:
    base = rng.getrandbits(HASH_BITS)

    def changed(name: int, count: int) -> Fingerprint:
        phash = base
        for bit in rng.sample(range(HASH_BITS), count):
            phash ^= 1 << bit
        return Fingerprint(str(name), phash)

    hashes, question = [changed(name, count) for name, count in enumerate(known)], changed(-1, other)
    index = PictureIndex()
    assert index.near(question, distance) == []
    assert [index.add(known) for known in hashes] == list(range(len(hashes)))
    found = index.near(question, distance)
    assert found == [number for number, known in enumerate(hashes) if apart(known, question) <= distance]
    assert all(index.same(known) == number for number, known in enumerate(hashes))


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        ("How many  cubes are there?", "how many cubes are there", True),
        ("<image>\nIs it “red”?", "Is it red?", True),
        ("ﬁnd ２", "FIND 2", True),
        ("What is 3.5?", "What is 35?", False),
        ("Is it -5?", "Is it 5?", False),
        ("a grandmother's house", "a grandmothers house", False),
    ],
)
def test_normalised_texts(a: str, b: str, same: bool) -> None:
    assert (normalize(a) == normalize(b)) is same


@given(st.text())
def test_a_normalised_text_stays_as_it_is(text: str) -> None:
    assert normalize(normalize(text)) == normalize(text)


def test_the_order_of_options_is_no_part_of_a_question() -> None:
    one, other = (
        Record("1", (Turn("Which?", options=options),))
        for options in (("a cube", "a ball"), ("A ball.", "a cube"))
    )
    assert question_key(one) == question_key(other)
    assert question_key(one) != question_key(Record("1", (Turn("Which?", options=("a cube",)),)))


def test_a_benchmarks_question_is_known_by_its_picture_or_by_text_and_a_relative_of_its_picture() -> None:
    known, other = (fingerprint(encoded(picture)) for picture in PICTURES[:2])
    near = Fingerprint("n", known.phash ^ (2**NEAR - 1))
    like = Fingerprint("l", known.phash ^ (2**LIKE - 1))
    exact = Fingerprint(known.sha256, known.phash)
    benchmarks = BenchmarkIndex()
    benchmarks.add(Record("b/1", (Turn("How many objects?"),)), [known])
    benchmarks.add(Record("b/2", (Turn("What is a fee?"),)), [])
    assert len(benchmarks) == 2
    asks = {
        text: Record("t", (Turn("Hello"), Turn(text)))
        for text in ("how many objects", "What is a fee?", "Why?")
    }
    for text, picture, expected in [
        ("Why?", exact, "picture"),
        ("Why?", near, "picture"),
        ("Why?", like, None),
        ("how many objects", like, "text"),
        ("how many objects", other, None),
        ("how many objects", None, "text"),
        ("What is a fee?", other, "text"),
        ("Why?", None, None),
    ]:
        assert benchmarks.overlap(asks[text], [picture] if picture else []) == expected, (text, picture)
