"""Whether a picture's own file may be sent in the place of its pixels.

Owns that decision. To send the file saves the encoding, and a JPEG stays as small as it is; it must tell no
more than the pixels do: no place and time in EXIF, no comment, no colour profile, nothing after the picture's
end.
"""

from __future__ import annotations

from typing import Any

from PIL import Image

_ENDS = {"PNG": b"IEND\xaeB`\x82", "JPEG": b"\xff\xd9"}
_SEGMENTS = {"APP0", "APP14"}  # JFIF, and how Adobe's programs note the colour space
# What Pillow tells of files that say nothing but how their pixels are to be read.
_HARMLESS = {
    "jfif", "jfif_version", "jfif_unit", "jfif_density", "dpi", "adobe", "adobe_transform",
    "progressive", "progression",
}  # fmt: skip


def sendable(data: bytes, image: Image.Image) -> bool:
    """Whether the file that this image was loaded from is a bare PNG or JPEG, in RGB or grey."""
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
