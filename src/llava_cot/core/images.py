"""Loading images from paths, URLs, bytes and PIL images: checked, upright and in RGB."""

from __future__ import annotations

import base64
import binascii
import errno
import io
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from urllib.parse import urlsplit

from PIL import Image

from llava_cot.core.decoder_pool import LITTLE_MEMORY_REASON, decode_bounded, size_bounded
from llava_cot.core.decoding import Decoded, Unusable, convert
from llava_cot.errors import ImageError

_SMALL_SIDE = 512


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
    with _image_errors(source, name):
        if isinstance(source, Image.Image):
            return _loaded(convert(source, limits.max_pixels), name or "image")
        data = _read(source, limits, allow_private_hosts)
        decoded = decode_bounded(data, limits.max_pixels)
        return _loaded(decoded, name or _name_of(source), data if decoded.bare else None)


def read_image(
    source: str | Path | bytes,
    *,
    limits: ImageLimits = _LIMITS,
    allow_private_hosts: bool = False,
    name: str | None = None,
) -> bytes:
    """The bytes of an image's file, not decoded, to be given to `load_image`, which describes the rest.

    Raises ImageError.
    """
    with _image_errors(source, name):
        return _read(source, limits, allow_private_hosts)


def upright_size(source: Path | bytes, *, name: str | None = None) -> tuple[int, int]:
    """Width and height of an image as `load_image` gives it, without its pixels. Raises ImageError."""
    with _image_errors(source, name):
        return size_bounded(_read(source, _LIMITS, False), _LIMITS.max_pixels)


@contextmanager
def _image_errors(source: object, name: str | None) -> Iterator[None]:
    try:
        yield
    except (Unusable, MemoryError) as error:
        reason = LITTLE_MEMORY_REASON if isinstance(error, MemoryError) else error
        shown = name or _describe(source)
        raise ImageError(
            f"cannot read the image {shown if len(shown) <= 200 else shown[:197] + '...'}: {reason}"
        ) from None


def _read(source: object, limits: ImageLimits, allow_private_hosts: bool) -> bytes:
    if source == "":
        raise Unusable("its path is empty")
    if isinstance(source, str) and is_data_url(source):
        data = _from_data_url(source, limits)
    elif isinstance(source, str) and _is_url(source):
        data = _from_url(source, limits, allow_private_hosts)
    elif isinstance(source, (str, Path)):
        data = _from_path(Path(source), limits)
    elif isinstance(source, bytes):
        data = source
    else:
        raise Unusable("an image is given as a path, a URL, bytes or a PIL image")
    if not data:
        raise Unusable("it is empty; give a picture's file")
    _check_bytes(len(data), limits)
    return data


def _loaded(decoded: Decoded, name: str, file: bytes | None = None) -> LoadedImage:
    return LoadedImage(name, decoded.sha256, decoded.image, file)


def _name_of(source: object) -> str:
    if isinstance(source, str) and is_data_url(source):
        return "data URL"
    if isinstance(source, str) and _is_url(source):
        return url_name(source)
    return Path(source).name if isinstance(source, (str, Path)) else "bytes"


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
        raise Unusable(f"it has more than the {limits.max_bytes / 1e6:g} MB allowed; give a smaller one")


def _from_path(path: Path, limits: ImageLimits) -> bytes:
    try:
        return read_regular(path, limits.max_bytes + 1)
    except IsADirectoryError:
        raise Unusable("it is a folder; give a file") from None
    except OSError as error:
        raise Unusable((error.strerror or "it cannot be opened").lower()) from None
    except ValueError:
        raise Unusable("that is no path") from None


def read_regular(path: Path, most: int) -> bytes:
    """The first `most` bytes of a file. Raises OSError; also for a device, a pipe or a socket.

    Those are not opened, so that nothing waits for what never comes; a file that is replaced by one of them
    between the two looks is noticed.
    """
    _check_regular(path.stat())
    # Without the flag, opening a pipe waits for its other end.
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    with open(descriptor, "rb") as file:
        _check_regular(os.fstat(descriptor))
        return file.read(most)


def _check_regular(found: os.stat_result) -> None:
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "it is a device, a pipe or a socket; give a regular file")


def _from_url(url: str, limits: ImageLimits, allow_private: bool) -> bytes:
    from llava_cot.core.download import download
    from llava_cot.errors import DownloadError

    try:
        return download(
            url, max_bytes=limits.max_bytes, max_seconds=limits.max_seconds, allow_private=allow_private
        )
    except DownloadError as error:
        raise Unusable(str(error)) from None


def _from_data_url(url: str, limits: ImageLimits) -> bytes:
    head, comma, payload = url.partition(",")
    if not comma:
        raise Unusable("a comma must follow the type; write data:image/png;base64,...")
    # Three bytes take four characters in base64, and up to three times as many if percent-encoded.
    _check_bytes(len(payload) // 4, limits)
    data = payload.encode("ascii", "replace")
    if b"%" in data:
        if re.search(rb"%(?![0-9A-Fa-f]{2})", data):
            raise Unusable("its percent-encoding is damaged; encode the file again")
        # urllib's function would make an object of each part between two signs.
        data = binascii.a2b_qp(data.replace(b"=", b"=3D").replace(b"%", b"="))
    if head.lower().rstrip().endswith(";base64"):
        data = b"".join(data.split()).rstrip(b"=")
        try:
            data = base64.b64decode(data + b"=" * (-len(data) % 4), validate=True)
        except binascii.Error:
            raise Unusable("its base64 is damaged; encode the file again") from None
    return data
