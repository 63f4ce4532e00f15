"""A picture's own file is sent only where it tells no more than the pixels, and then shows the same."""

import io
from typing import Any

import pytest
from PIL import Image, PngImagePlugin

from llava_cot.core.question import load_image
from llava_cot.errors import ImageError
from llava_cot.models.endpoint.prompts import data_url

PICTURE = Image.linear_gradient("L").resize((40, 30)).convert("RGB")


def file(kind: str, picture: Image.Image = PICTURE, **options: Any) -> bytes:
    data = io.BytesIO()
    picture.save(data, kind, **options)
    return data.getvalue()


def turned() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return file("JPEG", exif=exif)


def noted() -> bytes:
    info = PngImagePlugin.PngInfo()
    info.add_text("Comment", "taken at home")
    return file("PNG", pnginfo=info)


def private() -> bytes:
    info = PngImagePlugin.PngInfo()
    info.add(b"prVt", b"a secret")
    return file("PNG", pnginfo=info)


@pytest.mark.parametrize(
    "data",
    [file("PNG"), file("JPEG"), file("JPEG", progressive=True), file("JPEG", dpi=(72, 72)),
     file("PNG", PICTURE.convert("L"))],
)  # fmt: skip
def test_a_bare_file_is_sent_as_it_is(data: bytes) -> None:
    image = load_image(data)
    assert image.file == data
    sent = load_image(data_url(image, None))
    assert sent == image and sent.file == data
    assert load_image(data_url(image, 20)).pil.size == (20, 15)


@pytest.mark.parametrize(
    "data",
    [turned(), noted(), private(), file("JPEG", comment=b"at home"), file("PNG") + b"more",
     file("JPEG") + b"more",
     file("PNG", PICTURE.convert("RGBA")), file("PNG", icc_profile=b"a profile"), file("GIF"), file("WEBP"),
     file("JPEG", PICTURE.convert("CMYK")),
     file("PNG", save_all=True, append_images=[PICTURE.transpose(Image.Transpose.ROTATE_180)])],
)  # fmt: skip
def test_anything_more_is_encoded_anew(data: bytes) -> None:
    image = load_image(data)
    assert image.file is None
    assert load_image(data_url(image, None)) == image


def test_a_side_that_jpeg_cannot_hold_is_sent_as_png() -> None:
    image = load_image(Image.new("RGB", (70_000, 20), (1, 2, 3)))
    url = data_url(image, None)
    assert url.startswith("data:image/png;base64,") and load_image(url) == image
    assert data_url(image, 35_000).startswith("data:image/png")
    assert image.small.startswith("data:image/jpeg")


def test_a_picture_that_cannot_be_encoded_is_an_image_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def save(*_: object, **__: object) -> None:
        raise OSError("encoder error -2 when writing image file")

    image = load_image(Image.new("RGB", (2000, 2000)))
    monkeypatch.setattr(Image.Image, "save", save)
    with pytest.raises(ImageError, match="cannot send the image image: it cannot be encoded"):
        data_url(image, None)
