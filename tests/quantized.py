"""Tiny checkpoints whose weights are quantized, or in several files."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import tiny
import torch
from safetensors.torch import load_file, save_file
from sweep.parts import widen
from transformers import LlavaConfig, LlavaForConditionalGeneration

from llava_cot.models.local.checkpoint import load_checkpoint


def wide_llava(folder: Path) -> Path:
    """A LLaVA whose matrices are as wide as a block of bitsandbytes, in several files of weights."""
    narrow = load_checkpoint(tiny.make("llava", folder / "narrow"), "cpu", "float32")
    config = LlavaConfig.from_pretrained(folder / "narrow")
    for part in (config.text_config, config.vision_config):
        part.hidden_size, part.intermediate_size = 64, 128
    config.text_config.head_dim = 16
    torch.manual_seed(0)
    network: Any = LlavaForConditionalGeneration(config)
    widen(network)
    network.save_pretrained(folder, max_shard_size="300KB")
    narrow.processor.save_pretrained(folder)
    return folder


def fp8(base: Path, folder: Path) -> Path:
    """A checkpoint with its weights of text in 8-bit floating point, with a scale for each block."""
    shutil.copytree(base, folder)
    weights: dict[str, torch.Tensor] = {}
    for file in folder.glob("model*.safetensors"):
        weights |= load_file(file)
        file.unlink()
    (folder / "model.safetensors.index.json").unlink()
    for name, weight in list(weights.items()):
        if name.endswith("proj.weight") and "vision" not in name:
            scale = weight.abs().max() / torch.finfo(torch.float8_e4m3fn).max
            weights[name] = (weight / scale).to(torch.float8_e4m3fn)
            blocks = [-(-side // 64) for side in weight.shape]
            weights[f"{name}_scale_inv"] = scale.expand(blocks).contiguous()
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    raw = json.loads((folder / "config.json").read_text())
    raw["quantization_config"] = {
        "quant_method": "fp8",
        "activation_scheme": "dynamic",
        "weight_block_size": [64, 64],
        "modules_to_not_convert": ["vision_tower", "multi_modal_projector", "lm_head"],
    }
    (folder / "config.json").write_text(json.dumps(raw))
    return folder


def compressed(base: Path, folder: Path) -> Path:
    """A checkpoint with its weights of text in 8 bits, by compressed-tensors."""
    from compressed_tensors.compressors import ModelCompressor
    from compressed_tensors.quantization import (
        QuantizationConfig,
        QuantizationStatus,
        apply_quantization_config,
    )

    made = load_checkpoint(base, "cpu", "float32")
    weights = {"num_bits": 8, "type": "int", "symmetric": True, "strategy": "channel"}
    ignored = ["re:.*lm_head", "re:.*vision.*"]
    config = QuantizationConfig(
        config_groups={"group_0": {"targets": ["Linear"], "weights": weights}},
        ignore=ignored,
        format="pack-quantized",
        quantization_status=QuantizationStatus.FROZEN,
    )
    apply_quantization_config(made.model, config)
    for module in made.model.modules():
        if hasattr(module, "weight_scale"):
            module.weight_scale.data = module.weight.abs().amax(1, keepdim=True) / 127
    compressor = ModelCompressor.from_pretrained_model(made.model)
    compressor.compress_model(made.model)
    made.model.save_pretrained(folder)
    compressor.update_config(folder)
    raw = json.loads((folder / "config.json").read_text())
    raw["quantization_config"]["ignore"] = ignored  # it has the names of another version of the network
    (folder / "config.json").write_text(json.dumps(raw))
    made.processor.save_pretrained(folder)
    return folder
