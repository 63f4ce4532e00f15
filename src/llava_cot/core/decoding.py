"""From a picture's file to its pixels, upright and in RGB; also the loop of a process that does nothing else.

Files come from anyone, and a small one may take hours or all memory. So most are decoded by processes of
their own (`decoder_pool`), and this module imports little, since each of these loads it.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import select
import signal
import socket
import struct
import sys
import threading
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, cast

from PIL import Image

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

_STRIP_BYTES = 2**18
_filters_lock = threading.Lock()


class Unusable(Exception):
    """Why an image cannot be used; follows its name in a message."""


class Decoded(NamedTuple):
    """A picture in RGB, upright: no file behind it, no metadata that would turn it a second time."""

    image: Image.Image
    sha256: str  # of its size and pixels
    bare: bool  # whether its file may be sent in its place


def decode(data: bytes, max_pixels: int) -> Decoded:
    """Decode a picture's file. Raises Unusable; takes as long as it takes."""
    image, bare = _decode(data, max_pixels)
    return _plain(image, bare)


def upright_size(data: bytes, max_pixels: int) -> tuple[int, int]:
    """The size that `decode` gives, mostly without decoding. Raises Unusable."""
    with _opened(data, max_pixels) as image:
        if image.format == "TIFF":
            with _readable():
                image.load()  # Pillow turns it then, and what it says of it changes
        width, height = image.size
        return (height, width) if _orientation(image) in _SIDEWAYS else (width, height)


def convert(image: Image.Image, max_pixels: int) -> Decoded:
    """An image of Pillow as a decoded picture. Raises Unusable."""
    return _plain(_rgb(image, max_pixels), bare=False)


def _plain(rgb: Image.Image, bare: bool) -> Decoded:
    pixels = rgb.tobytes()
    digest = hashlib.sha256(b"%d x %d " % rgb.size)
    digest.update(pixels)
    return Decoded(Image.frombytes("RGB", rgb.size, pixels), digest.hexdigest(), bare)


def assemble(size: tuple[int, int], strips: Iterable[bytes | bytearray], bare: bool) -> Decoded:
    """A picture from its rows in RGB, some at a time."""
    digest = hashlib.sha256(b"%d x %d " % size)
    image, top = Image.new("RGB", size, None), 0
    for strip in strips:
        digest.update(strip)
        rows = len(strip) // (3 * size[0])
        image.paste(Image.frombytes("RGB", (size[0], rows), strip), (0, top))
        top += rows
    return Decoded(image, digest.hexdigest(), bare)


