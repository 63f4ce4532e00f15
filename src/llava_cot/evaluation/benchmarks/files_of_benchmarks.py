"""Where the files of public benchmarks are: VLMEvalKit's TSVs, by its names, in its folder.

Owns the folder, the names and where they are to be had (`DATASET_URL` in `vlmeval/dataset/image_*.py` of
ms-vlmeval 0.0.20). Downloads nothing.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from llava_cot.errors import DataError

_HOME = "https://opencompass.openxlab.space/utils"
URLS = {
    f"{name}.tsv": f"{_HOME}/{folder}/{name}.tsv"
    for folder, names in (
        ("VLMEval", "MMStar AI2D_TEST AI2D_TEST_NO_MASK HallusionBench MMVet MathVista_MINI"),
        ("benchmarks/MMBench", "MMBench_DEV_EN_V11 MMBench_TEST_EN_V11"),
    )
    for name in names.split()
}
_VARIABLES = ("LMUData", "LMUDataRoot")  # VLMEvalKit reads the first, in a function called like the second


def data_root() -> Path:
    """The folder that the environment names, or VLMEvalKit's own, `~/LMUData`."""
    named = next((os.environ[name] for name in _VARIABLES if os.environ.get(name)), "~/LMUData")
    return Path(named).expanduser()


def find(names: Sequence[str], root: Path | None) -> Path:
    """The first of these files that is in the folder; `root` may be the file itself.

    Raises DataError that says which file is missing, where it was looked for and where it is to be had.
    """
    folder = (root or data_root()).expanduser()
    if folder.is_file() and folder.name in names:
        return folder
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise DataError(
        f"there is no {' and no '.join(names)} in {folder}; download {URLS[names[0]]} into it, or name the "
        f"folder that has it in the environment variable {_VARIABLES[0]}"
    )
