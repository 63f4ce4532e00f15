"""Loading images from paths, URLs, bytes and PIL images: checked, upright and in RGB."""

from __future__ import annotations

import base64
import binascii
import hashlib
import io
import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, cast
from urllib.parse import unquote_to_bytes, urlsplit

from PIL import Image

from llava_cot.errors import ImageError

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")

# The EXIF orientation tag, and the transpositions that put an image upright (Exif 2.32, section 4.6.4).
_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

_SIDEWAYS = (5, 6, 7, 8)  # orientations that swap width and height

# Files that are often mistaken for images: how they begin, and what to say.
_NOT_PICTURES = (
    (rb"\s*<(!doctype html|html)\b", "it is a web page; give the address of the picture itself"),
    (rb"\s*<(.*<)?svg\b", "it is an SVG drawing; export it as PNG"),
    (rb"%PDF-", "it is a PDF document; export the page as PNG"),
    (rb"....ftyp(heic|heix|mif1|avif)", "it is in HEIC or AVIF format; export it as JPEG or PNG"),
)

_SMALL_SIDE = 512

_filters_lock = threading.Lock()


@dataclass(frozen=True)
class ImageLimits:
    """The most that an image may have: bytes as stored, pixels, and seconds to download."""

    max_bytes: int = 20_000_000
    max_pixels: int = 50_000_000
    max_seconds: float = 30.0


@dataclass(frozen=True)
class LoadedImage:
    """An image in RGB, upright. Two images are equal if their pixels are.

    `file` is the PNG or JPEG that it was read from, if that holds nothing but the pixels (no metadata).
    """

    name: str = field(compare=False)  # for people
    sha256: str  # of its size and pixels
    pil: Image.Image = field(compare=False, repr=False)
    file: bytes | None = field(default=None, compare=False, repr=False)

    @cached_property
    def small(self) -> str:
        """A small copy to show, its longer side at most 512 pixels, as a data URL. Computed once."""
        return jpeg_url(self.pil, _SMALL_SIDE, quality=90)


def jpeg_url(image: Image.Image, side: int, quality: int) -> str:
    """A copy of an image, its longer side at most `side` pixels, as the data URL of a JPEG."""
    copy = image.copy()
    copy.thumbnail((side, side))
    data = io.BytesIO()
    copy.save(data, "JPEG", quality=quality)
    return "data:image/jpeg;base64," + base64.b64encode(data.getvalue()).decode("ascii")


ImageSource = str | Path | bytes | Image.Image | LoadedImage
_LIMITS = ImageLimits()


def load_image(
    source: ImageSource,
    *,
    limits: ImageLimits = _LIMITS,
    allow_private_hosts: bool = False,
    name: str | None = None,
) -> LoadedImage:
    """Load an image from a path, an http(s) or data URL, the bytes of a file, or a PIL image.

    The image is turned upright by its EXIF orientation; transparency is put on white; of an animation the
    first frame counts; more than 8 bits a channel become 8. Equal pixels have equal `sha256`, whatever the
    source. Blocks while it reads.

    A string may name any file and, with `allow_private_hosts`, any host of the local network: a server must
    not pass on strings of its clients unchecked.

    Args:
        source: The image.
        limits: The most bytes, pixels and seconds.
        allow_private_hosts: Allow addresses of the local network.
        name: The image's name for people; by default, that of the source.

    Raises:
        ImageError: The image cannot be used.
    """
    if isinstance(source, LoadedImage):
        return source
    try:
        image = _load(source, limits, allow_private_hosts)
        return image if name is None else replace(image, name=name)
    except _Unusable as reason:
        shown = name or _describe(source)
        raise ImageError(
            f"cannot read the image {shown if len(shown) <= 200 else shown[:197] + '...'}: {reason}"
        ) from None


def upright_size(source: Path | bytes, *, name: str | None = None) -> tuple[int, int]:
    """Width and height of an image as `load_image` gives it, without its pixels. Raises ImageError."""
    try:
        data = _from_path(source, _LIMITS) if isinstance(source, Path) else source
        if not data:
            raise _Unusable("it is empty; give a picture's file")
        with _opened(data, _LIMITS) as image:
            if image.format == "TIFF":
                _load_pixels(image)  # Pillow turns it then, and what it says of it changes
            width, height = image.size
            turned = _orientation(image) in _SIDEWAYS
    except _Unusable as reason:
        raise ImageError(f"cannot read the image {name or _describe(source)}: {reason}") from None
    return (height, width) if turned else (width, height)


