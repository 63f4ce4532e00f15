"""What a checkpoint runs on, as options of commands. `open_model` and `open_reward` take the same by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

DeviceMap = Literal["auto", "balanced", "balanced_low_0", "sequential"]
Quantize = Literal["4bit", "8bit"]
Attention = Literal["sdpa", "flash_attention_2", "eager"]


class HardwareOptions(BaseModel):
    """The device, the numbers and the memory of local models."""

    model_config = ConfigDict(extra="forbid")

    device: str = Field("auto", description="auto, cpu, or an accelerator of torch: cuda, cuda:1, mps, xpu.")
    dtype: str = Field("auto", description="auto, float32, bfloat16 or float16.")
    device_map: DeviceMap | None = Field(
        None, description="Divide the model among all GPUs, the CPU's memory and the disk, by accelerate."
    )
    quantize: Quantize | None = Field(
        None, description="Quantize the weights while they are loaded, by bitsandbytes."
    )
    attn: Attention | None = Field(
        None, description="How attention is computed; flash_attention_2 is for the image encoder alone."
    )
    cache_mb: str = Field(
        "auto",
        description="The most memory, in MiB, for all caches together; auto takes a part of what is free.",
    )

    def given(self) -> dict[str, Any]:
        """The options that are not left to their defaults, for `open_model`."""
        return self.model_dump(exclude_defaults=True)


def for_rewards(options: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the options of `open_model` that `open_reward` takes."""
    return {
        name: value
        for name, value in options.items()
        if name in HardwareOptions.model_fields and name != "cache_mb"
    }
