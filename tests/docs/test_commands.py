"""Every command and every Python block of the README and the tutorials is run, as it is written.

They run in a copy of what git would clone, in one shell per page, in the environment of the tests; the first
recipes, which take minutes, are made short there. A block that cannot run here has the comment
`<!-- not run: REASON -->` above it; `NOT_RUN` has all of them. A block that a reader saves as a file has
`<!-- file: NAME -->`. A command of llava-cot that an earlier page has run already, word for word, is not run
again, unless it starts a server.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from docs.blocks import Block, blocks_of, script_of

ROOT = Path(__file__).resolve().parents[2]
TUTORIALS = (
    "first-answer",
    "your-own-checkpoint",
    "server",
    "compare-methods",
    "annotate-and-fine-tune",
    "write-a-method",
)
PAGES = ("README.md", *(f"docs/tutorials/{name}.md" for name in TUTORIALS))
NOT_RUN = {
    ("README.md", "needs a checkpoint of 11 billion parameters and a GPU"),
    ("docs/tutorials/your-own-checkpoint.md", "needs a checkpoint of 11 billion parameters and a GPU"),
    ("docs/tutorials/your-own-checkpoint.md", "needs another checkpoint"),
    ("docs/tutorials/write-a-method.md", "tests/examples installs it into an environment of its own"),
}
SECONDS = 600  # for a page, on a busy machine
SHORTER = {
    "recipes/first-scenes.yaml": {"count": 64},
    "recipes/first-run.yaml": {"steps": 2, "limit": 2},
}
STAMPS = (".made", ".installed", ".installed-serve,train,eval")

_COMMAND = re.compile(r"^llava-cot (?:.*\\\n)*.*[^&\n]$", re.MULTILINE)
_done: set[str] = set()


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a clone would have of the working tree, with an environment that `make install` finds complete."""
    if not Path(sys.prefix, "bin", "activate").is_file():
        pytest.skip("the tests run outside of a virtual environment")
    folder = tmp_path_factory.mktemp("clone") / "llava-cot"
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (ROOT / name).is_file() and not name.startswith("tests/"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, folder / name)
    for name, numbers in SHORTER.items():
        shorten(folder / name, numbers)
    (folder / ".venv").mkdir()
    (folder / ".venv" / "bin").symlink_to(Path(sys.prefix, "bin"))
    for stamp in STAMPS:
        (folder / ".venv" / stamp).touch()
    return folder


def shorten(recipe: Path, numbers: dict[str, int]) -> None:
    """Set numbers of a recipe, each of which stands there once."""
    text = recipe.read_text(encoding="utf-8")
    for name, number in numbers.items():
        text, found = re.subn(rf"\b{name}: \d+", f"{name}: {number}", text)
        assert found == 1, (recipe, name)
    recipe.write_text(text, encoding="utf-8")


def runnable(page: str) -> list[Block]:
    blocks = blocks_of((ROOT / page).read_text(encoding="utf-8"))
    return [block for block in blocks if block.language in ("sh", "python") and block.not_run is None]


def without(block: Block, done: set[str]) -> str:
    """The text of a block without the commands that were run before."""
    return _COMMAND.sub(lambda found: "" if found[0] in done else found[0], block.text)


def wait_for_port(port: int) -> None:
    """Wait until nothing listens there: another run of these tests may."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)):
                return
        time.sleep(1)
    pytest.fail(f"something else listens at port {port}, which the pages use")


@pytest.mark.parametrize("page", PAGES)
def test_the_blocks_of_a_page_run_as_they_are_written(page: str, clone: Path) -> None:
    blocks = [replace(block, text=without(block, _done)) for block in runnable(page)]
    script = script_of(blocks)
    if ":8000" in script:
        wait_for_port(8000)
    home = clone.parent / "home"
    home.mkdir(exist_ok=True)
    environment = os.environ | {
        "HOME": str(home),
        "PYTHONPATH": str(clone / "src"),
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "PIP_NO_INDEX": "1",
    }
    for name in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "LLAVA_COT_API_KEY"):
        environment.pop(name, None)
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=clone,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=SECONDS,
    )
    assert done.returncode == 0, f"{page}\n{done.stdout[-4000:]}"
    for block in blocks:
        _done.update(_COMMAND.findall(block.text))


def test_blocks_that_are_not_run_are_listed_with_their_reason() -> None:
    found = {
        (page, block.not_run)
        for page in PAGES
        for block in blocks_of((ROOT / page).read_text(encoding="utf-8"))
        if block.not_run
    }
    assert found == NOT_RUN


def test_every_tutorial_is_run() -> None:
    names = {path.name for path in (ROOT / "docs" / "tutorials").glob("*.md")}
    assert names == {"index.md", *(f"{name}.md" for name in TUTORIALS)}
