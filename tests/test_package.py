"""What `import llava_cot` offers: names, the version, types."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import version
from importlib.resources import files

import pytest

import llava_cot


@pytest.mark.parametrize("name", llava_cot.__all__)
def test_every_name_can_be_imported(name: str) -> None:
    namespace: dict[str, object] = {}
    exec(f"from llava_cot import {name}", namespace)
    assert namespace[name] == getattr(llava_cot, name) is not None


def test_dir_lists_the_names_and_a_star_imports_them() -> None:
    assert set(llava_cot.__all__) <= set(dir(llava_cot))
    assert {"ask", "ask_sync", "open_model", "method", "judge", "Search", "Sampling"} <= set(dir(llava_cot))
    namespace: dict[str, object] = {}
    exec("from llava_cot import *", namespace)
    assert set(llava_cot.__all__) <= set(namespace)


def test_the_version_is_that_of_the_distribution() -> None:
    assert llava_cot.__version__ == version("llava-cot")


def test_a_name_that_does_not_exist() -> None:
    with pytest.raises(AttributeError, match="module 'llava_cot' has no attribute 'answers'"):
        llava_cot.answers  # noqa: B018
    with pytest.raises(ImportError):
        exec("from llava_cot import answers")


def test_types_are_shipped() -> None:
    assert files("llava_cot").joinpath("py.typed").is_file()


@pytest.mark.parametrize("given", [{}, {"GOMP_SPINCOUNT": "7"}, {"OMP_WAIT_POLICY": "ACTIVE"}])
def test_threads_soon_sleep_unless_the_user_says_otherwise(given: dict[str, str]) -> None:
    code = "import sys, llava_cot, os; print('torch' in sys.modules, os.environ.get('GOMP_SPINCOUNT'))"
    kept = {name: value for name, value in os.environ.items() if "OMP_" not in name}
    done = subprocess.run([sys.executable, "-c", code], env=kept | given, capture_output=True, check=True)
    [loaded, turns] = done.stdout.decode().split()
    assert loaded == "False"
    assert turns == given.get("GOMP_SPINCOUNT", "None" if given else turns)
    assert given or int(turns) < 10_000
