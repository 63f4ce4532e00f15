"""What cannot be opened is refused in one sentence that says what to do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import LlavaProcessor

from llava_cot import open_model
from llava_cot.errors import ModelError
from llava_cot.models.local import checkpoint


def refusal(folder: str | Path, **settings: str) -> str:
    with pytest.raises(ModelError) as refused:
        open_model(folder, **settings)  # type: ignore[arg-type]
    sentence = str(refused.value)
    assert "\n" not in sentence
    assert sentence
    return sentence


def change(file: Path, **values: object) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def test_no_folder(tmp_path: Path) -> None:
    assert "there is no folder" in refusal(tmp_path / "nowhere")


def test_a_folder_that_is_no_checkpoint(tmp_path: Path) -> None:
    assert "no config.json" in refusal(tmp_path)


def test_a_name_for_a_model_that_is_no_server(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="leave --model-name out"):
        open_model(tmp_path, model_name="big")


def test_a_configuration_that_is_not_json(copy: Path) -> None:
    (copy / "config.json").write_text("{")
    assert "not JSON" in refusal(copy)


@pytest.mark.parametrize("name", ["tokenizer_config.json", "chat_template.jinja", "x/y.jinja"])
def test_a_file_that_is_none(copy: Path, name: str) -> None:
    """transformers would wait for what is written into a pipe."""
    (copy / name).parent.mkdir(exist_ok=True)
    (copy / name).unlink(missing_ok=True)
    os.mkfifo(copy / name)
    assert f"{name} is a device, a pipe or a socket" in refusal(copy)


def test_code_of_its_own(copy: Path) -> None:
    change(copy / "config.json", model_type="their_own", auto_map={"AutoConfig": "theirs.Config"})
    assert "code of its own" in refusal(copy)


def test_a_text_model(copy: Path) -> None:
    (copy / "config.json").write_text('{"model_type": "llama"}')
    assert "a model (llama) that" in refusal(copy)


def test_no_weights(copy: Path) -> None:
    (copy / "model.safetensors").unlink()
    assert "no weights" in refusal(copy)


def test_weights_in_a_pickle(copy: Path) -> None:
    (copy / "model.safetensors").rename(copy / "pytorch_model.bin")
    assert "safetensors" in refusal(copy)


def test_damaged_weights(copy: Path) -> None:
    whole = (copy / "model.safetensors").read_bytes()
    (copy / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    assert "cannot be loaded" in refusal(copy)


def test_weights_that_lack_a_part(copy: Path) -> None:
    weights = load_file(copy / "model.safetensors")
    weights.pop(next(name for name in weights if "lm_head" in name))
    save_file(weights, copy / "model.safetensors", {"format": "pt"})
    assert "incomplete" in refusal(copy)


def test_weights_of_another_size(copy: Path) -> None:
    weights = load_file(copy / "model.safetensors")
    name = next(name for name in weights if "lm_head" in name)
    save_file({**weights, name: torch.zeros(3, 4)}, copy / "model.safetensors", {"format": "pt"})
    assert "lm_head.weight has the shape [3, 4], and by the configuration [" in refusal(copy)


LIES: list[tuple[str, object, str]] = [
    ("config.json", {"rope_parameters": {"rope_type": "evil"}}, "rope_type is 'evil', which is not known"),
    ("config.json", {"hidden_act": "evil"}, "text_config.hidden_act is 'evil', which is not known"),
    (
        "config.json",
        {"rope_parameters": {"rope_type": "default", "rope_theta": "x"}},
        "no model that can be made",
    ),
    ("config.json", {"pad_token_id": 10**6}, "no model that can be made: Padding_idx must be within"),
    ("config.json", {"hidden_size": "8"}, "Field 'hidden_size' expected int, got str"),
    ("config.json", {"hidden_size": 7}, "The hidden size (7) is not a multiple"),
    ("config.json", {"hidden_size": -8}, "hidden_size is -8, which is less than 1"),
    ("config.json", {"max_position_embeddings": 0}, "max_position_embeddings is 0, which is less than 1"),
    ("config.json", {"layer_types": ["evil"]}, "The `layer_types` entries must be in"),
    ("config.json", {"vocab_size": 5}, "do not fit its config.json"),
    ("generation_config.json", [1], "it is not a JSON object"),
    ("generation_config.json", None, "it is not a JSON object"),
    ("generation_config.json", {"eos_token_id": [4, "x"]}, "eos_token_id is [4, 'x'], which is no number"),
    ("generation_config.json", {"cache_implementation": "evil"}, "Invalid `cache_implementation` (evil)"),
    ("tokenizer_config.json", [1], "it is not a JSON object"),
    ("tokenizer_config.json", {"model_max_length": "x"}, "model_max_length is 'x', which is no number"),
    ("tokenizer.json", "x", "it is not a JSON object"),
    ("special_tokens_map.json", [1], "it is not a JSON object"),
    ("processor_config.json", [1], "it is not a JSON object"),
]


@pytest.mark.parametrize(("name", "lie", "words"), LIES)
def test_the_file_that_lies_is_named(copy: Path, name: str, lie: object, words: str) -> None:
    if name == "config.json" and isinstance(lie, dict):
        config = json.loads((copy / name).read_text())
        lie = config | {"text_config": config["text_config"] | lie}
    (copy / name).write_text(json.dumps(lie))
    message = refusal(copy)
    assert words in message and name in message
    assert "download" not in message and "add the files" not in message


def test_a_missing_shard(copy: Path) -> None:
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors"}}
    (copy / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "model-00001-of-00002.safetensors is missing" in refusal(copy)


def test_a_damaged_index(copy: Path) -> None:
    (copy / "model.safetensors.index.json").write_text("[]")
    assert "damaged" in refusal(copy)


def test_no_processor(copy: Path) -> None:
    (copy / "processor_config.json").unlink()
    message = refusal(copy)
    assert "no processor" in message and message.endswith("; add the files of the original checkpoint")
    assert ". " not in message


def test_no_tokenizer(copy: Path) -> None:
    (copy / "tokenizer.json").unlink()
    assert "no processor" in refusal(copy)


@pytest.mark.parametrize(
    ("error", "package"),
    [
        (ModuleNotFoundError("No module named 'cv2'", name="cv2"), "opencv-python"),
        (ModuleNotFoundError("No module named 'timm.layers'", name="timm.layers"), "timm"),
        (
            ImportError("\nX requires the Torchvision library but it was not found in your environment. See"),
            "torchvision",
        ),
        (ImportError("Y requires the PyAv library but it was not found.\n`pip install av`"), "av"),
        (
            ImportError("Package `num2words` is required. Install it with `pip install num2words`."),
            "num2words",
        ),
        (ImportError("cannot use it", name="mamba_ssm"), "mamba-ssm"),
        (
            ValueError("Could not load any class for x. Missing optional dependencies: torchvision. Please"),
            "torchvision",
        ),
    ],
)
@pytest.mark.parametrize("loader", ["AutoProcessor", "AutoModelForImageTextToText", "AutoConfig"])
def test_a_missing_library_is_named(
    copy: Path, monkeypatch: pytest.MonkeyPatch, loader: str, error: Exception, package: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(getattr(checkpoint, loader), "from_pretrained", fail)
    if loader == "AutoProcessor":
        monkeypatch.setattr(LlavaProcessor, "from_pretrained", fail)
    extras = ("num2words", "opencv-python", "timm", "torchvision")
    install = "-c constraints.txt -e '.[vision-extras]'" if package in extras else package
    where = "in the clone, " if package in extras else ""
    assert (
        refusal(copy) == f"{copy} needs {package}, which is not installed; {where}run: pip install {install}"
    )


def test_a_tokenizer_without_its_files_needs_no_library(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ValueError("Couldn't make it. You need to have sentencepiece or tiktoken installed to convert.")

    monkeypatch.setattr(checkpoint.AutoProcessor, "from_pretrained", fail)
    monkeypatch.setattr(LlavaProcessor, "from_pretrained", fail)
    assert "no processor" in refusal(copy)
    (copy / "tokenizer.model").write_bytes(b"")
    assert "needs sentencepiece" in refusal(copy)


def test_no_chat_template(copy: Path) -> None:
    (copy / "chat_template.jinja").unlink()
    assert "no chat template" in refusal(copy)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has the device")
def test_a_device_that_is_not_there(copy: Path) -> None:
    assert "no device 'cuda'" in refusal(copy, device="cuda")


@pytest.mark.parametrize(("name", "value"), [("device", "abacus"), ("dtype", "float3")])
def test_a_setting_that_is_none(copy: Path, name: str, value: str) -> None:
    assert value in refusal(copy, **{name: value})


async def test_the_dtype_is_as_given(copy: Path) -> None:
    model = open_model(copy, dtype="bfloat16")
    assert model._engine._network.dtype == torch.bfloat16
    model.close()


def test_importing_models_imports_no_torch() -> None:
    code = "import sys, llava_cot.models.registry; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("name", ["../x.safetensors", "/etc/passwd", "a/b.safetensors", "model.bin", 5, None])
def test_an_index_that_names_other_files(copy: Path, name: object) -> None:
    (copy / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": name}}))
    assert "which is no file of weights in its folder" in refusal(copy)
