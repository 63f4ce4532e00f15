import re
from pathlib import Path

import pytest
from playing import PICTURE

from llava_cot.core.images import ImageLimits
from llava_cot.errors import DataError
from llava_cot.search.examples import load_examples
from llava_cot.search.restaging import read_answer

GOOD = "- {question: q, answer: a, "  # may have more
SHIPPED = Path(__file__).parents[2] / "examples" / "worked.yaml"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "shots" / "pictures").mkdir(parents=True)
    for name in ("outside.png", "shots/a.png", "shots/pictures/b.png"):
        PICTURE.pil.save(tmp_path / name)
    (tmp_path / "shots" / "note.png").write_text("no picture")
    (tmp_path / "shots" / "way-out.png").symlink_to(tmp_path / "outside.png")
    return tmp_path / "shots"


def write(folder: Path, text: str) -> Path:
    path = folder / "examples.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_examples_come_in_their_order_with_their_pictures(folder: Path) -> None:
    text = """
- image: a.png
  question: How many?
  answer: One. The answer is 1.
- images: [pictures/b.png, a.png]
  question: Which?
  options: [left, "no"]
  answer: |
    The first.
    The answer is A.
- {question: "1 + 1?", answer: "2"}
"""
    first, second, third = load_examples(write(folder, text))
    assert (first.question.text, first.question.images, first.answer) == (
        "How many?", (PICTURE,), "One. The answer is 1.",
    )  # fmt: skip
    assert [image.name for image in second.question.images] == ["pictures/b.png", "a.png"]
    assert (second.question.options, second.answer) == (("left", "no"), "The first.\nThe answer is A.")
    assert (third.question.images, third.answer) == ((), "2")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is not a list; write examples"),
        ("[]", "is not a list"),
        ("question: q", "is not a list"),
        ("- [", "is not YAML"),
        ("- q", "[0]: Input should be a valid dictionary"),
        ("- {question: q}", "[0].answer: Field required"),
        (
            GOOD + "}\n" + GOOD + "img: a.png}",
            "[1].img: there is no such field",
        ),
        (
            "- {question: q, answer: 2}",
            "[0].answer: it must be text, and YAML reads 2; put it in quotes",
        ),
        (
            GOOD + "options: [yes, no]}",
            "[0].options[0]: it must be text, and YAML reads True",
        ),
        ("- {question: ' ', answer: a}", "[0].question: it is empty"),
        (GOOD + "image: a.png, images: [a.png]}", "[0]: it has both image and images"),
        (GOOD + "image: b.png}", "[0]: cannot read the image b.png: no such file"),
        (GOOD + "image: note.png}", "[0]: cannot read the image note.png: it is damaged"),
        (
            GOOD + "image: pictures}",
            "[0]: cannot read the image pictures: it is a folder",
        ),
        (
            GOOD + "image: ../outside.png}",
            "[0]: the picture '../outside.png' lies outside",
        ),
        (GOOD + "image: /etc/passwd}", "[0]: the picture '/etc/passwd' lies outside"),
        (GOOD + "image: way-out.png}", "[0]: the picture 'way-out.png' lies outside"),
        (GOOD + "image: 'https://example.org/a.png'}", "cannot read the image https://"),
        (
            f"- {{question: q, answer: a, options: [{', '.join('x' * 27)}]}}",
            "[0]: the question has 27 options",
        ),
        ("- &a {question: q, answer: a, options: &o [*a, *a]}", "has too many values, or has no end"),
    ],
)
def test_every_mistake_is_one_sentence_with_its_place(folder: Path, text: str, words: str) -> None:
    path = write(folder, text)
    with pytest.raises(DataError, match=re.escape(words)) as caught:
        load_examples(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    assert str(caught.value).startswith("the file of examples")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no file of examples"):
        load_examples(tmp_path / "none.yaml")


def test_pictures_have_the_limits_of_all_pictures(folder: Path) -> None:
    path = write(folder, GOOD + "image: a.png}")
    assert load_examples(path, ImageLimits(max_pixels=48))
    with pytest.raises(DataError, match=r"more than the .* megapixels"):
        load_examples(path, ImageLimits(max_pixels=47))


def test_the_answers_of_the_shipped_examples_can_be_read() -> None:
    examples = load_examples(SHIPPED)
    assert [read_answer(example.answer)[1] for example in examples] == ["2", "3", "B"]
    assert all(len(example.question.images) == 1 for example in examples)