class _Unusable(Exception):
    """Why an image cannot be used; follows its name in a message."""


def _load(source: ImageSource, limits: ImageLimits, allow_private_hosts: bool) -> LoadedImage:
    if source == "":
        raise _Unusable("its path is empty")
    if isinstance(source, str) and is_data_url(source):
        return _decode(_from_data_url(source, limits), "data URL", limits)
    if isinstance(source, str) and _is_url(source):
        return _decode(_from_url(source, limits, allow_private_hosts), url_name(source), limits)
    if isinstance(source, (str, Path)):
        return _decode(_from_path(Path(source), limits), Path(source).name, limits)
    if isinstance(source, bytes):
        return _decode(source, "bytes", limits)
    if isinstance(source, Image.Image):
        return _convert(source, "image", limits)
    raise _Unusable("an image is given as a path, a URL, bytes or a PIL image")


def _describe(source: object) -> str:
    if isinstance(source, str) and is_data_url(source):
        return "in the data URL"
    if isinstance(source, str) and _is_url(source):
        return url_name(source)
    if isinstance(source, (str, Path)):
        return str(source) if source and str(source).isprintable() else repr(str(source))
    return f"given as {type(source).__name__}"


def is_data_url(source: str) -> bool:
    """Whether the source is a data URL, which holds the image itself."""
    return source[:5].lower() == "data:"


def _is_url(source: str) -> bool:
    return re.match(r"[a-z][a-z0-9+.-]*://", source, re.IGNORECASE) is not None


def url_name(url: str) -> str:
    """A URL as it may be shown and stored: without its query, fragment, user name and password."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return url.split("?")[0]
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _check_bytes(size: int, limits: ImageLimits) -> None:
    if size > limits.max_bytes:
        raise _Unusable(f"it has more than the {limits.max_bytes / 1e6:g} MB allowed; give a smaller one")


def _from_path(path: Path, limits: ImageLimits) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(limits.max_bytes + 1)
    except IsADirectoryError:
        raise _Unusable("it is a folder; give a file") from None
    except OSError as error:
        raise _Unusable((error.strerror or "it cannot be opened").lower()) from None
    except ValueError:
        raise _Unusable("that is no path") from None
    _check_bytes(len(data), limits)
    return data


def _from_url(url: str, limits: ImageLimits, allow_private: bool) -> bytes:
    from llava_cot.core.download import download
    from llava_cot.errors import DownloadError

    try:
        return download(
            url, max_bytes=limits.max_bytes, max_seconds=limits.max_seconds, allow_private=allow_private
        )
    except DownloadError as error:
        raise _Unusable(str(error)) from None


def _from_data_url(url: str, limits: ImageLimits) -> bytes:
    head, comma, payload = url.partition(",")
    if not comma:
        raise _Unusable("a comma must follow the type; write data:image/png;base64,...")
    # Three bytes take four characters in base64, and up to three times as many if percent-encoded.
    _check_bytes(len(payload) // 4, limits)
    data = unquote_to_bytes(payload.encode("ascii", "replace"))
    if head.lower().rstrip().endswith(";base64"):
        data = b"".join(data.split()).rstrip(b"=")
        try:
            data = base64.b64decode(data + b"=" * (-len(data) % 4), validate=True)
        except binascii.Error:
            raise _Unusable("its base64 is damaged; encode the file again") from None
    _check_bytes(len(data), limits)
    return data


def _decode(data: bytes, name: str, limits: ImageLimits) -> LoadedImage:
    if not data:
        raise _Unusable("it is empty; give a picture's file")
    _check_bytes(len(data), limits)
    with _opened(data, limits) as image:
        loaded = _convert(image, name, limits)
        return replace(loaded, file=data) if is_bare_file(data, image) else loaded


def _opened(data: bytes, limits: ImageLimits) -> Image.Image:
    try:
        with _quiet():
            return Image.open(io.BytesIO(data), formats=FORMATS)
    except Image.DecompressionBombError:
        raise _Unusable(f"it has more than the {limits.max_pixels / 1e6:g} megapixels allowed") from None
    except Exception:  # Pillow's readers raise whatever damaged data makes them
        raise _Unusable(_why_not_a_picture(data)) from None


@contextmanager
def _quiet() -> Iterator[None]:
    """Without Pillow's warnings of large pictures (our limit is stricter) and of damaged metadata."""
    with _filters_lock, warnings.catch_warnings():  # the filters belong to all threads
        warnings.simplefilter("ignore")
        yield


