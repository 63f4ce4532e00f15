"""Preferences are learned from pairs and from rollouts; the winners of rollouts are learned by `sft`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from training import log, picture, question_rollouts, recipe

from llava_cot.data.rollouts.rollout_file import write_rollouts
from llava_cot.errors import DataError
from llava_cot.models.local.checkpoint import load_checkpoint
from llava_cot.train.batch_dataset import BatchDataset
from llava_cot.train.encode import IGNORE, RowEncoder
from llava_cot.train.labeled_rows import read_labeled
from llava_cot.train.pairing import make_units
from llava_cot.train.training_rows import RowSet
from llava_cot.train.training_run import train

Folders = Callable[[str], Path]
MPO = {"weights": {"dpo": 0.8, "bco": 0.2, "sft": 1.0}}


def write_pairs(folder: Path, count: int) -> Path:
    """Pairs as `data preferences` writes them: of a first stage, or of the whole answer."""
    lines = []
    for i in range(count):
        prefix = "" if i % 2 else "<SUMMARY> I will count. </SUMMARY>\n\n"
        texts = ("<SUMMARY> {} it. </SUMMARY>" if i % 2 else "<CONCLUSION> {} </CONCLUSION>").format
        lines.append({
            "id": f"asked/{i // 2}", "images": [picture(folder, i // 2).name],
            "prompt": [{"role": "user", "content": f"How many? ({i // 2})"}],
            "chosen": [{"role": "assistant", "content": prefix + texts("now")}],
            "rejected": [{"role": "assistant", "content": prefix + texts("not")}],
            "prefix": prefix, "stage": "summary", "judge": "self", "decided_by": "choice", "model": "mini",
        })  # fmt: skip
    (folder / "preferences.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def wanted(data: Path, **more: Any) -> Any:
    return recipe(Path("model"), data, Path("out"), **more)


def test_pairs_are_read_and_an_unfinished_answer_has_no_end(folders: Folders, tmp_path: Path) -> None:
    plain = wanted(write_pairs(tmp_path, 4), objective="dpo")
    records, labels, _ = read_labeled(plain, plain.data)
    assert [label.right for label in labels] == [True, False] * 4
    assert [label.unfinished for label in labels] == [False, False, True, True] * 2
    assert sorted(make_units(plain, labels)) == [(0, 1), (2, 3), (4, 5), (6, 7)]
    checkpoint = load_checkpoint(folders("llava"), "cpu", "float32")
    encoder, rows = RowEncoder(checkpoint, "staged"), RowSet()
    for record, label in zip(records, labels, strict=True):
        size = encoder.size(record)
        assert size is not None
        rows.add(record, label, size, "digest")
    tokenizer = checkpoint.processor.tokenizer
    for (row,), record, label in zip(
        BatchDataset(encoder, rows, [[i] for i in range(8)], 512), records, labels, strict=False
    ):
        learned = [token for token in row.labels[0].tolist() if token != IGNORE]
        end = "" if label.unfinished else "<|end|>"
        assert tokenizer.decode(learned) == f"{record.turns[0].response}".removeprefix(label.prefix) + end


def test_mpo_learns_from_pairs_whatever_the_batches(folders: Folders, tmp_path: Path) -> None:
    data = write_pairs(tmp_path / "data", 24)
    found = []
    for batch, accumulate in ((4, 1), (2, 2)):
        out = tmp_path / str(batch)
        train(
            recipe(
                folders("mllama"), data, out, steps=8, batch=batch, accumulate=accumulate, rate=3e-3,
                objective="dpo", dpo=MPO, evaluate={"share": 0.3, "every": 4},
            )
        )  # fmt: skip
        found.append([line.get("loss", line.get("eval_loss")) for line in log(out)])
    assert found[0] == pytest.approx(found[1], abs=1e-4)
    measured = [line for line in log(out) if "eval_loss" in line]
    assert measured[-1]["eval_pairs_ordered"] == 1 and measured[-1]["eval_loss"] < measured[0]["eval_loss"]
    assert "--judge implicit" in (out / "model" / "README.md").read_text()


def test_rollouts_give_pairs_to_dpo_and_winners_to_sft(folders: Folders, tmp_path: Path) -> None:
    data = tmp_path / "data"
    write_rollouts(data / "rollouts.jsonl", [question_rollouts(data, i, right=2, wrong=3) for i in range(12)])
    dpo = wanted(data, objective="dpo", dpo={"pairs": 5})
    _, labels, _ = read_labeled(dpo, dpo.data)
    units = make_units(dpo, labels)
    assert len(units) == 60 and all((labels[a].right, labels[b].right) == (True, False) for a, b in units)
    records, labels, _ = read_labeled(wanted(data), wanted(data).data)
    assert len(records) == 24 and all(label.right for label in labels)
    assert all("now " in str(record.turns[0].response) for record in records)
    notes: list[str] = []
    train(
        recipe(folders("llava"), data, tmp_path / "out", steps=1, evaluate={"share": 0.5, "every": 1}),
        note=notes.append,
    )
    assert notes[0].startswith("24 records: ")


def test_a_file_that_holds_no_pairs_is_refused(tmp_path: Path) -> None:
    data = write_pairs(tmp_path, 2)
    lines = (data / "preferences.jsonl").read_text().splitlines()
    for wrong, told in (
        ('{"id": "a", "chosen": []}', r"line 3: .*prompt"),
        (
            lines[0].replace('"images": ["images', '"images": ["../images'),
            "line 3: the picture .* lies outside",
        ),
    ):
        (data / "preferences.jsonl").write_text("\n".join([*lines, wrong]))
        with pytest.raises(DataError, match=told):
            read_labeled(wanted(data, objective="dpo"), wanted(data, objective="dpo").data)
