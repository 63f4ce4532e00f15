"""A run from its recipe to a model: the same after a kill and on two processes, loadable by any tool."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
import yaml
from command import environment, refusal, run
from hub_double import running_hub, use_hub
from PIL import Image
from safetensors.torch import load_file
from training import (
    finish,
    kill,
    log,
    losses,
    losses_so_far,
    recipe,
    record,
    start,
    write,
    write_recipe,
)
from transformers import AutoModelForImageTextToText

from llava_cot import ask_sync, open_model
from llava_cot.data.reading import RecordFile
from llava_cot.errors import DataError
from llava_cot.models.base import Sampling
from llava_cot.models.local.checkpoint import load_checkpoint
from llava_cot.models.registry import find_checkpoint
from llava_cot.train.collate import Collator
from llava_cot.train.encode import RowEncoder
from llava_cot.train.run_folder import RunFolder
from llava_cot.train.trainer import answer_loss
from llava_cot.train.training_run import train

Folders = Callable[[str], Path]


def loss_of(folder: Path, data: Path) -> float:
    """The loss of a saved model on some records."""
    checkpoint = load_checkpoint(folder, "cpu", "float32")
    encoder = RowEncoder(checkpoint, "staged")
    records = [one for one in RecordFile(data) if one.pictures][:6]
    batch = Collator(0)([[encoder.row(one) for one in records]])
    labels, keep = batch.pop("labels"), batch.pop("logits_to_keep")
    return float(answer_loss(checkpoint.model(**batch, logits_to_keep=keep).logits, labels, keep))


@pytest.mark.parametrize("kind", tiny.KINDS)
def test_every_architecture_learns_and_its_model_loads_anywhere(
    kind: str, folders: Folders, data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    wanted = recipe(
        folders(kind), data, out, steps=10, gradient_checkpointing=True, accumulate=2, batch=2,
        log=["tensorboard"],
        evaluate={"share": 0.2, "every": 5}, samples={"count": 1, "every": 5, "tokens": 6},
    )  # fmt: skip
    notes: list[str] = []
    model = train(wanted, note=notes.append)
    assert notes[0].startswith("40 records: 3")
    assert "for evaluation" in notes[0]
    assert [line["step"] for line in log(out) if "loss" in line] == list(range(1, 11))
    measured = [line["eval_loss"] for line in log(out) if "eval_loss" in line]
    assert len(measured) == 2 and measured[1] < measured[0]
    assert loss_of(model, data) < loss_of(folders(kind), data) - 0.2
    samples = [json.loads(line) for line in (out / "samples.jsonl").read_text().splitlines()]
    assert [sample["step"] for sample in samples] == [5, 10]
    assert list((out / "tensorboard").glob("events.*"))
    loaded = AutoModelForImageTextToText.from_pretrained(model)
    assert type(loaded).__name__ in (model / "config.json").read_text()
    with closing(open_model(model)) as opened:
        trace = ask_sync(
            opened, Image.new("RGB", (20, 20)), "How many?", method="single", sampling=Sampling(max_tokens=8)
        )
    assert trace.staging == "trained"  # by its mark: it writes nothing of the kind yet
    assert {path.suffix for path in model.iterdir()} <= {".json", ".jinja", ".md", ".safetensors"}
    assert "local_files_only" not in (model / "tokenizer_config.json").read_text()
    card = (model / "README.md").read_text()
    assert "pipeline_tag: image-text-to-text" in card and "| steps | 10 |" in card
    report = json.loads((out / "train.json").read_text())
    assert (report["rows"] + report["held_out"], report["steps"]) == (40, 10)


EVALUATE = {"share": 0.2, "every": 3}
ADAPTED = {"lora": {"rank": 4, "dropout": 0.2}, "samples": {"count": 1, "every": 2, "tokens": 4}}


@pytest.mark.parametrize("more", [{"evaluate": EVALUATE}, ADAPTED], ids=["full", "lora"])
def test_a_killed_run_goes_on_with_the_losses_of_an_undisturbed_one(
    more: dict[str, Any], folders: Folders, data: Path, tmp_path: Path
) -> None:
    wanted = recipe(folders("mllama"), data, tmp_path / "whole", steps=9, **more)
    train(wanted)
    out = tmp_path / "killed"
    file = write_recipe(wanted, out)
    process = start([file])
    until = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < until:
        if (out / "log.jsonl").is_file() and len(losses_so_far(out)) >= 5:
            break
        time.sleep(0.005)
    kill(process)
    assert not (out / "model").exists(), "it was killed too late"
    torn = out / "checkpoints" / "checkpoint-8"
    torn.mkdir(parents=True, exist_ok=True)
    (torn / "whole.json").unlink(missing_ok=True)
    told = run("train", file, "--resume").stderr.decode()
    assert "resuming from" in told and "checkpoint-8" not in told
    assert losses(out) == losses(tmp_path / "whole")
    assert [line["step"] for line in log(out)] == [line["step"] for line in log(tmp_path / "whole")]
    ours, theirs = (load_file(folder / "model" / "model.safetensors") for folder in (out, tmp_path / "whole"))
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert "this run is done" in run("train", file, "--resume").stderr.decode()


@pytest.mark.parametrize(
    "more", [{"gradient_checkpointing": True, "clip": None}, {"lora": {"rank": 4}}], ids=["full", "lora"]
)
def test_fsdp_on_two_processes_has_the_losses_of_one(
    more: dict[str, Any], folders: Folders, data: Path, tmp_path: Path
) -> None:
    wanted = recipe(
        folders("mllama"), data, tmp_path / "one", steps=6, evaluate={"share": 0.2, "every": 3}, **more
    )
    train(wanted)
    out = tmp_path / "two"
    finish(start([write_recipe(wanted, out, fsdp={}, batch=2)], processes=2))
    assert losses(out) == pytest.approx(losses(tmp_path / "one"), abs=2e-5)
    assert log(out)[-1]["eval_loss"] == pytest.approx(log(tmp_path / "one")[-1]["eval_loss"], abs=2e-5)
    shards = list((out / "checkpoints" / "checkpoint-6").glob("pytorch_model_fsdp_0/*.distcp"))
    assert len(shards) == 2, "the weights were not in shards"
    ours, theirs = (load_file(folder / "model" / "model.safetensors") for folder in (out, tmp_path / "one"))
    assert ours.keys() == theirs.keys()
    assert max(float((ours[name] - theirs[name]).abs().max()) for name in ours) < 1e-4
    assert loss_of(out / "model", data) == pytest.approx(loss_of(tmp_path / "one" / "model", data), abs=1e-4)


def test_fsdp_goes_on_after_a_kill_and_accelerate_launches_it(
    folders: Folders, data: Path, tmp_path: Path
) -> None:
    wanted = recipe(folders("qwen3-vl"), data, tmp_path / "one", steps=5, batch=4)
    train(wanted)
    out = tmp_path / "two"
    file = write_recipe(wanted, out, fsdp={}, batch=2)
    process = start([file], processes=2)
    until = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < until and not RunFolder(out).last_complete():
        time.sleep(0.01)
    kill(process)
    assert not (out / "model").exists(), "it was killed too late"
    launch = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2",
              "--num_machines", "1", "--mixed_precision", "no",
              "--dynamo_backend", "no", "-m", "llava_cot"]  # fmt: skip
    command = [sys.executable, *launch, "train", file, "--resume"]
    done = subprocess.run(command, env=environment(), capture_output=True, check=False, timeout=180)
    assert done.returncode == 0, done.stderr.decode()
    assert losses(out) == pytest.approx(losses(tmp_path / "one"), abs=2e-5)


def test_an_adapter_is_saved_and_merged(folders: Folders, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    train(recipe(folders("llava"), data, out, lora={"rank": 2, "targets": ["q_proj"]}))
    config = json.loads((out / "adapter" / "adapter_config.json").read_text())
    assert config["target_modules"] == ["q_proj"]
    base, merged = (load_file(folder / "model.safetensors") for folder in (folders("llava"), out / "model"))
    assert base.keys() == merged.keys()
    changed = {name for name in base if not torch.equal(base[name], merged[name])}
    assert changed and all("q_proj" in name for name in changed)
    # As a model, the adapter is what was merged, under the run's name.
    found = find_checkpoint(out / "adapter")
    assert found.name == "out" == find_checkpoint(out / "model").name
    opened = load_checkpoint(found.folder, "cpu", "float32", found.adapters).model.state_dict()
    expected = load_checkpoint(out / "model", "cpu", "float32").model.state_dict()
    assert all(torch.allclose(opened[name], weights, atol=1e-6) for name, weights in expected.items())
    # As the model of a recipe, too; the next adapter adds to it.
    again = tmp_path / "again"
    train(recipe(out / "adapter", data, again, lora={"rank": 2, "targets": ["v_proj"]}))
    adapters = [out / "adapter", again / "adapter"]
    both = load_checkpoint(found.folder, "cpu", "float32", adapters).model.state_dict()
    expected = load_checkpoint(again / "model", "cpu", "float32").model.state_dict()
    assert all(torch.allclose(both[name], weights, atol=1e-6) for name, weights in expected.items())


def test_a_model_on_the_hub_is_trained_and_named_by_its_adapter(
    folders: Folders, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_hub() as hub, warnings.catch_warnings():
        warnings.filterwarnings("error", "Unable to fetch")  # peft, of a model that it looks for on the hub
        use_hub(hub, tmp_path / "hf", monkeypatch)
        hub.add("org/llava", folders("llava"), ref="v1")
        train(recipe("org/llava@v1", data, tmp_path / "out", lora={"rank": 2}, steps=1))  # type: ignore[arg-type]
        config = json.loads((tmp_path / "out/adapter/adapter_config.json").read_text())
        assert (config["base_model_name_or_path"], config["revision"]) == ("org/llava", "v1")
        assert "base_model: org/llava@v1" in (tmp_path / "out/model/README.md").read_text()
        assert find_checkpoint(tmp_path / "out/adapter").folder.is_relative_to(tmp_path / "hf")


def test_what_is_frozen_stays(folders: Folders, data: Path, tmp_path: Path) -> None:
    for kind in ("qwen2.5-vl", "idefics3"):
        train(recipe(folders(kind), data, tmp_path / kind, freeze=["vision"], steps=2))
        base, model = (load_file(f / "model.safetensors") for f in (folders(kind), tmp_path / kind / "model"))
        changed = {name for name in base if not torch.equal(base[name], model[name])}
        assert changed and not any("vis" in name for name in changed)
    with pytest.raises(DataError, match="freeze: 'visoin' is no part of this model"):
        train(recipe(folders("llava"), data, tmp_path / "typo", freeze=["visoin"]))


@pytest.mark.parametrize(("over_long", "dropped", "cut"), [("drop", 10, 0), ("cut", 0, 10)])
def test_over_long_rows_are_counted(
    over_long: str, dropped: int, cut: int, folders: Folders, data: Path, tmp_path: Path
) -> None:
    encoder = RowEncoder(load_checkpoint(folders("llava"), "cpu", "float32"), "staged")
    lengths = sorted(encoder.size(one).length for one in RecordFile(data))  # type: ignore[union-attr]
    most = lengths[-11]
    dropped, cut = (sum(length > most for length in lengths) if n else 0 for n in (dropped, cut))
    notes: list[str] = []
    train(
        recipe(folders("llava"), data, tmp_path / "out", steps=1, max_tokens=most, over_long=over_long),
        note=notes.append,
    )
    report = json.loads((tmp_path / "out" / "train.json").read_text())
    assert (report["dropped_over_long"], report["cut_over_long"]) == (dropped, cut)
    assert f"{dropped or cut} over-long {'dropped' if dropped else 'cut'}" in notes[0]
    with pytest.raises(DataError, match=r"the record 'made/\d+' takes .* tokens"):
        train(recipe(folders("llava"), data, tmp_path / "no", max_tokens=most, over_long="refuse"))


def test_a_folder_that_has_a_run_is_refused(folders: Folders, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    wanted = recipe(folders("llava"), data, out, steps=2)
    train(wanted)
    with pytest.raises(DataError, match="holds a run already; add --resume"):
        train(wanted)
    other = wanted.model_copy(update={"rate": 2e-3})
    with pytest.raises(DataError, match=r"started with rate: 0\.001, and the recipe now has 0\.002"):
        train(other, resume=True)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("Dear")
    with pytest.raises(DataError, match="holds other files"):
        train(wanted.model_copy(update={"out": str(tmp_path / "full")}))


@pytest.mark.parametrize("workers", [0, 1])
def test_a_picture_that_is_cut_off_stops_the_run_in_one_sentence(
    workers: int, folders: Folders, tmp_path: Path
) -> None:
    some = [record(tmp_path / "data", i) for i in range(8)]
    broken = some[5].pictures[0].file
    assert broken is not None
    broken.write_bytes(broken.read_bytes()[:600])
    data = write(tmp_path / "data", some).parent
    wanted = recipe(folders("llava"), data, tmp_path / "out", workers=workers)
    done = run("train", write_recipe(wanted, tmp_path / "out"))
    told = done.stderr.decode()
    assert done.returncode == 2 and "Traceback" not in told, told
    expected = f"llava-cot: in the record 'made/5': cannot read the image {some[5].pictures[0].name}"
    assert (
        told.splitlines()[-1].startswith(expected) and "repair the pictures, or set unreadable: drop" in told
    )


def test_rows_are_prepared_in_other_processes_just_so(folders: Folders, data: Path, tmp_path: Path) -> None:
    for workers in (0, 2):
        train(recipe(folders("qwen3-vl"), data, tmp_path / str(workers), workers=workers, steps=3))
    assert losses(tmp_path / "0") == losses(tmp_path / "2")


def test_other_data_is_refused(folders: Folders, data: Path, tmp_path: Path) -> None:
    copy = tmp_path / "data"
    copy.mkdir()
    lines = (data / "train.jsonl").read_text().splitlines(keepends=True)
    os.symlink(data / "images", copy / "images")
    # Pictures may not lie outside of their folder, so these records have none.
    plain = [line for line in lines if '"image"' not in line]
    (copy / "train.jsonl").write_text("".join(plain))
    wanted = recipe(folders("llava"), copy, tmp_path / "out", steps=2, batch=2)
    train(wanted)
    (tmp_path / "out" / "train.json").unlink()
    (copy / "train.jsonl").write_text("".join(plain[1:]))
    with pytest.raises(DataError, match=r"the data have changed since .* \(missing: 'made/4'\)"):
        train(wanted, resume=True)


def test_bad_input_is_one_sentence(folders: Folders, data: Path, tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    good = recipe(folders("llava"), data, tmp_path / "out").model_dump()

    def told(**more: Any) -> str:
        file.write_text(yaml.safe_dump(good | more))
        return refusal("train", file)

    assert "rates: there is no such field" in told(rates=1)
    assert "there are no records at" in told(data=[{"path": str(tmp_path / "none")}])
    assert "there is no folder" in told(model=str(tmp_path / "none"))
    assert "fsdp needs several processes" in told(fsdp={})
    assert "takes at most 512 tokens" in told(max_tokens=4096)
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "train.jsonl").write_text('{"id": 1}\n')
    assert "train.jsonl, line 1: it is no record" in told(data=[{"path": str(broken)}])
    assert not (tmp_path / "out" / "model").exists()
