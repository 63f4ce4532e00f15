"""Any data set that Hugging Face's `datasets` opens: on the Hub, a folder of files, or a saved data set."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import Any

from yaml import YAMLError

from llava_cot.core.files import parse_yaml, read_bounded
from llava_cot.core.wording import one_line
from llava_cot.data.record import Record, Turn, as_list
from llava_cot.data.sources.base import letter
from llava_cot.data.sources.chats import chat_record, place_marks, row_picture, unique_id
from llava_cot.data.sources.row_files import row_errors
from llava_cot.data.sources.tsv import parse_list
from llava_cot.errors import DataError, ModelError, needs_extra
from llava_cot.models.hub import data_set_commit, hub_name

# Where a recipe names no column, the first of these that exists.
COLUMNS: dict[str, tuple[str, ...]] = {
    "id": ("id", "question_id", "qid", "index"),
    "question": ("question", "query", "problem", "prompt"),
    "answer": ("answer", "answers", "label", "solution"),
    "options": ("options", "choices"),
    "image": ("image", "images", "decoded_image"),
    "hints": ("hint", "hints", "lecture", "rationale"),
}


def read_hf(
    path: str,
    split: str = "train",
    config: str | None = None,
    columns: Mapping[str, str] | None = None,
    name: str = "hf",
) -> Iterator[Record]:
    """Yield the rows of a split. A data set on the Hub is streamed; pictures stay bytes, undecoded.

    Args:
        path: A name on the Hub, perhaps with a revision (`org/name@REVISION`), a folder of files, or a folder
            of `save_to_disk`.
        split: The split.
        config: The data set's configuration, if it has several.
        columns: The column of each key of `COLUMNS`, where it is another than the default.
        name: Stands before ids and pictures' names.

    Raises:
        DataError: It cannot be opened, or a row has no question.
    """
    chosen = dict(columns or {})
    root = Path(path) if os.path.isdir(path) else Path("/nonexistent")
    for number, row in enumerate(_rows(path, split, config), 1):
        with row_errors(Path(path), f"row {number}", row):
            yield _record(row, chosen, root, name)


def pinned_data_set(path: str) -> str:
    """A data set's path, with the commit if it is on the Hub: so each pass over it reads the same rows.

    Raises DataError if there is no such data set.
    """
    on_hub = None if os.path.exists(path) else hub_name(path)
    if on_hub is None:
        return path
    try:
        return f"{on_hub.repo}@{data_set_commit(on_hub)}"
    except ModelError as error:
        raise DataError(str(error)) from None


def _rows(path: str, split: str, config: str | None) -> Iterator[Mapping[str, Any]]:
    with needs_extra(f"opening {path}", "data"):
        import datasets
    folder = Path(path)
    on_hub = None if folder.exists() else hub_name(path)
    repo, revision = (path, None) if on_hub is None else (on_hub.repo, on_hub.revision)
    for card in _cards(repo, revision):
        check_card(card)
    try:
        if (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file():
            saved = datasets.load_from_disk(path)
            if isinstance(saved, datasets.DatasetDict):
                if split not in saved:
                    raise DataError(f"{path} has no split {split!r}; it has {', '.join(saved)}")
                saved = saved[split]
            yield from saved.to_iterable_dataset().decode(False)
        else:
            yield from datasets.load_dataset(
                repo, config, split=split, streaming=True, revision=revision
            ).decode(False)
    except DataError:
        raise
    except Exception as error:  # as many kinds as there are formats and networks
        reason = (str(error).strip() or "no reason given").splitlines()[0]
        raise DataError(
            f"the data set {path} cannot be read ({type(error).__name__}: {reason[:300]})"
        ) from None


# The files by which a data set tells `datasets` what to read.
_CARDS = ("README.md", ".huggingface.yaml", "dataset_infos.json", "dataset_dict.json", "state.json")
_CARD_BYTES = 2**22
_FILE_KEYS = ("data_files", "_data_files", "data_dir", "splits", "path", "filename")


def _cards(path: str, revision: str | None) -> Iterator[Path]:
    """The cards of a folder, and of the folders in it, or of a revision of a data set on the Hub."""
    folder = Path(path)
    if folder.exists():
        yield from (card for name in _CARDS for card in chain(folder.glob(name), folder.glob(f"*/{name}")))
        return
    from huggingface_hub import hf_hub_download

    for name in _CARDS[:2]:
        with suppress(Exception):  # there is none, or no network: `datasets` says so in its own words
            yield Path(hf_hub_download(path, name, repo_type="dataset", revision=revision))


def check_card(card: Path) -> None:
    """Check that what describes a data set names files in its folder. Raises DataError.

    `datasets` would fetch any address that a card names, and read any file of this machine.
    """
    from huggingface_hub.repocard import REGEX_YAML_BLOCK

    try:
        data = read_bounded(card, _CARD_BYTES)
        if card.suffix == ".md":
            front = REGEX_YAML_BLOCK.search(data.decode("utf-8", "replace"))
            data = front[2].encode() if front else b""
        value = json.loads(data) if card.suffix == ".json" else parse_yaml(data)
    except (OSError, RecursionError, ValueError, YAMLError) as error:
        raise DataError(f"{card} cannot be read ({one_line(str(error))})") from None
    outside = next(_outside(value, False), None)
    if outside is not None:
        raise DataError(f"{card} names {outside!r}, which is no file of the data set; remove it from there")


def _outside(value: Any, named: bool) -> Iterator[str]:
    """The texts in a card, under keys for files, that lead out of its folder."""
    if isinstance(value, Mapping):
        for key, part in value.items():
            yield from _outside(part, named or key in _FILE_KEYS)
    elif isinstance(value, list):
        for part in value:
            yield from _outside(part, named)
    elif named and isinstance(value, str):
        path = PurePosixPath(value.replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts or "::" in value or ":" in value.split("/")[0]:
            yield value


def _record(row: Mapping[str, Any], columns: Mapping[str, str], root: Path, name: str) -> Record:
    if not columns and (row.get("conversations") or row.get("messages")):
        return chat_record({key: _relative(value, root) for key, value in row.items()}, root, name)
    values = {key: _value(row, key, columns) for key in COLUMNS}
    if not isinstance(values["question"], str):
        raise DataError(
            f"there is no question; add `columns: {{question: ...}}` with one of {', '.join(row)}"
        )
    options = tuple("" if option is None else str(option) for option in _as_list(values["options"]))
    hints = "\n".join(str(hint) for hint in _as_list(values["hints"]) if hint)
    images = [_relative(image, root) for image in _as_list(values["image"]) if image is not None]
    question, shown = place_marks(values["question"], options, len(images))
    turn = Turn(question, _answer(values["answer"], options), shown, hints or None)
    id = unique_id(values["id"], name, turn, images)
    pictures = tuple(row_picture(image, root, name, f"{id}-{n}") for n, image in enumerate(images))
    return Record(id, (turn,), pictures, name)


def _value(row: Mapping[str, Any], key: str, columns: Mapping[str, str]) -> Any:
    if key not in columns:
        return next((row[column] for column in COLUMNS[key] if row.get(column) is not None), None)
    if columns[key] not in row:
        raise DataError(f"there is no column {columns[key]!r} for the {key}; there are {', '.join(row)}")
    return row[columns[key]]


def _as_list(value: Any) -> list[Any]:
    """A value as a list: of one, of a list's text, or of the texts of `{"label": [...], "text": [...]}`."""
    if isinstance(value, Mapping) and "text" in value:
        return list(value["text"])
    return parse_list(value) if isinstance(value, str) else as_list(value)


def _answer(value: Any, options: tuple[str, ...]) -> str | None:
    """The standard answer: the option's letter for its text or its number, the first of several answers."""
    if isinstance(value, list | tuple):
        value = value[0] if value else None
    if value is None or value == "":
        return None
    if isinstance(value, int) and not isinstance(value, bool) and options:
        return letter(value, options)
    text = str(value)
    return letter(options.index(text), options) if text in options else text


def _relative(image: Any, root: Path) -> Any:
    """A picture's mapping with its path made relative to the data set's folder, if it lies in it."""
    if isinstance(image, list | tuple):
        return [_relative(each, root) for each in image]
    if isinstance(image, Mapping) and image.get("bytes") is None and image.get("path"):
        path = Path(image["path"])
        if path.is_absolute() and path.is_relative_to(root.absolute()):
            return {"path": str(path.relative_to(root.absolute()))}
    return image
