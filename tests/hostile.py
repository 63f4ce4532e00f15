"""Files of pictures that were made to take time or memory, and damaged ones, the same ones each time."""

from __future__ import annotations

import io
import random
import struct
import zlib
from collections.abc import Callable, Iterator

from PIL import Image


def encoded(image: Image.Image, form: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def many_scans(scans: int = 3000, side: int = 3000) -> bytes:
    """A progressive JPEG that repeats its last scan: each goes through all blocks, in a few bytes of file."""
    data = encoded(Image.new("L", (side, side), 100), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * scans + data[-2:]


def long_comment(size: int = 15_000_000) -> bytes:
    """A GIF whose comment is put together from blocks of 255 bytes, by copying it again and again."""
    data = encoded(Image.new("P", (4, 4)), "GIF")
    at = data.index(b",\0\0\0\0")
    return data[:at] + b"!\xfe" + (b"\xff" + b"x" * 255) * (size // 256) + b"\0" + data[at:]


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(*chunks: bytes, width: int = 4, height: int = 4) -> bytes:
    """A gray PNG with chunks before its pixels."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(bytes((width + 1) * height)))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(chunks) + pixels + chunk(b"IEND", b"")


def compressed_texts(count: int = 400) -> bytes:
    return png(chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(1_000_000), 9)) * count)


def compressed_profile() -> bytes:
    return png(chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(200_000_000), 1)))


def many_chunks(count: int = 1_000_000) -> bytes:
    return png(chunk(b"tEXt", b"a\0b") * count)


def empty_data(count: int = 1_500_000) -> bytes:
    return png(chunk(b"IDAT", b"") * count)


def runs() -> bytes:
    """A BMP of runs, which Pillow decodes in Python."""
    side = 7000
    pixels = (b"\xff\1" * (side // 255) + bytes([side % 255, 1]) + b"\0\0") * side + b"\0\1"
    head = struct.pack("<IiiHHIIiiII", 40, side, side, 1, 8, 1, len(pixels), 0, 0, 256, 0)
    palette = bytes(1024)
    offset = 14 + len(head) + len(palette)
    return b"BM" + struct.pack("<IHHI", offset + len(pixels), 0, 0, offset) + head + palette + pixels


def tiff(*entries: tuple[int, int, int, int], following: int = 0) -> bytes:
    """A TIFF of one directory: tag, type, count, and value or offset of each entry."""
    directory = struct.pack("<H", len(entries))
    directory += b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return b"II*\0" + struct.pack("<I", 8) + directory + struct.pack("<I", following) + bytes(4096)


def tiffs() -> Iterator[bytes]:
    plain = [(256, 4, 1, 64), (257, 4, 1, 64), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1)]
    where = [(273, 4, 1, 200), (278, 4, 1, 64), (279, 4, 1, 4096)]
    yield tiff(*plain, *where, following=8)  # the next directory is the same one
    yield tiff(*plain, (273, 4, 2**31, 8), *where[1:])  # more strips than the file has bytes
    yield tiff(*plain, *where, (700, 1, 2**32 - 1, 8))  # a tag of 4 GB
    large = [(256, 4, 1, 7000), (257, 4, 1, 7000), (322, 4, 1, 2**31 - 16), (323, 4, 1, 16)]
    yield tiff(*large, *plain[2:], *where)  # one tile of 2 Gpixels
    yield tiff(*plain[:2], *plain[3:], (258, 3, 2**20, 8), (277, 3, 1, 65535), *where)
    yield tiff(*plain, *where, *((tag, 5, 2**28, 8) for tag in range(40_000, 40_100)))


# What takes long, or much memory, unless there is a limit. Made when they are used.
SLOW: dict[str, Callable[[], bytes]] = {
    "JPEG of 3,000 scans": many_scans,
    "GIF with a long comment": long_comment,
    "PNG of a million texts": many_chunks,
    "PNG of empty data": empty_data,
    "BMP of runs": runs,
}
LARGE: dict[str, Callable[[], bytes]] = {
    "PNG with compressed texts": compressed_texts,
    "PNG with a compressed profile": compressed_profile,
} | {f"TIFF {number}": (lambda data=data: data) for number, data in enumerate(tiffs())}  # type: ignore[misc]


def _exif() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "a maker of cameras"
    return exif


def much_exif(size: int) -> bytes:
    """A JPEG with as much EXIF, whose entries are each as long as all of it."""
    count = (size - 20) // 12
    entries = b"".join(struct.pack("<HHII", tag, 1, size - 20, 8) for tag in range(1000, 1000 + count))
    exif = b"Exif\0\0II*\0" + struct.pack("<IH", 8, count) + entries
    return encoded(Image.new("RGB", (64, 64)), "JPEG", exif=exif)


def plain_files() -> list[bytes]:
    """A small picture in each format."""
    picture = Image.effect_noise((60, 40), 80).convert("RGB")
    return [
        encoded(picture, "PNG"),
        encoded(picture.convert("P"), "PNG", transparency=0),
        encoded(picture.convert("I;16"), "PNG"),
        encoded(picture, "JPEG"),
        encoded(picture, "JPEG", progressive=True),
        encoded(picture, "JPEG", exif=_exif(), icc_profile=bytes(1000)),
        encoded(picture.convert("CMYK"), "JPEG"),
        encoded(picture, "GIF"),
        encoded(picture, "WEBP"),
        encoded(picture, "WEBP", lossless=True),
        encoded(picture, "BMP"),
        *(encoded(picture, "TIFF", compression=how) for how in ("raw", "tiff_lzw", "tiff_deflate", "jpeg")),
    ]


def damaged(count: int, seed: int = 0) -> Iterator[bytes]:
    """Files with wrong bytes, most of them where formats have their heads, and some cut off."""
    rng, files = random.Random(seed), plain_files()
    for number in range(count):
        data = bytearray(files[number % len(files)])
        for _ in range(rng.randint(1, 8)):
            at = rng.randrange(min(len(data), 200) if rng.random() < 0.7 else len(data))
            data[at] = rng.choice((0, 1, 0x7F, 0xFF, rng.randrange(256)))
        yield bytes(data[: rng.randrange(len(data))] if rng.random() < 0.3 else data)
