"""Benchmarks' files from the web, with a server on this machine in the place of VLMEvalKit's."""

from __future__ import annotations

import hashlib
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub.file_download
import pytest
from hub_double import Hub, running_hub, use_hub
from huggingface_hub import constants

from llava_cot.errors import DataError
from llava_cot.evaluation.benchmarks import fetching, open_benchmark
from llava_cot.evaluation.benchmarks.vlmevalkit import benchmark_file

TABLE = (Path(__file__).parents[1] / "fixtures/eval/LMUData/MMStar.tsv").read_bytes()


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with running_hub() as hub:
        use_hub(hub, tmp_path / "hf", monkeypatch)
        hub.add("org/files", {"MMStar.tsv": TABLE})
        for name in fetching.URLS:
            monkeypatch.setitem(fetching.URLS, name, f"{hub.url}/org/files/resolve/main/{name}")
        monkeypatch.setitem(fetching._MD5, "MMStar.tsv", hashlib.md5(TABLE).hexdigest())
        monkeypatch.setattr(huggingface_hub.file_download.time, "sleep", lambda seconds: None)
        monkeypatch.setenv("LMUData", str(tmp_path / "LMUData"))
        yield hub


def refusal(name: str = "mmstar", **settings: bool) -> str:
    with pytest.raises(DataError) as refused:
        open_benchmark(name, **settings)  # type: ignore[arg-type]
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_every_file_has_an_address_and_a_checksum() -> None:
    assert fetching.URLS.keys() == fetching._MD5.keys()
    assert all(url.startswith("https://") for url in fetching.URLS.values())


def test_a_missing_file_is_downloaded_once(
    server: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "LMUData"
    first = list(open_benchmark("mmstar", download=True).items())
    assert f"to {folder}: " in capsys.readouterr().err
    assert [path.name for path in folder.iterdir()] == ["MMStar.tsv"]
    assert (folder / "MMStar.tsv").read_bytes() == TABLE
    assert [item.id for item in open_benchmark("mmstar").items()] == [item.id for item in first]
    assert server.asked_for("MMStar.tsv") == 1


def test_a_file_by_the_benchmarks_name(server: Hub, tmp_path: Path) -> None:
    assert benchmark_file("mmstar") == tmp_path / "LMUData/MMStar.tsv"
    assert benchmark_file("some/file.tsv") == Path("some/file.tsv")


def test_offline(server: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "download http" in refusal()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "download http" in refusal(download=True)
    assert not server.requests


def test_a_download_that_breaks_is_resumed(
    server: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 64)
    server.breaks["MMStar.tsv"] = 100
    assert "run the same command again to continue it" in refusal(download=True)
    there = (tmp_path / "LMUData/MMStar.tsv.part").stat().st_size
    assert 0 < there < len(TABLE)
    server.breaks.clear()
    server.ranges.clear()
    open_benchmark("mmstar", download=True)
    assert server.ranges == [f"bytes={there}-"]
    assert (tmp_path / "LMUData/MMStar.tsv").read_bytes() == TABLE


def test_a_wrong_checksum(server: Hub, tmp_path: Path) -> None:
    server.damaged.add("MMStar.tsv")
    assert "another checksum" in refusal(download=True)
    assert not list((tmp_path / "LMUData").iterdir())
    server.damaged.clear()
    open_benchmark("mmstar", download=True)


def test_what_is_not_there(server: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "the server answered 404" in refusal("ai2d", download=True)
    assert "no MMStar.tsv in" in str(refused_root(tmp_path / "misspelt"))
    monkeypatch.setitem(fetching.URLS, "MMStar.tsv", "http://127.0.0.1:9/MMStar.tsv")
    assert "failed; run the same command again" in refusal(download=True)


def refused_root(root: Path) -> DataError:
    with pytest.raises(DataError) as refused:
        open_benchmark("mmstar", root, download=True)
    assert not root.exists()
    return refused.value


def test_too_little_disk(server: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage(10, 9, 1))
    assert "needs 0.0 MB" in refusal(download=True)
