"""Files: writing one completely or not at all, paths below a root, and YAML as checked pydantic models."""

from __future__ import annotations

import json
import math
import os
import stat
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from llava_cot.core.wording import first_fault, shortened
from llava_cot.errors import DataError


def output_file(path: str | Path) -> Path:
    """The path of a file to write, checked before any work is spent on it. Raises ValueError."""
    target = Path(path).resolve()
    if not target.parent.is_dir():
        raise ValueError(f"cannot write {path}: there is no folder {target.parent}; make it first")
    if target.exists() and not target.is_file():
        raise ValueError(f"cannot write {path}: it exists and is not an ordinary file; choose another name")
    if not os.access(target.parent, os.W_OK):
        raise ValueError(f"cannot write {path}: the folder {target.parent} may not be written to")
    return target


def check_new_folder(folder: Path, ours: Collection[str] = ()) -> None:
    """Check that a folder is new, or empty but for files of the names `ours`. Raises DataError."""
    if folder.exists() and not folder.is_dir():
        raise DataError(f"{folder} is a file; name a new or empty folder")
    inside = folder.iterdir() if folder.is_dir() else ()
    other = next((path.name for path in inside if path.name not in ours), None)
    if other is not None:
        raise DataError(f"{folder} holds other files ({other}); name a new or empty folder")


def write_whole(path: str | Path, text: str) -> None:
    """Write a text file; a reader sees the old one or the new one, never a part.

    Raises ValueError if it cannot be written there, OSError if writing fails.
    """
    with whole(path) as part:
        part.write_text(text, encoding="utf-8")


@contextmanager
def whole(path: str | Path) -> Iterator[Path]:
    """A temporary file to write to, which replaces the target at the end if nothing failed.

    Raises like `write_whole`.
    """
    target = output_file(path)
    part = target.with_name(f"{target.name}.{os.getpid()}.part")
    try:
        yield part
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


_LONGEST_PATH = 4000  # bytes; Linux has 4,096


def path_inside(root: Path, name: str) -> Path:
    """The file of a name under a root. Raises DataError for a name that leads out of the root."""
    try:
        target = (root / PurePosixPath(name.replace("\\", "/"))).resolve()
        if len(os.fsencode(target)) > _LONGEST_PATH or max(map(len, map(os.fsencode, target.parts))) > 255:
            raise ValueError
    except (OSError, RuntimeError, ValueError):  # links in a circle, a name that is too long, a zero byte
        raise DataError(f"the picture {shortened(name, 80)!r} cannot be a file below {root}") from None
    if not target.is_relative_to(root.resolve()):
        raise DataError(f"the picture {name!r} lies outside of {root}; a name is a path below it")
    return target


def relative_name(root: Path, name: str) -> str:
    """A path as a name relative to the root: an absolute one below it is shortened, any other stays."""
    path = Path(name)
    for base in (root.absolute(), root.resolve()):
        if path.is_absolute() and path.is_relative_to(base):
            return path.relative_to(base).as_posix()
    return name


def home_path(path: str | Path, kind: type[Exception] = DataError) -> Path:
    """A path with its ~ replaced. Raises `kind` if it names a user that there is not."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise kind(f"there is no home folder for {path}; write the path out") from None


def check_regular(path: str | Path) -> None:
    """Raise DataError for a device, a pipe or a socket, which may have no end, or never begin."""
    with suppress(OSError):  # what cannot be looked at cannot be opened either
        if stat.S_IFMT(os.stat(path).st_mode) not in (stat.S_IFREG, stat.S_IFDIR):
            raise DataError(f"{path} is a device, a pipe or a socket; give a regular file")


def read_bounded(path: str | Path, most_bytes: int) -> bytes:
    """The bytes of a regular file. Raises OSError, and DataError if it is none, or has more."""
    check_regular(path)
    with Path(path).open("rb") as file:
        data = file.read(most_bytes + 1)
    if len(data) > most_bytes:
        raise DataError(f"{path} has more than {most_bytes / 1e6:g} MB, which is more than such a file needs")
    return data


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object, for `object_pairs_hook`: of a key that is there twice, no value is lost unseen.

    Raises:
        ValueError: A key is there twice.
    """
    found = dict(pairs)
    if len(found) < len(pairs):
        counts = Counter(key for key, _ in pairs)
        raise ValueError(f"the key {shortened(max(counts, key=counts.__getitem__), 60)!r} is there twice")
    return found


LINE_BYTES = 2**27  # of one line of a data file; forty pictures of 2 MB within it


def bounded_lines(file: BinaryIO) -> Iterator[tuple[bytes, int]]:
    """The lines of a file with their lengths; of one longer than `LINE_BYTES`, only the beginning."""
    while line := file.readline(LINE_BYTES):
        length, part = len(line), line
        while not part.endswith(b"\n") and (part := file.readline(LINE_BYTES)):
            length += len(part)
        yield line, length


Value = TypeVar("Value")