def _why_not_a_picture(data: bytes) -> str:
    for beginning, reason in _NOT_PICTURES:
        if re.match(beginning, data[:1000], re.IGNORECASE | re.DOTALL):
            return reason
    return f"it is damaged, or in none of the formats {', '.join(FORMATS)}"


def _convert(image: Image.Image, name: str, limits: ImageLimits) -> LoadedImage:
    width, height = image.size
    if width < 1 or height < 1:
        raise _Unusable("it has no pixels")
    if width * height > limits.max_pixels:
        raise _Unusable(
            f"its {width} x {height} pixels are more than the {limits.max_pixels / 1e6:g} megapixels "
            "allowed; make it smaller"
        )
    try:
        image.load()
        rgb = _to_rgb(_upright(image))
        pixels = rgb.tobytes()
    except Exception:  # whatever the reader of its format raises
        raise _Unusable("its data are damaged or cut off; fetch or save it again") from None
    digest = hashlib.sha256(b"%d x %d " % rgb.size)
    digest.update(pixels)
    # A plain image: no file behind it, no metadata that would turn it a second time.
    return LoadedImage(name, digest.hexdigest(), Image.frombytes("RGB", rgb.size, pixels))


def _load_pixels(image: Image.Image) -> None:
    try:
        image.load()
    except Exception:  # whatever the reader of its format raises
        raise _Unusable("its data are damaged or cut off; fetch or save it again") from None


def _upright(image: Image.Image) -> Image.Image:
    turn = _UPRIGHT.get(_orientation(image))
    return image if turn is None else image.transpose(turn)


def _orientation(image: Image.Image) -> int:
    try:
        with _quiet():
            return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # damaged metadata do not make the picture worthless
        return 1


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith(("I", "F")):
        return _to_8_bits(image).convert("RGB")
    if not image.has_transparency_data:
        return image if image.mode == "RGB" else image.convert("RGB")
    if image.mode == "La":
        image = image.convert("LA")
    image = image.convert("RGBA")
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image).convert("RGB")


def _to_8_bits(image: Image.Image) -> Image.Image:
    """Gray values of more than 8 bits, from the smallest usual range that holds them; else from their own."""
    usual = {"I": (255, 65535), "F": (1, 255, 65535)}.get(image.mode, (65535,))
    image = image.convert("F")
    low, high = cast(tuple[float, float], image.getextrema())
    for top in usual:
        if low >= 0 and high <= top:
            low, high = 0, top
            break
    scale = 255 / (high - low) if high > low else 0.0
    return image.point(lambda value: value * scale - low * scale).convert("L")


_ENDS = {"PNG": b"IEND\xaeB`\x82", "JPEG": b"\xff\xd9"}
_SEGMENTS = {"APP0", "APP14"}  # JFIF, and Adobe's mark of the color space
# What Pillow reports of files that hold nothing but pixels and how to decode them.
_HARMLESS = {
    "jfif", "jfif_version", "jfif_unit", "jfif_density", "dpi", "adobe", "adobe_transform",
    "progressive", "progression",
}  # fmt: skip


def is_bare_file(data: bytes, image: Image.Image) -> bool:
    """Whether the file of this image may be sent instead of its pixels: a bare PNG or JPEG, in RGB or gray.

    That saves encoding, and a JPEG stays small. It must reveal no more than the pixels: no place and time in
    EXIF, no comment, no color profile, nothing after the end of the image.
    """
    opened: Any = image
    return (
        image.format in _ENDS
        and data.endswith(_ENDS[image.format])
        and image.mode in ("RGB", "L")
        and getattr(image, "n_frames", 1) == 1
        and set(image.info) <= _HARMLESS
        and {segment[0] for segment in getattr(opened, "applist", ())} <= _SEGMENTS
        and not getattr(opened, "private_chunks", ())
    )
