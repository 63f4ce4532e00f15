"""Data sets on the hub: the real clients of `datasets` and huggingface_hub against a hub on this machine."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import datasets.config
import pytest
from hub_double import TOKEN, Hub, running_hub, use_hub
from huggingface_hub import constants

from llava_cot.data.sampling.sample import sample
from llava_cot.data.sources.entry import SourceEntry, open_source
from llava_cot.errors import DataError


def rows(answer: str) -> bytes:
    return b"".join(
        json.dumps({"id": f"q{number}", "question": f"What is number {number}?", "answer": answer}).encode()
        + b"\n"
        for number in range(5)
    )


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with running_hub() as server:
        use_hub(server, tmp_path / "hf", monkeypatch)
        monkeypatch.setattr(datasets.config, "HF_ENDPOINT", server.url)
        monkeypatch.setattr(datasets.config, "HF_CACHE_HOME", str(tmp_path / "hf"))
        server.add("org/numbers", {"train.jsonl": rows("1"), "README.md": b"# Numbers"}, ref="v1")
        yield server


def refusal(path: str) -> str:
    with pytest.raises(DataError) as refused:
        open_source(SourceEntry(source="hf", path=path))
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_a_revision_is_read_and_stays_while_the_branch_moves(hub: Hub) -> None:
    commit = hub.add("org/numbers", {"train.jsonl": rows("2")})
    newest = open_source(SourceEntry(source="hf", path="org/numbers"))
    first = open_source(SourceEntry(source="hf", path="org/numbers@v1"))
    hub.add("org/numbers", {"train.jsonl": rows("3")})
    assert {record.turns[0].answer for record in newest.records()} == {"2"}
    assert {record.turns[0].answer for record in first.records()} == {"1"}
    assert newest.home == f"https://huggingface.co/datasets/org/numbers/tree/{commit}"


def test_a_sample_is_drawn(hub: Hub, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("sources:\n  - {source: hf, path: org/numbers@v1, count: 3}\n")
    report = sample(recipe, tmp_path / "out", lambda *_: None)
    assert report["drawn"] == 3


def test_an_unfinished_sample_is_not_resumed_with_other_rows(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("sources:\n  - {source: hf, path: org/numbers@v1, count: 3}\n")

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("llava_cot.data.sampling.sample._write", stop)
        with pytest.raises(KeyboardInterrupt):
            sample(recipe, tmp_path / "out", lambda *_: None)
    hub.add("org/numbers", {"train.jsonl": rows("2")}, ref="v1")
    with pytest.raises(DataError, match="data sets that changed on the Hub"):
        sample(recipe, tmp_path / "out", lambda *_: None)


def test_what_is_not_there_takes_a_sentence(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    message = refusal("org/misspelt")
    assert message.startswith("there is no folder org/misspelt, and no data set of that name on the hub")
    assert "has no revision v9" in refusal("org/numbers@v9")
    hub.down = True
    assert "answered 503" in refusal("org/numbers")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "hf download --repo-type dataset org/numbers --local-dir FOLDER" in refusal("org/numbers")


def test_a_private_set_needs_the_token(hub: Hub) -> None:
    hub.repos["org/numbers"].private = True
    assert "hf auth login" in refusal("org/numbers@v1")
    Path(constants.HF_TOKEN_PATH).parent.mkdir(parents=True, exist_ok=True)
    Path(constants.HF_TOKEN_PATH).write_text(TOKEN)
    assert len(list(open_source(SourceEntry(source="hf", path="org/numbers@v1")).records())) == 5
