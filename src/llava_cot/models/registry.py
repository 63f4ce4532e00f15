"""Opening a model or a reward model by its name. Nothing here imports torch before a model is opened."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from llava_cot.core.files import home_path
from llava_cot.core.heavy_imports import heavy_imports
from llava_cot.core.plugins import Registry
from llava_cot.errors import ModelError
from llava_cot.models.base import Model, RewardModel
from llava_cot.models.endpoint.config import Provider, find_providers, load_config
from llava_cot.models.hub import fetch, hub_name
from llava_cot.models.local.adapters import is_adapter, read_adapter

if TYPE_CHECKING:
    from llava_cot.models.endpoint.balancing import BalancedModel
    from llava_cot.models.endpoint.client import EndpointModel

# The models in the package, by name. research/mini tells how they are made.
BUILT_IN = {name: Path(__file__).resolve().parent / name for name in ("mini", "mini-base")}
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

    kind: Literal["built-in", "plugin", "vllm", "folder", "server", "hub"]
    rest: str  # the folder, the name on the hub, or what follows the colon
    plugin: str = ""  # the name of an entry of `MODELS`
    servers: tuple[Provider, ...] = ()


def parse_model(spec: str | Path) -> ModelName:
    """Find out what a model's name stands for: the first kind of `ModelName` that it fits, in that order.

    `org/name` is on the hub unless there is such a folder; `./org/name` and a `Path` are always folders. A
    name that fits none is taken for a folder, which does not exist. Raises ModelError if a server's address
    or its configuration is wrong.
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
    if servers:
        return ModelName("server", spec, servers=servers)
    on_hub = hub_name(spec) is not None and not home_path(spec, ModelError).exists()
    return ModelName("hub" if on_hub else "folder", spec)


@dataclass(frozen=True)
class CheckpointFiles:
    """A checkpoint's folder, those of its adapters, and the name under which it is reported."""

    folder: Path
    name: str
    adapters: tuple[Path, ...] = ()


def find_checkpoint(
    spec: str | Path, adapters: Sequence[str | Path] = (), *, code: bool = False
) -> CheckpointFiles:
    """Find the files of a checkpoint: the built-in one's, a folder's, or those of a model on the hub.

    An adapter stands for the model that it names as its base, with it. What is on the hub is downloaded if it
    is not in the cache, with its Python files if `code`. `adapters` are folders or names on the hub too.
    Raises ModelError.
    """
    folder, name = _find_files(spec, code)
    found: list[Path] = []
    if is_adapter(folder):
        found, base = [folder], read_adapter(folder).base
        if not base or not (home_path(base, ModelError).is_dir() or hub_name(base)):
            raise ModelError(
                f"the adapter {spec} is for the model {base!r}, which is not here; give its model as --model "
                f"and --adapter {spec}"
            )
        folder, _ = _find_files(base, code)
        if is_adapter(folder):
            raise ModelError(
                f"the adapter {spec} is for the adapter {base}; merge that one into its model first"
            )
    for adapter in adapters:
        place, called = _find_files(adapter)
        found.append(place)
        name += f"+{called}"
    return CheckpointFiles(folder, name, tuple(found))


def _find_files(spec: str | Path, code: bool = False) -> tuple[Path, str]:
    """The folder of a checkpoint or an adapter, and its name."""
    if not isinstance(spec, Path) and spec in BUILT_IN:
        folder = BUILT_IN[spec]
        if not (folder / "config.json").is_file():
            raise ModelError(f"the built-in model {spec} is missing here; install the package again")
        return folder, spec
    folder = home_path(spec, ModelError)
    named = None if isinstance(spec, Path) or folder.exists() else hub_name(spec)
    if named is not None:
        return fetch(named, code=code), str(named)
    place = folder.resolve()
    if place.name in ("model", "adapter") and place.parent.name:  # as training leaves them in its run folder
        place = place.parent
    return folder, place.name


@contextmanager
def _by_name(found: CheckpointFiles) -> Iterator[None]:
    """Have errors name a model on the hub as the user does, and not its folder in the cache."""
    try:
        yield
    except ModelError as error:
        if hub_name(found.name) is None or found.adapters or str(found.folder) not in str(error):
            raise
        raise ModelError(str(error).replace(str(found.folder), found.name)) from None


def pinned(spec: str) -> str:
    """A model's name that means the same model in every working folder and at any time. Raises ModelError.

    That is a folder's absolute path, and the commit of a model on the hub, which is downloaded.
    """
    name = parse_model(spec)
    if name.kind == "vllm":
        return f"vllm:{pinned(name.rest)}"
    if name.kind == "folder" and home_path(spec).is_dir():
        return str(home_path(spec).resolve())
    if name.kind == "hub" and (on_hub := hub_name(spec)) is not None:
        return f"{on_hub.repo}@{fetch(on_hub).name}"
    return spec


