"""Fuzzers of files: traces, records, recipes, stores and calibrations, checkpoints."""

from __future__ import annotations

import io
import json
import os
import random
import shutil
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
import tiny
import yaml
from eval_runs import Moody, numbers, run
from fuzzing import fuzz, mutate_bytes, mutate_document, mutate_json
from made_traces import sentences, staged, tree

from llava_cot import ask_sync, open_model
from llava_cot.core.files import read_recipe
from llava_cot.core.trace import Trace
from llava_cot.data.checks.check import check
from llava_cot.data.reading import RecordFile
from llava_cot.data.sources.chats import read_chats
from llava_cot.data.sources.entry import DataRecipe
from llava_cot.data.sources.tsv import read_tsv
from llava_cot.data.store import STORE_FILE
from llava_cot.errors import DataError, ModelError
from llava_cot.evaluation.report.arms import summarize
from llava_cot.evaluation.results import RunResults
from llava_cot.models.base import Sampling
from llava_cot.models.endpoint.config import config_file, load_config
from llava_cot.models.local import chat_template
from llava_cot.search.calibration import load_calibration
from llava_cot.search.examples import load_examples
from llava_cot.search.judge_prompts import load_judge_prompts
from llava_cot.train.recipe import TrainRecipe
from llava_cot.view.console import CleanConsole
from llava_cot.view.html import trace_page
from llava_cot.view.summaries import check_report
from llava_cot.view.terminal import trace_tree

PNG = Path("examples/scene.png")


def test_traces() -> None:
    traces = [json.loads(made.model_dump_json()) for made in (staged(2), tree(), sentences(3))]
    for trace in traces:
        for image in trace["question"]["images"]:
            image["data"] = "data:image/png;base64,AAAA"

    def use(data: bytes) -> None:
        trace = Trace.parse(data, "t.json")
        console = CleanConsole(file=io.StringIO())
        console.print(trace_tree(trace))
        trace_page(trace).encode()

    def make(rng: random.Random) -> bytes:
        return mutate_document(rng, rng.choice(traces))

    fuzz("traces", 0.12, make, use, refusals=(ValueError,))


RECORDS = [
    {
        "id": "a/1",
        "image": "1.png",
        "source": "a",
        "licence": "MIT",
        "extra": {"type": "x"},
        "conversations": [
            {"from": "human", "value": "How many?\nA. 1\nB. 2"},
            {"from": "gpt", "value": staged(1).text},
        ],
        "questions": [
            {
                "question": "How many?",
                "answer": "B",
                "options": ["1", "2"],
                "hints": "Look.",
                "annotated": True,
            }
        ],
    },
    {
        "id": "b",
        "images": ["1.png", "2.png"],
        "conversations": [{"from": "human", "value": "<image>\nWhy?"}, {"from": "gpt", "value": "So."}],
    },
    {
        "id": 3,
        "image": "1.png",
        "question": "How many?",
        "options": ["1", "2"],
        "answer": "A",
        "type": "count",
    },
    {
        "messages": [
            {
                "role": "user",
                "content": [{"type": "image", "image": "1.png"}, {"type": "text", "text": "What?"}],
            },
            {"role": "assistant", "content": "A."},
        ]
    },
]


def test_records(tmp_path: Path) -> None:
    shutil.copy(PNG, tmp_path / "1.png")
    file, tsv = tmp_path / "train.jsonl", tmp_path / "q.tsv"
    lines = [json.dumps(record).encode() for record in RECORDS]
    rows = b"index\tquestion\timage\tA\tB\tanswer\n1\tWhat?\tQUJD\tx\ty\tA\n2\tWhy?\t1\tx\t\tB\n"

    def use(data: bytes) -> None:
        if data.startswith(b"TSV"):
            tsv.write_bytes(data[3:])
            for record in read_tsv(tsv):
                for picture in record.pictures:
                    picture.read()
            return
        file.write_bytes(data)
        list(check_report(check(tmp_path)))
        for read in (lambda: RecordFile(file), lambda: read_chats(file)):
            try:
                for record in read():
                    assert record.turns and record.id
            except DataError as refusal:
                assert "\n" not in str(refusal)

    def make(rng: random.Random) -> bytes:
        if rng.random() < 0.2:
            return b"TSV" + mutate_bytes(rng, rows, lines)
        return b"\n".join(mutate_document(rng, rng.choice(RECORDS), lines) for _ in range(rng.choice((1, 3))))

    fuzz("records", 0.14, make, use)


