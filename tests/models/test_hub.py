"""Models by their names on the hub: the real client of huggingface_hub against a hub on this machine."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
from collections import namedtuple
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from itertools import chain
from pathlib import Path

import huggingface_hub.file_download
import pytest
from command import environment
from hub_double import TOKEN, Hub, running_hub, use_hub
from huggingface_hub import constants
from opening import Tiny
from serving import until

from llava_cot.core.wording import PrintableStream
from llava_cot.errors import ModelError
from llava_cot.models import hub as module
from llava_cot.models.hub import HubName, fetch, hub_name
from llava_cot.models.registry import find_checkpoint, open_model, open_reward, parse_model
from llava_cot.search.resources import absolute
from llava_cot.server.api import listen

WEIGHTS = bytes(range(256)) * 40
FILES = {
    "config.json": b'{"model_type": "llava"}',
    "tokenizer.json": b"{}",
    "tokenizer_config.json": b"{}",
    "chat_template.jinja": b"hello",
    "model.safetensors": WEIGHTS,
}
OTHERS = {
    "README.md": b"# hello",
    "pytorch_model.bin": b"pickle",
    "modeling.py": b"raise SystemExit",
    "optimizer.pt": b"pickle",
    "original/model.safetensors": WEIGHTS + b"2",
    "consolidated.safetensors": WEIGHTS + b"3",
    "../escape.json": b"{}",
}


@pytest.fixture(scope="module")
def server() -> Iterator[Hub]:
    with running_hub() as hub:
        yield hub


@pytest.fixture
def hub(server: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    server.__dict__.update(Hub(server.url).__dict__)
    use_hub(server, tmp_path / "hf", monkeypatch)
    monkeypatch.setattr(huggingface_hub.file_download.time, "sleep", lambda seconds: None)
    monkeypatch.chdir(tmp_path)
    return server


def refused(name: str) -> str:
    found = hub_name(name)
    assert found is not None
    with pytest.raises(ModelError) as error:
        fetch(found)
    assert "\n" not in str(error.value) and TOKEN not in str(error.value)
    return str(error.value)


def log_in(token: str = TOKEN) -> None:
    Path(constants.HF_TOKEN_PATH).parent.mkdir(parents=True, exist_ok=True)
    Path(constants.HF_TOKEN_PATH).write_text(token)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("org/name", HubName("org/name")),
        ("Qwen/Qwen3-VL-8B_x.1@refs/pr/4", HubName("Qwen/Qwen3-VL-8B_x.1", "refs/pr/4")),
        ("org/name@main", HubName("org/name", "main")),
    ],
)
def test_names(text: str, name: HubName) -> None:
    assert hub_name(text) == name and str(name) == text


@pytest.mark.parametrize(
    "text",
    [
        "mini",
        "a/b/c",
        "./a/b",
        "../a",
        "~/a",
        "/a/b",
        "a/..",
        "a/b@../../x",
        "a--b/c",
        "a/b@",
        "@a/b",
        "a/b@-x",
        "a/" + "b" * 200,
        "a/b\n",
        "http://a/b",
        "a:1/b",
        "é/b",
        "a/b c",
    ],
)
def test_names_of_folders(text: str) -> None:
    assert hub_name(text) is None


def test_a_folder_comes_first(hub: Hub, tmp_path: Path) -> None:
    assert parse_model("org/name").kind == "hub"
    (tmp_path / "org/name").mkdir(parents=True)
    assert parse_model("org/name").kind == "folder"
    assert parse_model("./org/other").kind == "folder"
    assert parse_model(Path("org/other")).kind == "folder"
    assert find_checkpoint("org/name").name == "name"
    assert not hub.requests


def test_safetensors_and_configuration_alone(hub: Hub, capsys: pytest.CaptureFixture[str]) -> None:
    commit = hub.add("org/name", FILES | OTHERS)
    folder = fetch(HubName("org/name"))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == FILES
    assert folder.is_relative_to(constants.HF_HUB_CACHE)
    told = capsys.readouterr().err
    size = sum(map(len, FILES.values())) / 1e6
    assert f"downloading org/name ({commit[:7]}): 5 files, {size:.1f} MB\n" in told
    # Warm: one request, and nothing is said.
    hub.requests.clear()
    assert fetch(HubName("org/name")) == folder
    assert hub.requests == ["GET /api/models/org/name"]
    assert capsys.readouterr().err == ""


def test_weights_in_parts(hub: Hub) -> None:
    names = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    index = json.dumps({"weight_map": {"a": names[0], "b": names[1]}}).encode()
    parts = {name: WEIGHTS + name.encode() for name in names}
    files = {"config.json": b"{}", "model.safetensors.index.json": index, **parts}
    hub.add("org/name", files | {"consolidated.safetensors": WEIGHTS})
    folder = fetch(HubName("org/name"))
    assert {path.name for path in folder.iterdir()} == set(files)
    hub.add("org/less", {name: data for name, data in files.items() if name != names[1]})
    assert f"{names[1]} is missing" in refused("org/less")
    escaping = json.dumps({"weight_map": {"a": "../x.safetensors"}}).encode()
    hub.add("org/escaping", files | {"model.safetensors.index.json": escaping})
    assert "no file of weights" in refused("org/escaping")


def test_revisions(hub: Hub) -> None:
    first = hub.add("org/name", FILES, ref="v1")
    second = hub.add("org/name", FILES | {"tokenizer.json": b"[2]"})
    assert fetch(HubName("org/name")).name == second
    assert fetch(HubName("org/name", "v1")).name == first
    assert fetch(HubName("org/name", first)).name == first
    assert "org/name has no revision v2; http" in refused("org/name@v2")


def test_a_model_that_changes(hub: Hub, capsys: pytest.CaptureFixture[str]) -> None:
    hub.add("org/name", FILES)
    before = fetch(HubName("org/name"))
    hub.add("org/name", FILES | {"config.json": b'{"new": 1}'})
    hub.requests.clear()
    capsys.readouterr()
    after = fetch(HubName("org/name"))
    assert "1 file, 0.0 MB" in capsys.readouterr().err
    assert (before / "config.json").read_bytes() == FILES["config.json"]
    assert (after / "config.json").read_bytes() == b'{"new": 1}'
    assert hub.asked_for("model.safetensors") == 0  # it is the same


def test_an_evaluation_names_the_commit(hub: Hub) -> None:
    commit = hub.add("org/name", FILES)
    assert absolute("org/name") == absolute("org/name@main") == f"org/name@{commit}"
    assert absolute("vllm:org/name") == f"vllm:org/name@{commit}"


def test_a_model_that_changes_during_its_download(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    first = hub.add("org/name", FILES)
    asked = module.check_disk

    def change(*arguments: object) -> None:
        hub.add("org/name", FILES | {"config.json": b'{"new": 1}', "model.safetensors": WEIGHTS + b"new"})
        asked(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "check_disk", change)
    folder = fetch(HubName("org/name"))
    assert folder.name == first
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == FILES


def test_a_connection_that_breaks(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1024)
    hub.add("org/name", FILES)
    hub.breaks["model.safetensors"] = 2
    folder = fetch(HubName("org/name"))
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS
    assert [int(wanted[6:-1]) for wanted in hub.ranges] == [5 * 1024, 7 * 1024]


def test_a_download_that_is_given_up_and_resumed(hub: Hub) -> None:
    hub.add("org/name", FILES)
    hub.breaks["model.safetensors"] = 1000
    message = refused("org/name")
    assert message.startswith("the download of org/name broke off") and "run the same command" in message
    hub.breaks.clear()
    hub.requests.clear()
    assert (fetch(HubName("org/name")) / "model.safetensors").read_bytes() == WEIGHTS
    assert hub.asked_for("model.safetensors") == 1
    assert hub.asked_for("config.json") == hub.asked_for("tokenizer.json") == 0


@pytest.mark.parametrize("file", ["model.safetensors", "config.json"])
def test_a_wrong_checksum(hub: Hub, file: str) -> None:
    hub.add("org/name", FILES)
    hub.damaged.add(file)
    assert refused("org/name").startswith(f"{file} of org/name arrived with another checksum")
    hub.damaged.clear()
    hub.requests.clear()
    folder = fetch(HubName("org/name"))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == FILES
    assert hub.asked_for(file) == 1


def test_checksums_of_an_interrupted_download(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add("org/name", FILES)
    hub.damaged.add("config.json")
    sums = module._check_sums

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "_check_sums", stop)
    with pytest.raises(KeyboardInterrupt):
        fetch(HubName("org/name"))
    monkeypatch.setattr(module, "_check_sums", sums)
    assert "config.json of org/name arrived with another checksum" in refused("org/name")


def test_a_file_that_does_not_arrive(hub: Hub) -> None:
    commit = hub.add("org/name", FILES)
    fetch(HubName("org/name"))
    hub.repos["org/name"].commits[commit] = FILES | {"vocab.json": b"{}"}  # which no real hub does
    assert refused("org/name").startswith("vocab.json of org/name did not arrive; delete ")


def test_a_misspelt_folder(hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "out/my-model").mkdir(parents=True)
    (tmp_path / "out/weights.bin").write_text("")
    assert "; did you mean out/my-model? check the spelling" in refused("out/my-modle")
    hub.requests.clear()
    assert parse_model("out/weights.bin").kind == "folder"  # a file is no name on the hub
    assert not hub.requests


def test_no_such_model(hub: Hub) -> None:
    message = refused("org/misspelt")
    assert message.startswith("there is no folder org/misspelt, and no model of that name on the hub")
    assert message.endswith("hf auth login")
    log_in()
    assert "with another token" in refused("org/misspelt")  # 404 in place of 401


def test_private_and_gated_models(hub: Hub) -> None:
    hub.add("org/name", FILES)
    hub.repos["org/name"].private = True
    assert "no model of that name on the hub that you may see" in refused("org/name")
    log_in()
    fetch(HubName("org/name"))
    assert hub.tokens == {TOKEN}
    hub.add("org/gated", FILES)
    hub.repos["org/gated"].gated = True
    message = refused("org/gated")
    assert message.startswith(f"org/gated is gated: ask for access at {hub.url}/org/gated, then log in")


def test_a_wrong_token(hub: Hub) -> None:
    hub.add("org/name", FILES)
    log_in("hf_wrong")
    message = refused("org/name")
    assert message.startswith("the hub does not accept your token") and "hf_wrong" not in message


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"config.json": b"{}", "pytorch_model.bin": b"pickle"}, "in a pickle format (pytorch_model.bin)"),
        ({"model-Q4.gguf": b"gguf"}, "llama.cpp"),
        ({"README.md": b"hello"}, "no model.safetensors"),
    ],
)
def test_other_weights_are_refused_before_a_download(hub: Hub, files: dict[str, bytes], words: str) -> None:
    hub.add("org/name", files)
    assert words in refused("org/name")
    assert hub.requests == ["GET /api/models/org/name"]


def test_too_little_disk(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add("org/name", FILES)
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10, 9, 1000))
    message = refused("org/name")
    assert "needs 0.0 MB" in message and "HF_HOME" in message
    assert hub.requests == ["GET /api/models/org/name"]


def test_offline(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = hub.add("org/name", FILES)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    message = refused("org/name")
    assert "no folder org/name" in message and "unset it to download" in message
    assert not hub.requests
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    folder = fetch(HubName("org/name"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    hub.requests.clear()
    assert fetch(HubName("org/name")) == folder == fetch(HubName("org/name", commit))
    (folder / "model.safetensors").unlink()
    assert "incomplete in the cache: model.safetensors is missing" in refused("org/name")
    assert not hub.requests


def test_a_hub_that_is_down(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add("org/name", FILES)
    hub.down = True
    assert "answered 503" in refused("org/name")
    hub.down = False
    folder = fetch(HubName("org/name"))
    hub.down = True
    assert fetch(HubName("org/name")) == folder
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert fetch(HubName("org/name")) == folder
    assert "cannot be reached" in refused("org/other")


def test_a_link_that_leads_out_of_the_cache(hub: Hub, tmp_path: Path) -> None:
    hub.add("org/name", FILES)
    folder = fetch(HubName("org/name"))
    (tmp_path / "secret").write_text("{}")
    (folder / "config.json").unlink()
    (folder / "config.json").symlink_to(tmp_path / "secret")
    assert "leads out of the cache" in refused("org/name")


def test_a_hub_that_names_a_file_of_the_users(hub: Hub, tmp_path: Path) -> None:
    hub.add("org/name", FILES)
    (tmp_path / "precious").write_text("mine")
    hub.etag = "../../../../precious"  # where huggingface_hub keeps a file in its cache
    assert "leads out of the cache" in refused("org/name")
    assert (tmp_path / "precious").read_text() == "mine"


def test_a_server_that_is_no_hub(hub: Hub) -> None:
    commit = hub.add("org/name", FILES)
    hub.repos["org/name"].refs["main"] = "../../../x"
    hub.repos["org/name"].commits["../../../x"] = hub.repos["org/name"].commits.pop(commit)
    assert "is no hub" in refused("org/name")


def test_the_model_is_the_folders(hub: Hub, opened: Callable[[str], Tiny]) -> None:
    source = opened("llava").folder
    hub.add("org/tiny", source)
    for name in ("org/tiny", "org/tiny@main"):
        model = open_model(name, device="cpu")
        assert model.name == name
        model.close()
    with pytest.raises(ModelError, match=r"^org/tiny is no reward model but"):
        open_reward("org/tiny")


def test_a_run_folders_model_has_the_runs_name(tmp_path: Path, copy: Path) -> None:
    copy.rename(tmp_path / "model")
    assert find_checkpoint(tmp_path / "model").name == tmp_path.name


def test_progress_bars_are_for_terminals(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.add("org/name", FILES)
    hub.add("org/other", FILES | {"model.safetensors": WEIGHTS + b"2"})
    fetch(HubName("org/name"))
    assert capsys.readouterr().err.count("\n") == 1
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stderr", PrintableStream(sys.stderr))
    fetch(HubName("org/other"))
    shown = capsys.readouterr().err
    assert "\rFetching 5 files: 100%" in shown and "\N{REPLACEMENT CHARACTER}" not in shown


@pytest.mark.skipif(shutil.which("olah-cli") is None, reason="the mirror olah is not installed")
def test_through_a_mirror(hub: Hub, opened: Callable[[str], Tiny], tmp_path: Path) -> None:
    hub.add("org/name", opened("llava").folder)
    with closing(listen("127.0.0.1", 0)) as held:
        port = str(held.getsockname()[1])
    own, upstream = f"127.0.0.1:{port}", hub.url.removeprefix("http://")
    options = {
        "host": "127.0.0.1", "port": port, "hf-scheme": "http", "hf-netloc": upstream,
        "hf-lfs-netloc": upstream,
        "mirror-scheme": "http", "mirror-netloc": own, "mirror-lfs-netloc": own,
        "repos-path": str(tmp_path / "repos"), "log-path": str(tmp_path / "logs"),
    }  # fmt: skip
    command = ["olah-cli", *chain(*((f"--{name}", value) for name, value in options.items()))]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    through = {"HF_ENDPOINT": f"http://{own}", "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "0"}
    code = "import sys; from llava_cot import open_model; print(open_model(sys.argv[1], device='cpu').name)"
    with subprocess.Popen(command, cwd=tmp_path, **quiet) as mirror:  # type: ignore[call-overload]
        try:
            for _ in range(2):  # the second time, from the cache
                until(lambda: answers(int(port)), 60)
                run = [sys.executable, "-c", code, "org/name"]
                done = subprocess.run(
                    run, env=environment() | through, capture_output=True, text=True, check=False
                )
                assert done.stdout == "org/name\n", done.stderr
        finally:
            mirror.terminate()
    assert hub.asked_for("model.safetensors") == 1


def answers(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False