def open_model(
    spec: str | Path,
    *,
    model_name: str | None = None,
    adapters: Sequence[str | Path] = (),
    merge: bool = True,
    trust_remote_code: bool = False,
    device: str = "auto",
    dtype: str = "auto",
    device_map: str | None = None,
    quantize: str | None = None,
    attn: str | None = None,
    cache_mb: int | str = "auto",
    max_batch: int = 256,
    double_bos: bool = False,
    share: bool = True,
    in_flight: int | None = None,
    chat_template_kwargs: Mapping[str, Any] | None = None,
    opened: Collection[Model] = (),
) -> OpenedModel:
    """Open a model.

    Args:
        spec: "mini" or "mini-base", built in; "KIND" or "KIND:REST" for the kinds that other packages add;
            "vllm:FOLDER" or "vllm:ORG/NAME" for a checkpoint that vLLM runs in this process; a checkpoint's
            folder; a server's address, such as "http://localhost:8000/v1", or its name in the user's
            endpoints.yaml; a model on the hub, "org/name" or "org/name@revision", which is downloaded into
            the cache of huggingface_hub. Several servers, with commas between them, share the calls; they
            must have the same model. The folder or name of an adapter stands for its model with it.
        model_name: The model's name, where a server has several.
        adapters: Low-rank adapters of peft for a checkpoint, by folder or name on the hub. Their effects add
            up.
        merge: Merge adapters into the weights, which is faster than to compute them beside these.
        trust_remote_code: Run the code that a checkpoint brings, if transformers does not know its
            architecture. It can do whatever you can. The files are named in a warning before.
        device: "cpu", an accelerator that torch knows ("cuda", "cuda:1", "mps", "xpu"), or "auto": the
            accelerator, if there is one.
        dtype: "float32", "bfloat16", "float16" or "auto" (float32 on a CPU, else the checkpoint's).
        device_map: Divide a checkpoint among all GPUs, the CPU's memory and the disk, as accelerate does it:
            "auto", "balanced", "balanced_low_0" or "sequential".
        quantize: Quantize a checkpoint's weights while they are loaded: "4bit" or "8bit", by bitsandbytes.
        attn: "sdpa", "eager", or "flash_attention_2" for the image encoder (text needs masks that it does not
            take); by default the best that the architecture has.
        cache_mb: Memory of all caches in MiB; for vLLM, of keys and values. "auto" is what is free on an
            accelerator once the model is loaded, less a tenth of all, or a quarter of what is free on a CPU;
            several models share it.
        max_batch: Most samples that are decoded together.
        double_bos: Begin prompts with the token for the beginning of text twice, as the published LLaVA-CoT
            code does.
        share: Without it, nothing is cached or batched: each sample is computed by itself from nothing.
        in_flight: Most requests at once to a server, unless endpoints.yaml sets that.
        chat_template_kwargs: Further arguments of the chat template, such as {"enable_thinking": False}. For
            a server, they go before those of endpoints.yaml.
        opened: Models that are open. An adapter on one of them is put beside its weights, which are in memory
            once then (unless they are quantized, or divided among devices).

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
    if chat_template_kwargs:  # kinds of other packages may not have it
        options["chat_template_kwargs"] = chat_template_kwargs
    hardware: dict[str, Any] = {"device_map": device_map, "quantize": quantize, "attn": attn}
    for option, value in hardware.items():
        if value is not None and name.kind in ("plugin", "server", "vllm"):
            raise ModelError(
                f"--{option.replace('_', '-')} is for checkpoints that the local engine runs, not for "
                f"{spec}; drop it"
            )
    if adapters and name.kind in ("plugin", "server", "vllm"):
        raise ModelError(
            f"adapters are for checkpoints that the local engine runs, not for {spec}; merge them first"
        )
    if trust_remote_code and name.kind in ("plugin", "server", "vllm"):
        raise ModelError(
            f"--trust-remote-code is for checkpoints that the local engine runs, not for {spec}; drop it, or "
            "give vLLM's server its option of that name"
        )
    if name.kind == "plugin":
        return MODELS[name.plugin](name.rest, model_name=model_name, in_flight=in_flight, **options)
    if name.kind == "server":
        servers = tuple(one.with_template_kwargs(chat_template_kwargs or {}) for one in name.servers)
        return _open_servers(servers, model_name, in_flight)
    if model_name is not None:
        raise ModelError(f"a model name is for servers, and {spec} is none; leave --model-name out")
    if name.kind == "vllm":
        with heavy_imports():
            from llava_cot.models.vllm import VllmModel

        found = find_checkpoint(name.rest)
        if found.adapters:
            raise ModelError(
                f"{name.rest} is an adapter, which is not run with vLLM here; merge it into its model"
            )
        with _by_name(found):
            return VllmModel(found.folder, name=found.name, **options)
    found = find_checkpoint(spec, adapters, code=trust_remote_code)
    with heavy_imports():
        from llava_cot.models.local.model import LocalModel

    hardware["trust_remote_code"] = trust_remote_code
    local = [one for one in opened if isinstance(one, LocalModel)] if found.adapters else []
    lender = next((one for one in local if one.lends(found.folder, **hardware, **options)), None)
    with _by_name(found):
        model = LocalModel(
            found.folder,
            name=found.name,
            adapters=found.adapters,
            merge=merge,
            lender=lender,
            **hardware,
            **options,
        )
    own = found.folder.resolve() in BUILT_IN.values() and not found.adapters
    model.domain = "scenes" if own else None
    return model


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
    spec: str | Path,
    *,
    model_name: str | None = None,
    device: str = "auto",
    dtype: str = "auto",
    **hardware: str | None,
) -> OpenedReward:
    """Open a reward model.

    Args:
        spec: A sequence-classification checkpoint with one label: its folder, or its name on the hub. A model
            of another package that has `reward`, or a server as for `open_model`. An address that ends in
            /classify, /pooling or /score uses that path.
        model_name, device, dtype: As for `open_model`; the last two are for checkpoints.
        hardware: For checkpoints too, `device_map`, `quantize` and `attn` as for `open_model`.

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
    if name.kind == "folder" and not home_path(spec, ModelError).is_dir():
        raise ModelError(f"there is no folder {spec}; give a reward model's folder, or a server's address")
    found = find_checkpoint(spec)
    with heavy_imports():
        from llava_cot.models.local.reward_local import LocalReward

    with _by_name(found):
        return LocalReward(
            found.folder, name=found.name, adapters=found.adapters, device=device, dtype=dtype, **hardware
        )