def json_lines(file: Path, read: Callable[[Any], Value]) -> Iterator[Value]:
    """What `read` makes of the values of a file of JSON, one a line; blank lines are left out.

    Raises DataError, with the file and the line, for a line that is no JSON, has more than `LINE_BYTES`, or
    of which `read` raises ValidationError or ValueError.
    """
    with file.open("rb") as lines:
        for number, (data, length) in enumerate(bounded_lines(lines), 1):
            if not data.strip():
                continue
            try:
                if length > LINE_BYTES:
                    raise ValueError(f"it has more than {LINE_BYTES / 1e6:.0f} MB")
                value = read(json.loads(data, object_pairs_hook=unique_keys))
            except ValidationError as error:
                raise DataError(f"{file}, line {number}: {first_fault(error)}") from None
            except (ValueError, RecursionError) as error:
                raise DataError(f"{file}, line {number}: {error}") from None
            yield value


Model = TypeVar("Model", bound=BaseModel)


_YAML_BYTES = 2**20  # PyYAML reads some 100 kB a second
_DIGITS = 100  # of an integer; those of base 60 take time by the square of their number
_YAML_NODES = 100_000  # values, where each alias counts as all that it stands for


class _Loader(yaml.SafeLoader):  # type: ignore[misc]
    """Refuses repeated keys, of which YAML would take the last, text that no file can hold, numbers that are
    none, and aliases that multiply."""

    def get_single_node(self) -> Any:
        node = super().get_single_node()
        _count_nodes(node, {})
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = Counter(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode))
        twice = next((key for key, count in keys.items() if count > 1), None)
        if twice is not None:
            line = node.start_mark.line + 1
            raise ValueError(f"the key {twice} is there twice in what begins in line {line}; remove one")
        found: dict[Any, Any] = super().construct_mapping(node, deep)
        return found

    def construct_scalar(self, node: yaml.ScalarNode) -> Any:
        value = super().construct_scalar(node)
        if any("\ud800" <= character <= "\udfff" for character in value):
            raise ValueError(
                f"the text in line {node.start_mark.line + 1} has half a character; write it out"
            )
        return value

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        if len(super().construct_scalar(node)) > _DIGITS:
            raise ValueError(f"line {node.start_mark.line + 1}: the number has too many digits")
        return int(super().construct_yaml_int(node))

    def construct_yaml_float(self, node: yaml.ScalarNode) -> float:
        value = float(super().construct_yaml_float(node))
        if not math.isfinite(value):
            raise ValueError(f"line {node.start_mark.line + 1}: {node.value} is no number that can be used")
        return value


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)
_Loader.add_constructor("tag:yaml.org,2002:float", _Loader.construct_yaml_float)


def _count_nodes(node: Any, counts: dict[int, int]) -> int:
    """The number of values that a node and its aliases stand for. Raises ValueError for too many."""
    if not isinstance(node, yaml.CollectionNode):
        return 1
    if id(node) not in counts:
        counts[id(node)] = _YAML_NODES  # within itself, it has no end
        parts = chain(*node.value) if isinstance(node, yaml.MappingNode) else node.value
        counts[id(node)] = 1 + sum(_count_nodes(part, counts) for part in parts)
    if counts[id(node)] > _YAML_NODES:
        raise ValueError(f"what begins in line {node.start_mark.line + 1} has too many values, or has no end")
    return counts[id(node)]


def read_yaml(path: str | Path, what: str = "recipe") -> Any:
    """The content of a YAML file. Raises DataError that names the file and `what` it is."""
    file = Path(path)
    try:
        loaded = parse_yaml(read_bounded(file, _YAML_BYTES))
    except FileNotFoundError:
        raise DataError(f"there is no {what} {file}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"the {what} {file} cannot be read ({error})") from None
    except DataError:
        raise
    except yaml.YAMLError as error:
        raise DataError(f"the {what} {file} is not YAML: {' '.join(str(error).split())}") from None
    except ValueError as error:
        raise DataError(f"the {what} {file}: {error}") from None
    return {} if loaded is None else loaded


def parse_yaml(data: bytes) -> Any:
    """The value of a YAML text. Raises yaml.YAMLError, and ValueError for a text that cannot be used."""
    try:
        return yaml.load(data.decode("utf-8-sig"), _Loader)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except (AttributeError, LookupError, OverflowError, TypeError) as error:  # PyYAML's own
        raise ValueError(f"a value does not fit its tag ({error})") from None


def read_recipe(path: str | Path, kind: type[Model]) -> Model:
    """A YAML file as a model. Raises DataError that names the file and the field."""
    return make_recipe(read_yaml(path), kind, path)


def make_recipe(settings: Any, kind: type[Model], name: str | Path, what: str = "recipe") -> Model:
    """The content of the file `name` as a model. Raises DataError that names the field."""
    try:
        return kind.model_validate(settings)
    except ValidationError as error:
        raise DataError(f"the {what} {name}: {first_fault(error)}") from None
