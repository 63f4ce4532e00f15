"""What a run looks at before its first step, and what it notices when it is resumed."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from accelerate import PartialState
from safetensors.torch import load_file, save_file
from training import record, write

from llava_cot.core.files import make_recipe
from llava_cot.core.images import load_image
from llava_cot.data.record import Record
from llava_cot.errors import DataError, StoreError
from llava_cot.models.local.checkpoint import Checkpoint
from llava_cot.models.registry import CheckpointFiles
from llava_cot.train.encode import RowEncoder
from llava_cot.train.examine import changes
from llava_cot.train.recipe import TrainRecipe
from llava_cot.train.run_folder import RunFolder
from llava_cot.train.training_rows import TrainingPlan, plan_run
from llava_cot.train.training_run import _full_disk, train


class Run:
    """The beginning of a run, up to its first step; each call of `start` is another process."""

    def __init__(self, folder: Path, base: Path, checkpoint: Checkpoint) -> None:
        self.data, self.out, self.base = folder / "data", folder / "out", base
        self.records = [record(self.data, i) for i in range(6)]
        self.notes: list[str] = []
        self._encoder = RowEncoder(checkpoint, "staged")
        self.save()

    def save(self, **turns: str) -> None:
        """Write the records, the first with these fields of its turn."""
        first = replace(self.records[0], turns=(replace(self.records[0].turns[0], **turns),))
        write(self.data, [first, *self.records[1:]])

    def recipe(self, **more: Any) -> TrainRecipe:
        fields = {
            "model": str(self.base),
            "out": str(self.out),
            "data": [{"path": str(self.data)}],
            "batch": 2,
        }
        return make_recipe(fields | more, TrainRecipe, "made")

    def start(self, **more: Any) -> TrainingPlan:
        folder, wanted = RunFolder(self.out), self.recipe(**more)
        folder.check(wanted, resume=True)
        folder.open()
        try:
            plan = plan_run(
                wanted,
                CheckpointFiles(self.base, "base"),
                512,
                self._encoder,
                folder,
                PartialState(cpu=True),
                self.notes.append,
            )
            folder.start(wanted, plan.contents(), processes=1, base=plan.base)
        finally:
            folder.close()
        return plan


@pytest.fixture
def begun(tmp_path: Path, folders: Callable[[str], Path], checkpoints: Callable[[str], Checkpoint]) -> Run:
    base = tmp_path / "base"
    shutil.copytree(folders("llava"), base)
    return Run(tmp_path, base, checkpoints("llava"))


def picture_of(one: Record) -> Path:
    file = one.pictures[0].file
    assert file is not None
    return file


def spoil(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-300])


def test_pictures_are_decoded_before_the_first_step_and_once(
    begun: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[str] = []

    def seen(source: Any, *, name: str) -> Any:
        looked.append(name)
        return load_image(source, name=name)

    monkeypatch.setattr("llava_cot.train.examine.load_image", seen)
    whole = begun.start()
    assert sorted(looked) == [f"images/{10 * i}.png" for i in range(6)] and whole.counts.rows == 6
    looked.clear()
    assert begun.start().contents() == whole.contents() and looked == []
    os.utime(picture_of(begun.records[2]))
    assert begun.start().contents() == whole.contents() and looked == ["images/20.png"]


def test_pictures_that_cannot_be_used_are_listed_and_stop_the_run_or_are_dropped(begun: Run) -> None:
    spoil(picture_of(begun.records[1]))
    picture_of(begun.records[4]).unlink()
    words = (
        r"in the record 'made/1': cannot read the image images/10\.png: .* \(2 records .*unreadable: drop\)"
    )
    with pytest.raises(DataError, match=words):
        begun.start()
    listed = [json.loads(line) for line in (begun.out / "unreadable.jsonl").read_text().splitlines()]
    assert [line["id"] for line in listed] == ["made/1", "made/4"] and "no such file" in listed[1][
        "problem"
    ].lower()
    assert begun.notes[0].startswith("in the record 'made/1': cannot read")
    RunFolder(begun.out).check(begun.recipe(unreadable="drop"), resume=False)  # it was never started
    plan = begun.start(unreadable="drop")
    assert [one.id for one in plan.rows.records] == [f"made/{i}" for i in (0, 2, 3, 5)]
    assert "2 with unreadable pictures dropped" in str(plan.counts)


def test_pictures_to_evaluate_on_are_looked_at_too(begun: Run) -> None:
    spoil(picture_of(begun.records[5]))
    with pytest.raises(DataError, match="its data are damaged or cut off"):
        begun.start(evaluate={"path": str(begun.data), "every": 1})


@pytest.mark.parametrize("field", ["question", "response", "answer"])
def test_other_texts_of_the_same_length_are_noticed(begun: Run, field: str) -> None:
    begun.save()
    target = "direct" if field == "answer" else "staged"
    begun.start(target=target)
    old = getattr(begun.records[0].turns[0], field)
    begun.save(**{field: old.replace("0", "7") if "0" in old else old.swapcase()})
    with pytest.raises(
        DataError, match=r"the data have changed since .* \(changed: 'made/0'\); put them back"
    ):
        begun.start(target=target)


def test_other_pictures_behind_the_same_names_are_noticed(begun: Run) -> None:
    begun.start()
    one, other = picture_of(begun.records[0]), picture_of(begun.records[3])
    before = one.stat()
    content = other.read_bytes()
    one.write_bytes(content)
    os.utime(one, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(DataError, match=r"changed: 'made/0'\)"):
        begun.start()


def test_missing_and_new_records_are_named(begun: Run) -> None:
    begun.start()
    begun.records = [*begun.records[:5], record(begun.data, 7), record(begun.data, 8)]
    begun.save()
    with pytest.raises(DataError, match=r"\(missing: 'made/5'; new: 'made/7', 'made/8'\)"):
        begun.start()
    rows = [["a", 1], ["b", 1], ["c", 1], ["d", 1], ["e", 1]]
    assert changes(rows, [[id, 2] for id, _ in rows]) == "changed: 'a', 'b', 'c' and 2 more"
    assert "another order" in changes(rows, rows[::-1])
    assert changes([["a", 1], ["a", 2]], [["a", 3], ["a", 2]]) == "changed: 'a'"


def test_other_base_weights_behind_the_same_name_are_noticed(begun: Run) -> None:
    begun.start()
    file = begun.base / "model.safetensors"
    weights = load_file(file)
    name = min(weights)
    save_file({**weights, name: weights[name] + 1}, file, {"format": "pt"})
    with pytest.raises(DataError, match="was started with a base model whose files have the hash"):
        begun.start()
    save_file(weights, file, {"format": "pt"})


def test_a_second_process_at_one_folder_is_refused(begun: Run) -> None:
    first = RunFolder(begun.out)
    first.open()
    with pytest.raises(StoreError, match=r"another process works on .*out; wait for its end"):
        begun.start()
    with pytest.raises(StoreError, match="another process works on"):
        train(begun.recipe())
    first.close()
    begun.start()


def test_a_full_disk_is_called_that(tmp_path: Path) -> None:
    def torch_on_a_full_disk() -> None:
        try:
            raise OSError(errno.ENOSPC, "No space left on device")
        except OSError:
            raise RuntimeError("[enforce fail at inline_container.cc:659] unexpected pos 64 vs 0") from None

    def dev_full() -> None:
        with open("/dev/full", "w") as file:
            file.write("x")

    def safetensors() -> None:
        raise Exception("Error while serializing: I/O error: No space left on device (os error 28)")

    for failure in (torch_on_a_full_disk, dev_full, safetensors):
        with (
            pytest.raises(StoreError, match="is full; what was saved before is safe: make room"),
            _full_disk(tmp_path),
        ):
            failure()
    with pytest.raises(RuntimeError, match="another"), _full_disk(tmp_path):
        raise RuntimeError("another")
