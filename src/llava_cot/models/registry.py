"""Opening a model by its name, its folder or its address.

Imports no torch before a model is opened.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from llava_cot.core.plugins import Registry
from llava_cot.errors import ModelError
from llava_cot.models.base import Model

if TYPE_CHECKING:
    from llava_cot.models.endpoint.balancing import BalancedModel
    from llava_cot.models.endpoint.client import EndpointModel
    from llava_cot.models.local.model import LocalModel
    from llava_cot.models.vllm import VllmModel
from llava_cot.models.endpoint.config import find_providers, load_config

if TYPE_CHECKING:
    from llava_cot.models.endpoint.reward_endpoint import EndpointReward
    from llava_cot.models.local.reward_local import LocalReward

# The models in the package, by name. research/mini tells how they are made.
BUILT_IN = {"mini": Path(__file__).resolve().parent / "mini"}
MINI = BUILT_IN["mini"]
_BY_VLLM = "vllm:"


class OpenedModel(Model, Protocol):
    """A model as `open_model` returns it."""

    def close(self) -> None:
        """Free what the model holds. Calls after this one fail."""


_OWN_KINDS = ("http", "https", "vllm")
# Other packages add kinds of models: KIND:NAME is opened by the entry KIND, which gets NAME and the options
# of `open_model`, and raises ModelError.
MODELS: Registry[Callable[..., OpenedModel]] = Registry("llava_cot.models", "kind of model")


def open_model(
    spec: str | Path,
    *,
    model_name: str | None = None,
    device: str = "auto",
    dtype: str = "auto",
    cache_mb: int = 2048,
    max_batch: int = 256,
    double_bos: bool = False,
    share: bool = True,
    in_flight: int | None = None,
) -> OpenedModel:
    """Open "mini", a model in the package, a checkpoint's folder, or a server's model. Raises ModelError.

    "vllm:FOLDER" has the checkpoint run by vLLM, in this process. "KIND:NAME" is for the kinds of models
    that other packages add (`MODELS`).

    A server is an address, such as "http://localhost:8000/v1", or a name in the user's endpoints.yaml (a
    folder of that name goes first); `model_name` is needed where it has several models, and `in_flight` is
    the most requests at once where endpoints.yaml does not say. Several, with commas between them, share the
    calls; they must have the same model. All else is for models on this machine.

    `device` is "cpu", "cuda", "cuda:1", "mps" or "auto" (the best there is). `dtype` is "float32",
    "bfloat16", "float16" or "auto" (float32 on a CPU, else the checkpoint's). `cache_mb` bounds the
    memory of all caches, in MiB, or what vLLM has for keys and values; `max_batch` the samples that are
    decoded together. `double_bos` begins prompts with the token for the beginning of text twice, as the
    published LLaVA-CoT code does. Without `share`, nothing is cached or batched: each sample is computed
    by itself, from nothing.
    """
    options: dict[str, Any] = {
        "device": device,
        "dtype": dtype,
        "cache_mb": cache_mb,
        "max_batch": max_batch,
        "double_bos": double_bos,
        "share": share,
    }
    kind, colon, name = spec.partition(":") if isinstance(spec, str) else ("", "", "")
    if colon and kind not in _OWN_KINDS and kind in MODELS:
        return MODELS[kind](name, model_name=model_name, in_flight=in_flight, **options)
    by_vllm = isinstance(spec, str) and spec.startswith(_BY_VLLM)
    if not by_vllm and (server := _server(str(spec), model_name, in_flight=in_flight)) is not None:
        return server
    if model_name is not None:
        raise ModelError(f"a model name is for servers, and {spec} is none; leave --model-name out")
    make: Callable[..., LocalModel | VllmModel]
    if by_vllm:
        from llava_cot.models.vllm import VllmModel

        make = VllmModel
        folder = Path(str(spec).removeprefix(_BY_VLLM)).expanduser()
    else:
        folder = BUILT_IN.get(str(spec)) or Path(spec).expanduser()
        if str(spec) in BUILT_IN and not (folder / "config.json").is_file():
            raise ModelError(f"the built-in model {spec} is missing here; install the package again")
        from llava_cot.models.local.model import LocalModel

        make = LocalModel
    return make(folder, **options)


def open_endpoint(
    spec: str, model_name: str | None = None, *, fresh: bool = False
) -> EndpointModel | BalancedModel:
    """Open a server's model. With `fresh`, what the server can do is found out anew. Raises ModelError."""
    found = _server(spec, model_name, fresh)
    if found is None:
        raise ModelError(f"{spec} is neither an address nor the name of a server in your endpoints.yaml")
    return found


def _server(
    spec: str, model_name: str | None, fresh: bool = False, in_flight: int | None = None
) -> EndpointModel | BalancedModel | None:
    address = spec.startswith(("http://", "https://"))
    if not address and (spec in BUILT_IN or Path(spec).expanduser().is_dir()):
        return None
    from llava_cot.models.endpoint.config import find_providers, load_config

    config = load_config()
    providers = find_providers(spec, config)
    if not providers:
        return None
    if in_flight is not None:
        providers = [
            provider
            if "in_flight" in provider.model_fields_set
            else provider.model_copy(update={"in_flight": in_flight})
            for provider in providers
        ]
    if len(providers) == 1:
        from llava_cot.models.endpoint.client import EndpointModel

        return EndpointModel(providers[0], model_name, config.prices, fresh=fresh)
    from llava_cot.models.endpoint.balancing import BalancedModel

    return BalancedModel(providers, model_name, config.prices, fresh=fresh)


def open_reward(
    spec: str | Path, *, model_name: str | None = None, device: str = "auto", dtype: str = "auto"
) -> LocalReward | EndpointReward:
    """Open the folder of a sequence-classification checkpoint with one label, or a server's reward model.

    A server is an address or a name in the user's endpoints.yaml, as for `open_model`; an address that ends
    in /classify, /pooling or /score says which of these is asked. `device` and `dtype` are for folders, as
    for `open_model`. Raises ModelError.
    """
    folder = Path(spec).expanduser()
    config = load_config()
    providers = [] if folder.is_dir() else find_providers(str(spec), config)
    if len(providers) > 1:
        raise ModelError(f"{spec} is several servers; give one for the reward model")
    if providers:
        from llava_cot.models.endpoint.reward_endpoint import EndpointReward

        return EndpointReward(providers[0], model_name, config.prices)
    if model_name is not None:
        raise ModelError(f"a model name is for servers, and {spec} is none; leave it out")
    if not folder.is_dir():
        raise ModelError(f"there is no folder {spec}; give a reward model's folder, or a server's address")
    from llava_cot.models.local.reward_local import LocalReward

    return LocalReward(folder, device=device, dtype=dtype)
