"""Files: writing one completely or not at all, paths below a root, and YAML as checked pydantic models."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from llava_cot.core.wording import first_fault
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


def path_inside(root: Path, name: str) -> Path:
    """The file of a name under a root. Raises DataError for a name that leads out of the root."""
    try:
        target = (root / PurePosixPath(name.replace("\\", "/"))).resolve()
    except (OSError, RuntimeError, ValueError):  # a zero byte, a loop of links
        raise DataError(f"{name!r} is no path") from None
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


Model = TypeVar("Model", bound=BaseModel)


class _Loader(yaml.SafeLoader):  # type: ignore[misc]
    """Refuses repeated keys, of which YAML would take the last, and text that no file can hold."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        twice = next((key for key in keys if keys.count(key) > 1), None)
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


def read_yaml(path: str | Path, what: str = "recipe") -> Any:
    """The content of a YAML file. Raises DataError that names the file and `what` it is."""
    file = Path(path)
    try:
        loaded = yaml.load(file.read_text(encoding="utf-8"), _Loader)
    except FileNotFoundError:
        raise DataError(f"there is no {what} {file}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"the {what} {file} cannot be read ({error})") from None
    except yaml.YAMLError as error:
        raise DataError(f"the {what} {file} is not YAML: {' '.join(str(error).split())}") from None
    except ValueError as error:  # of the loader, also of a date that does not exist
        raise DataError(f"the {what} {file}: {error}") from None
    return {} if loaded is None else loaded


def read_recipe(path: str | Path, kind: type[Model]) -> Model:
    """A YAML file as a model. Raises DataError that names the file and the field."""
    return make_recipe(read_yaml(path), kind, path)


def make_recipe(settings: Any, kind: type[Model], name: str | Path, what: str = "recipe") -> Model:
    """The content of the file `name` as a model. Raises DataError that names the field."""
    try:
        return kind.model_validate(settings)
    except ValidationError as error:
        raise DataError(f"the {what} {name}: {first_fault(error)}") from None