RECIPES = {
    "train": {
        "model": "m",
        "data": ["d"],
        "out": "o",
        "epochs": 1,
        "rate": 1e-4,
        "lora": {"rank": 4, "alpha": 8, "dropout": 0.1},
    },
    "data": {
        "seed": 1,
        "sources": [
            {"source": "scenes", "count": 5, "size": 9},
            {"source": "tsv", "path": "x.tsv", "count": "all", "name": "q"},
            {"source": "hf", "path": "a/b", "count": 2, "columns": {"question": "q"}},
        ],
        "exclude": [{"source": "tsv", "path": "${HOME}/y.tsv"}],
    },
    "prompts": {
        "criteria": {"caption": "Which is better?"},
        "choice": "I choose",
        "choices": ["one", "two"],
        "verdicts": ["a", "b"],
    },
    "examples": [
        {"image": "1.png", "question": "What?", "options": ["x", "y"], "answer": "<SUMMARY> x </SUMMARY>"}
    ],
    "endpoints": {
        "providers": {"mine": {"url": "http://x/v1", "seconds": 3, "in_flight": 2}},
        "prices": {"m": {"input": 1, "output": 2.5}},
    },
    "calibration": {"judge": "logits", "mean": 0.5, "deviation": 0.1, "cut_off": 0.52533},
}


def test_recipes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    config_file().parent.mkdir(parents=True)
    shutil.copy(PNG, tmp_path / "1.png")
    file = tmp_path / "r.yaml"
    readers: dict[str, Callable[[], object]] = {
        "train": lambda: read_recipe(file, TrainRecipe),
        "data": lambda: read_recipe(file, DataRecipe).located(tmp_path),
        "prompts": lambda: load_judge_prompts(file),
        "examples": lambda: load_examples(file),
        "endpoints": load_config,
        "calibration": lambda: load_calibration(file),
    }
    names = list(RECIPES)

    def use(data: bytes) -> None:
        name = names[data[0] % len(names)]
        (config_file() if name == "endpoints" else file).write_bytes(data[1:])
        readers[name]()

    def make(rng: random.Random) -> bytes:
        number = rng.randrange(len(names))
        recipe = RECIPES[names[number]]
        made = mutate_json(rng, recipe) if rng.random() < 0.8 else recipe
        if rng.random() < 0.3:
            data = json.dumps(made).encode()
        else:
            data = yaml.safe_dump(made, allow_unicode=True).encode("utf-8", "surrogatepass")
        return bytes([number]) + (mutate_bytes(rng, data) if rng.random() < 0.6 else data)

    fuzz("recipes", 0.14, make, use, refusals=(ValueError,))


def test_stores(tmp_path: Path) -> None:
    run(tmp_path / "good", numbers(3), Moody(), "single")
    good = (tmp_path / "good" / STORE_FILE).read_bytes()
    folder = tmp_path / "store"
    folder.mkdir()

    def use(data: bytes) -> None:
        for file in folder.iterdir():
            file.unlink()
        (folder / STORE_FILE).write_bytes(data)
        with RunResults([folder]) as results:
            summarize(results, results.runs)
            for one in results.runs:
                for found in results.results(one):
                    results.trace(one, found.item)

    def make(rng: random.Random) -> bytes:
        return mutate_bytes(rng, good, [good])

    fuzz("stores", 0.06, make, use)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make("llava", tmp_path_factory.mktemp("llava"))


def test_checkpoints(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat_template, "_SECONDS", 0.5)
    files = {path.name: path.read_bytes() for path in checkpoint.iterdir() if path.is_file()}
    index = {"metadata": {}, "weight_map": {"a": "model.safetensors", "b": "model.safetensors"}}
    files["model.safetensors.index.json"] = json.dumps(index).encode()
    files["adapter_config.json"] = json.dumps({"peft_type": "LORA", "r": 4}).encode()
    names = sorted(files)
    rare = {"model.safetensors.index.json", "adapter_config.json"}
    folder = tmp_path / "copy"

    def use(data: bytes) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        changed = names[data[0] % len(names)]
        for name in names:
            if name != changed and name not in rare:
                os.symlink(checkpoint / name, folder / name)
        (folder / changed).write_bytes(data[1:])
        with closing(open_model(folder)) as model:
            try:
                ask_sync(model, None, "How many? <image>", method="single", sampling=Sampling(max_tokens=2))
            except ModelError as refusal:
                assert "\n" not in str(refusal)

    def make(rng: random.Random) -> bytes:
        number = rng.choice([i for i, name in enumerate(names) if name not in rare or rng.random() < 0.2])
        data = files[names[number]]
        if names[number].endswith(".json") and len(data) < 2**20:
            return bytes([number]) + mutate_document(rng, json.loads(data))
        begin = data[:4000] if names[number].endswith(".safetensors") else data
        return bytes([number]) + mutate_bytes(rng, begin) + data[len(begin) :]

    fuzz("checkpoints", 0.2, make, use, longest=30.0)
