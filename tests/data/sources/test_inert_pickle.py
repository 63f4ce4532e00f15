"""A pickle gives its values and arrays, and what else it names is refused before it is run."""

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llava_cot.data.sources.inert_pickle import InertArray, read_pickle
from llava_cot.errors import DataError


def written(tmp_path: Path, value: object, protocol: int) -> Path:
    file = tmp_path / "a.pk"
    file.write_bytes(pickle.dumps(value, protocol=protocol))
    return file


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4])
def test_plain_values_and_arrays_are_read(tmp_path: Path, protocol: int) -> None:
    array = np.arange(250, 256, dtype=np.uint8).reshape(2, 3)
    value = [{"id": 1, "名": ("a", None, 2.5, True), "n": np.int64(-7), "x": np.float64(0.5), "image": array}]
    read = read_pickle(written(tmp_path, value, protocol))
    found = read[0].pop("image")
    assert read == [{"id": 1, "名": ("a", None, 2.5, True), "n": -7, "x": 0.5}]
    assert (found.shape, found.code, found.data) == ((2, 3), "u1", array.tobytes())


def test_the_names_of_older_numpy_are_known(tmp_path: Path) -> None:
    data = pickle.dumps(np.zeros((1, 2), np.uint8), protocol=3)
    assert b"numpy._core.multiarray" in data  # what this NumPy writes; published files are older
    file = tmp_path / "a.pk"
    file.write_bytes(data.replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))
    assert read_pickle(file).shape == (1, 2)


class Runs:
    def __init__(self, call: Any, *arguments: object) -> None:
        self.made = call, arguments

    def __reduce__(self) -> Any:
        return self.made


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_nothing_else_is_run(tmp_path: Path, protocol: int) -> None:
    trap = tmp_path / "trap"
    for call in (
        Runs(os.mkdir, str(trap)),
        Runs(eval, f"open({str(trap)!r}, 'w')"),
        Runs(getattr, 1, "real"),
    ):
        with pytest.raises(DataError, match=r"a\.pk: it names \w+\.\w+; only plain values"):
            read_pickle(written(tmp_path, [call], protocol))
    assert not trap.exists()


def test_arrays_of_objects_and_of_columns_are_refused(tmp_path: Path) -> None:
    for array in (np.array([{}, 1], dtype=object), np.zeros((2, 3), np.uint8, order="F")):
        with pytest.raises(DataError, match="not stored by rows"):
            read_pickle(written(tmp_path, array, 3))


@pytest.mark.parametrize("data", [b"", b"hello", pickle.dumps([1, "abc"])[:-4], b"\x80\x04\x95"])
def test_a_broken_file_is_told_by_name(tmp_path: Path, data: bytes) -> None:
    file = tmp_path / "a.pk"
    file.write_bytes(data)
    with pytest.raises(DataError, match=r"a\.pk: this is no pickle, or a broken one"):
        read_pickle(file)


def test_an_array_is_nothing_but_its_fields() -> None:
    assert not hasattr(InertArray(), "__array__")
