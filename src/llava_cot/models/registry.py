"""Opening a model or a reward model by its name. Nothing here imports torch before a model is opened."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from llava_cot.core.files import home_path
from llava_cot.core.heavy_imports import heavy_imports
from llava_cot.core.plugins import Registry
from llava_cot.errors import ModelError
from llava_cot.models.base import Model, RewardModel
from llava_cot.models.endpoint.config import Provider, find_providers, load_config

if TYPE_CHECKING:
    from llava_cot.models.endpoint.balancing import BalancedModel
    from llava_cot.models.endpoint.client import EndpointModel

# The models in the package, by name. research/mini tells how they are made.
BUILT_IN = {"mini": Path(__file__).resolve().parent / "mini"}
MINI = BUILT_IN["mini"]
_OWN_KINDS = ("http", "https", "vllm")


class OpenedModel(Model, Protocol):
    """A model as `open_model` returns it."""

    def close(self) -> None:
        """Free what the model holds. Calls after this one fail."""


class OpenedReward(RewardModel, Protocol):
    """A reward model as `open_reward` returns it."""

    def close(self) -> None:
        """Free what the model holds. Calls after this one fail."""


# Other packages add kinds of models: KIND or KIND:REST is opened by the entry KIND, a function that takes
# REST (or "") and the options of `open_model` by name, returns an `OpenedModel`, and raises ModelError.
MODELS: Registry[Callable[..., OpenedModel]] = Registry("llava_cot.models", "kind of model")


@dataclass(frozen=True)
class ModelName:
    """What a model's name stands for."""

    kind: Literal["built-in", "plugin", "vllm", "folder", "server"]
    rest: str  # the folder, or what follows the colon
    plugin: str = ""  # the name of an entry of `MODELS`
    servers: tuple[Provider, ...] = ()


def parse_model(spec: str | Path) -> ModelName:
    """Find out what a model's name stands for: the first kind of `ModelName` that it fits, in that order.

    A name that fits none is taken for a folder, which does not exist. A `Path` is always a folder. Raises
    ModelError if a server's address or its configuration is wrong.
    """
    if isinstance(spec, Path):
        return ModelName("folder", str(spec))
    kind, _, rest = spec.partition(":")
    if spec in BUILT_IN:
        return ModelName("built-in", spec)
    if kind not in _OWN_KINDS and kind in MODELS:
        return ModelName("plugin", rest, plugin=kind)
    if kind == "vllm":
        return ModelName("vllm", rest)
    if kind not in _OWN_KINDS and home_path(spec, ModelError).is_dir():
        return ModelName("folder", spec)
    servers = tuple(find_providers(spec, load_config()))
    return ModelName("server", spec, servers=servers) if servers else ModelName("folder", spec)


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
    """Open a model.

    Args:
        spec: "mini", the model in the package; "KIND" or "KIND:REST" for the kinds that other packages add;
            "vllm:FOLDER" for a checkpoint that vLLM runs in this process; a checkpoint's folder; a server's
            address, such as "http://localhost:8000/v1", or its name in the user's endpoints.yaml. Several
            servers, with commas between them, share the calls; they must have the same model.
        model_name: The model's name, where a server has several.
        device: "cpu", "cuda", "cuda:1", "mps" or "auto" (the best available).
        dtype: "float32", "bfloat16", "float16" or "auto" (float32 on a CPU, else the checkpoint's).
        cache_mb: Memory of all caches in MiB; for vLLM, of keys and values.
        max_batch: Most samples that are decoded together.
        double_bos: Begin prompts with the token for the beginning of text twice, as the published LLaVA-CoT
            code does.
        share: Without it, nothing is cached or batched: each sample is computed by itself from nothing.
        in_flight: Most requests at once to a server, unless endpoints.yaml sets that.

    Raises:
        ModelError: The model cannot be opened.
    """
    name = parse_model(spec)
    options: dict[str, Any] = {
        "device": device,
        "dtype": dtype,
        "cache_mb": cache_mb,
        "max_batch": max_batch,
        "double_bos": double_bos,
        "share": share,
    }
    if name.kind == "plugin":
        return MODELS[name.plugin](name.rest, model_name=model_name, in_flight=in_flight, **options)
    if name.kind == "server":
        return _open_servers(name.servers, model_name, in_flight)
    if model_name is not None:
        raise ModelError(f"a model name is for servers, and {spec} is none; leave --model-name out")
    if name.kind == "vllm":
        with heavy_imports():
            from llava_cot.models.vllm import VllmModel

        return VllmModel(home_path(name.rest, ModelError), **options)
    folder = BUILT_IN[name.rest] if name.kind == "built-in" else home_path(name.rest, ModelError)
    if name.kind == "built-in" and not (folder / "config.json").is_file():
        raise ModelError(f"the built-in model {spec} is missing here; install the package again")
    with heavy_imports():
        from llava_cot.models.local.model import LocalModel

    opened = LocalModel(folder, **options)
    opened.domain = "scenes" if folder.resolve() == MINI.resolve() else None
    return opened


def open_endpoint(
    spec: str, model_name: str | None = None, *, fresh: bool = False
) -> EndpointModel | BalancedModel:
    """Open a server's model. With `fresh`, find out again what the server can do. Raises ModelError."""
    name = parse_model(spec)
    if name.kind != "server":
        raise ModelError(f"{spec} is neither an address nor the name of a server in your endpoints.yaml")
    return _open_servers(name.servers, model_name, fresh=fresh)


def _open_servers(
    servers: tuple[Provider, ...], model_name: str | None, in_flight: int | None = None, fresh: bool = False
) -> EndpointModel | BalancedModel:
    if in_flight is not None:
        limit = {"in_flight": in_flight}
        servers = tuple(
            one if "in_flight" in one.model_fields_set else one.model_copy(update=limit) for one in servers
        )
    prices = load_config().prices
    if len(servers) == 1:
        from llava_cot.models.endpoint.client import EndpointModel

        return EndpointModel(servers[0], model_name, prices, fresh=fresh)
    from llava_cot.models.endpoint.balancing import BalancedModel

    return BalancedModel(servers, model_name, prices, fresh=fresh)


def open_reward(
    spec: str | Path, *, model_name: str | None = None, device: str = "auto", dtype: str = "auto"
) -> OpenedReward:
    """Open a reward model.

    Args:
        spec: The folder of a sequence-classification checkpoint with one label, a model of another package
            that has `reward`, or a server as for `open_model`. An address that ends in /classify, /pooling or
            /score uses that path.
        model_name, device, dtype: As for `open_model`; the last two are for folders.

    Raises:
        ModelError: The model cannot be opened, or is no reward model.
    """
    name = parse_model(spec)
    if name.kind == "plugin":
        opened = open_model(spec, model_name=model_name, device=device, dtype=dtype)
        if isinstance(opened, RewardModel):
            return opened
        opened.close()
        raise ModelError(f"{spec} gives no rewards; name a reward model")
    if len(name.servers) > 1:
        raise ModelError(f"{spec} is several servers; give one for the reward model")
    if name.servers:
        from llava_cot.models.endpoint.reward_endpoint import EndpointReward

        return EndpointReward(name.servers[0], model_name, load_config().prices)
    if model_name is not None:
        raise ModelError(f"a model name is for servers, and {spec} is none; leave it out")
    folder = home_path(spec, ModelError)
    if not folder.is_dir():
        raise ModelError(f"there is no folder {spec}; give a reward model's folder, or a server's address")
    with heavy_imports():
        from llava_cot.models.local.reward_local import LocalReward

    return LocalReward(folder, device=device, dtype=dtype)