def strip_sizes(size: tuple[int, int]) -> Iterator[int]:
    """The numbers of rows in which a picture is passed on; all at once would take its memory twice."""
    rows = max(1, _STRIP_BYTES // (3 * size[0]))
    return (min(rows, size[1] - top) for top in range(0, size[1], rows))


def _strips(image: Image.Image) -> Iterator[bytes]:
    top = 0
    for rows in strip_sizes(image.size):
        yield image.crop((0, top, image.width, top + rows)).tobytes()
        top += rows


def _decode(data: bytes, max_pixels: int) -> tuple[Image.Image, bool]:
    with _opened(data, max_pixels) as image:
        return _rgb(image, max_pixels), is_bare_file(data, image)


def _rgb(image: Image.Image, max_pixels: int) -> Image.Image:
    width, height = image.size
    if width < 1 or height < 1:
        raise Unusable("it has no pixels")
    if width * height > max_pixels:
        raise Unusable(
            f"its {width} x {height} pixels are more than the {max_pixels / 1e6:g} megapixels "
            "allowed; make it smaller"
        )
    with _readable():
        image.load()
        return _to_rgb(_upright(image))


def _opened(data: bytes, max_pixels: int) -> Image.Image:
    try:
        with _quiet():
            return Image.open(io.BytesIO(data), formats=FORMATS)
    except Image.DecompressionBombError:
        raise Unusable(f"it has more than the {max_pixels / 1e6:g} megapixels allowed") from None
    except MemoryError:
        raise
    except Exception:  # Pillow's readers raise whatever damaged data makes them
        raise Unusable(_why_not_a_picture(data)) from None


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


@contextmanager
def _readable() -> Iterator[None]:
    """Little memory is no damage."""
    try:
        yield
    except MemoryError:
        raise
    except Exception:  # whatever the reader of its format raises
        raise Unusable("its data are damaged or cut off; fetch or save it again") from None


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


# Files that need no process of their own, since their headers bound the time. At these sizes it is a tenth of
# a second, whatever is in them.
_QUICK_BYTES = 4_000_000
_QUICK_PIXELS = 4_000_000  # times the number of scans
_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_CHUNKS = 1000
# With the most bytes of each. No chunk that is decompressed (profiles, compressed texts), and no animation.
_PNG_KINDS = {
    b"IHDR": 13, b"PLTE": 768, b"IDAT": _QUICK_BYTES, b"IEND": 0, b"tRNS": 256, b"gAMA": 4, b"cHRM": 32,
    b"sRGB": 1, b"sBIT": 4, b"bKGD": 6, b"pHYs": 9, b"tIME": 7, b"tEXt": 1000,
}  # fmt: skip
_JPEG_SEGMENTS = 64
_JPEG_KINDS = {0xC4, 0xDB, 0xDD, 0xE0, 0xEE, 0xFE}  # tables, JFIF, Adobe's, comments
# EXIF, which Pillow may copy for each of its entries; and color profiles, but nothing else of their kind.
_EXIF, _MAX_EXIF, _PROFILE, _PROFILE_BEGINS = 0xE1, 16_384, 0xE2, b"ICC_PROFILE\0"
_BASELINE, _PROGRESSIVE, _SCAN = (0xC0, 0xC1), 0xC2, 0xDA


def quick_pixels(data: bytes) -> int | None:
    """The pixels of a PNG or JPEG that is decoded quickly, whatever is in it; None for other files."""
    if len(data) > _QUICK_BYTES:
        return None
    try:
        pixels, scans = _png_work(data) if data.startswith(_PNG) else _jpeg_work(data)
    except (ValueError, struct.error):
        return None
    return pixels if pixels * scans <= _QUICK_PIXELS else None


def _png_work(data: bytes) -> tuple[int, int]:
    """Pixels and scans of a PNG. Raises ValueError for one with unusual parts, or a damaged one."""
    at = len(_PNG)
    width, height = struct.unpack_from(">II", data, at + 8)
    for number in range(_PNG_CHUNKS):
        length, kind = struct.unpack_from(">I4s", data, at)
        if (kind == b"IHDR") != (number == 0) or length > _PNG_KINDS.get(kind, -1):
            raise ValueError
        if kind == b"IEND":
            return width * height, 1
        at += length + 12
    raise ValueError


def _jpeg_work(data: bytes) -> tuple[int, int]:
    """Pixels and scans of a JPEG. Raises ValueError for one with unusual parts, and for other files."""
    if not data.startswith(b"\xff\xd8\xff"):
        raise ValueError
    at, frame, exif = 2, None, 0
    for _ in range(_JPEG_SEGMENTS):
        mark, kind, length = struct.unpack_from(">BBH", data, at)
        if mark != 0xFF or length < 2:
            raise ValueError
        if kind == _SCAN and frame is not None:
            pixels, components = frame
            (shown,) = struct.unpack_from("B", data, at + 4)
            if components is not None and shown == components:
                return pixels, 1  # libjpeg looks for no second scan
            # In the coded data, 0xFF is followed by 0 or a restart mark, so each of these may be a scan.
            return pixels, data.count(b"\xff\xda", at)
        if kind in (*_BASELINE, _PROGRESSIVE) and frame is None:
            depth, height, width, count = struct.unpack_from(">BHHB", data, at + 4)
            if depth != 8:
                raise ValueError
            frame = width * height, count if kind in _BASELINE else None
        elif kind == _EXIF:
            exif += length
        elif kind not in _JPEG_KINDS and not (kind == _PROFILE and data.startswith(_PROFILE_BEGINS, at + 4)):
            raise ValueError
        if exif > _MAX_EXIF:
            raise ValueError
        at += length + 2
    raise ValueError


# The process. Both sides send a head of fixed size and then bytes.
REQUEST = struct.Struct("!QQ?d")  # bytes of the file, the most pixels, only the size, seconds of computing
REPLY = struct.Struct("!BII?I")  # outcome, width, height, bare, bytes of the reason; pixels follow in strips
DECODED, UNUSABLE, LITTLE_MEMORY = range(3)
# Of address space: what Python and the libraries take, and the bytes that a pixel takes at most, as an RGBA
# picture that is turned and put on white, or as a lossless WebP.
_PROCESS_BYTES, _PIXEL_BYTES = 700_000_000, 32


def receive(connection: socket.socket, size: int) -> bytearray:
    """So many bytes from a socket. Raises EOFError if it is closed before."""
    data = bytearray(size)
    left = memoryview(data)
    while left:
        got = connection.recv_into(left)
        if not got:
            raise EOFError
        left = left[got:]
    return data


def serve(descriptor: int) -> None:
    """Decode what comes through a socket, until it is closed: all that a process of the pool does.

    The kernel ends the process when a picture takes too much time (SIGPROF), and refuses it memory beyond a
    limit. The process also ends with the one at the other end of the socket.
    """
    import resource

    # Loaded before the first picture; otherwise Pillow would load those of all formats.
    from PIL import (  # noqa: F401
        BmpImagePlugin,
        GifImagePlugin,
        JpegImagePlugin,
        PngImagePlugin,
        TiffImagePlugin,
        WebPImagePlugin,
    )

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    connection = socket.socket(fileno=descriptor)
    threading.Thread(target=_end_with, args=(connection,), daemon=True).start()
    while True:
        try:
            size, max_pixels, size_only, seconds = REQUEST.unpack(receive(connection, REQUEST.size))
            data = bytes(receive(connection, size))
        except EOFError:
            return
        most = _PROCESS_BYTES + 4 * size + _PIXEL_BYTES * max_pixels
        resource.setrlimit(resource.RLIMIT_AS, (min(most, sys.maxsize), resource.RLIM_INFINITY))
        signal.setitimer(signal.ITIMER_PROF, seconds)
        reply = _reply(data, max_pixels, size_only)
        head = next(reply)
        signal.setitimer(signal.ITIMER_PROF, 0)
        connection.sendall(head)
        for part in reply:
            connection.sendall(part)


def _reply(data: bytes, max_pixels: int, size_only: bool) -> Iterator[bytes]:
    """The parts of a reply; the first is its head, which comes once the picture is decoded."""
    try:
        if size_only:
            yield REPLY.pack(DECODED, *upright_size(data, max_pixels), False, 0)
            return
        image, bare = _decode(data, max_pixels)
    except Unusable as error:
        reason = str(error).encode()
        yield REPLY.pack(UNUSABLE, 0, 0, False, len(reason))
        yield reason
    except MemoryError:
        yield REPLY.pack(LITTLE_MEMORY, 0, 0, False, 0)
    else:
        yield REPLY.pack(DECODED, *image.size, bare, 0)
        yield from _strips(image)


def _end_with(connection: socket.socket) -> None:
    """End this process when the other end of the socket is closed, even in the middle of a picture."""
    hangup = select.poll()
    hangup.register(connection, 0)
    hangup.poll()
    os._exit(0)
