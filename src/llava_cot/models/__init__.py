"""Opening a model by its name, its folder or its address.

Imports no torch before a model is opened.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from llava_cot.models.base import ModelError

if TYPE_CHECKING:
    from llava_cot.models.local import LocalModel

MINI = Path(__file__).resolve().parent.parent / "mini"


def open_model(
    spec: str | Path,
    *,
    device: str = "auto",
    dtype: str = "auto",
    cache_mb: int = 2048,
    max_batch: int = 256,
    double_bos: bool = False,
    share: bool = True,
) -> LocalModel:
    """Open "mini", the model in the package, or the checkpoint in a folder. Raises ModelError.

    `device` is "cpu", "cuda", "cuda:1", "mps" or "auto" (the best there is). `dtype` is "float32",
    "bfloat16", "float16" or "auto" (float32 on a CPU, else the checkpoint's). `cache_mb` bounds the
    memory of all caches, in MiB; `max_batch` the samples that are decoded together. `double_bos` begins
    prompts with the token for the beginning of text twice, as the published LLaVA-CoT code does. Without
    `share`, nothing is cached or batched: each sample is computed by itself, from nothing.
    """
    if str(spec).startswith(("http://", "https://")):
        raise ModelError(f"{spec} is an address, and endpoints are not supported yet; give a folder or mini")
    folder = MINI if spec == "mini" else Path(spec).expanduser()
    if spec == "mini" and not (folder / "config.json").is_file():
        raise ModelError("the built-in model mini is missing here; install the package again")
    from llava_cot.models.local import LocalModel

    return LocalModel(
        folder,
        name="mini" if spec == "mini" else folder.resolve().name,
        device=device,
        dtype=dtype,
        cache_mb=cache_mb,
        max_batch=max_batch,
        double_bos=double_bos,
        share=share,
    )
