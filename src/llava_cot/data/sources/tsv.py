"""Benchmarks as VLMEvalKit keeps them: one TSV file with the pictures in base64.

The columns are those that `vlmeval/dataset/image_base.py` reads: `index`, `question`, `image` (base64, a
list of such, or the index of another row with the same picture; data URLs are read too) or `image_path`, the
options under their letters, `answer`, `hint`, `category`. A letter without an option has an empty cell.
"""

from __future__ import annotations

import ast
import csv
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from string import ascii_uppercase

from llava_cot.core.files import check_regular
from llava_cot.core.wording import shortened
from llava_cot.data.record import Picture, Record, Turn, check_names
from llava_cot.data.sources.base import LazyPicture, decoded_base64, decoded_data_url, file_name, picture
from llava_cot.data.sources.row_files import row_errors
from llava_cot.errors import DataError

_MAX_FIELD = 1 << 30  # characters; the csv module's own limit is less than a picture
_MAX_INDEX = 64  # characters; what is longer is a picture, as in VLMEvalKit
_EXTRA = ("category", "l2-category", "split", "source")


def read_tsv(
    path: Path, root: Path | None = None, name: str | None = None, keep: Sequence[str] = _EXTRA
) -> Iterator[Record]:
    """Yield the questions of a file, with the columns `keep` in `extra`.

    Relative paths of pictures begin at `root`, by default the file's folder; `name`, by default the file's,
    stands before ids. Pictures that several rows share are kept in memory. Raises DataError if the file, or a
    row of it, is not in this layout.
    """
    name = name or path.stem
    shared = _shared_images(path)
    folder = root or path.parent
    for place, row in tsv_rows(path, ("index", "question")):
        with row_errors(path, place, row):
            yield _record(row, shared, folder, name, keep)


def tsv_rows(
    file: Path, columns: tuple[str, ...], delimiter: str = "\t"
) -> Iterator[tuple[str, dict[str, str]]]:
    """The rows of a TSV file (or with another delimiter) with a header, each with its place.

    Raises DataError if one of `columns` is missing, or a row is longer or shorter than the header.
    """
    check_regular(file)
    csv.field_size_limit(_MAX_FIELD)
    with file.open(encoding="utf-8-sig", newline="") as lines:
        reader = csv.DictReader(lines, delimiter=delimiter, strict=True)
        try:
            missing = [column for column in columns if column not in (reader.fieldnames or ())]
            if missing:
                found = shortened(str(reader.fieldnames), 300)
                raise DataError(f"{file}, line 1: there is no column {', '.join(missing)} among {found}")
            names = [name for name in reader.fieldnames or () if name]
            if twice := next((name for name in names if names.count(name) > 1), None):
                raise DataError(f"{file}, line 1: there are two columns {shortened(twice)!r}; rename one")
            for row in reader:
                if None in row or None in row.values():
                    raise DataError(f"{file}, line {reader.line_num}: the row is not as long as the header")
                yield f"line {reader.line_num}", row
        except (csv.Error, UnicodeDecodeError) as error:
            raise DataError(f"{file}, line {reader.line_num + 1}: {error}") from None


def _shared_images(path: Path) -> dict[str, str]:
    """The pictures that other rows name by index, by the index of their row."""
    named = {
        row["image"] for _, row in tsv_rows(path, ("index",)) if 0 < len(row.get("image", "")) <= _MAX_INDEX
    }
    if not named:
        return {}
    return {
        row["index"]: row["image"]
        for _, row in tsv_rows(path, ("index", "image"))
        if row["index"] in named and len(row["image"]) > _MAX_INDEX
    }


def _record(
    row: Mapping[str, str], shared: Mapping[str, str], root: Path, name: str, keep: Sequence[str]
) -> Record:
    check_names(row, "image_path", *keep, *ascii_uppercase)
    turn = Turn(row["question"], row.get("answer") or None, lettered_options(row), row.get("hint") or None)
    extra = {key: row[key] for key in keep if row.get(key)}
    return Record(f"{name}/{row['index']}", (turn,), _pictures(row, shared, root, name), name, extra=extra)


def lettered_options(row: Mapping[str, object]) -> tuple[str, ...]:
    """The options in the columns A, B, C ... of a row; an empty text where a letter has none."""
    options = [str(row.get(letter) or "") for letter in ascii_uppercase]
    while options and not options[-1]:
        options.pop()
    return tuple(options)


def _pictures(
    row: Mapping[str, str], shared: Mapping[str, str], root: Path, name: str
) -> tuple[Picture, ...]:
    index, image = row["index"], row.get("image", "")
    if not image:
        return tuple(picture(name, root, path) for path in parse_list(row.get("image_path", "")))
    if len(image) <= _MAX_INDEX:
        if image not in shared:
            raise DataError(f"the picture is that of row {image!r}, and there is no such row")
        index, image = image, shared[image]
    images = parse_list(image)
    stem = f"{name}/{file_name(index)}"
    names = [f"{stem}.jpg"] if len(images) == 1 else [f"{stem}-{n}.jpg" for n in range(len(images))]
    return tuple(
        LazyPicture(picture_name, make=partial(_decoded, data, picture_name))
        for picture_name, data in zip(names, images, strict=True)
    )


def parse_list(text: str) -> list[str]:
    """A field that may hold a Python list of texts, as pandas writes it. Raises DataError if it is broken."""
    if not (text.startswith("[") and text.endswith("]")):
        return [text] if text else []
    try:
        return [str(item) for item in ast.literal_eval(text)]
    except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
        raise DataError(f"this is no list ({type(error).__name__}): {text[:100]}") from None


def _decoded(data: str, name: str) -> bytes:
    try:
        return decoded_data_url(data) if data[:5].lower() == "data:" else decoded_base64(data)
    except DataError as error:
        raise DataError(f"the picture {name}: {error}") from None
