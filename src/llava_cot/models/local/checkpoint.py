"""Loading a checkpoint's model and processor from a folder, or saying in one sentence why not.

Refused are remote code, weights that are not safetensors, and incomplete or damaged folders.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, get_args

import torch
import transformers
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoModelForSequenceClassification,
    AutoProcessor,
    GenerationConfig,
    GenerationMixin,
    ProcessorMixin,
)
from transformers.models.auto.processing_auto import PROCESSOR_MAPPING

from llava_cot.core.files import check_regular
from llava_cot.core.wording import shortened
from llava_cot.errors import DataError, ModelError, missing_package
from llava_cot.models.hardware import Attention, DeviceMap, Quantize
from llava_cot.models.local.adapters import apply_adapters, with_same_weights
from llava_cot.models.local.chat_template import check_template
from llava_cot.models.local.config_fields import (
    check_described,
    check_processor_numbers,
    read_config,
    read_json,
)
from llava_cot.models.local.devices import find_device
from llava_cot.models.local.quantization import quantize_with
from llava_cot.models.local.remote_code import trusted_class

# Their prompts are read in both directions: a prompt is a head as a whole.
PREFIX_LM = ("paligemma",)
_PART = re.compile(r"[\w-][\w.-]*\.safetensors")
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that is loaded."""

    model: Any  # in evaluation mode, on its device
    processor: Any
    context: int  # the longest text it takes, in tokens


def load_checkpoint(
    folder: Path,
    device: str,
    dtype: str,
    adapters: Sequence[Path] = (),
    *,
    merge: bool = True,
    trust_code: bool = False,
    loaded: Any = None,
    **hardware: str | None,
) -> Checkpoint:
    """Load a checkpoint from local files, with adapters in folders. Raises ModelError.

    With `trust_code`, the code of a checkpoint whose architecture transformers does not know is run.
    `loaded` is the checkpoint's model where its weights are in memory: adapters are put beside them.
    `hardware` are the other options of `place`.
    """
    where = place(device, dtype, **hardware)
    same = None if loaded is None else with_same_weights(loaded)
    own = None
    if trust_code:
        _check_files(folder)
        own = trusted_class(folder)
    if own is None:
        config, processor = load_processor(folder)
        model = same or load_weights(_auto_class(config), folder, config, where)
    else:
        with failing_with(f"the code of {folder} failed"), quiet():
            config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=True)
            processor = _processor(folder, config, trust_code=True)
        model = same or load_weights(own, folder, config, where, trust_code=True)
    if adapters:
        model = apply_adapters(model, adapters, merge=merge and same is None)
    with failing_with(f"the configuration in {folder} cannot be used"):
        return Checkpoint(model, processor, _context(config))


def load_processor(folder: Path, *, quantized: bool = False) -> tuple[Any, Any]:
    """The configuration and the processor of a checkpoint that has its weights. Raises ModelError.

    With `quantized`, another engine loads its weights, which may be quantized in any way.
    """
    config = load_config(folder, quantized=quantized)
    networks = _auto_class(config)._model_mapping
    if type(config) not in networks:
        raise ModelError(
            f"{folder} holds a model ({config.model_type}) that does not answer about images in text"
        )
    if not quantized:
        network: Any = networks[type(config)]
        if config.is_encoder_decoder:
            raise ModelError(f"this engine cannot run {config.model_type}, an encoder and a decoder")
        if not issubclass(network, GenerationMixin):
            raise ModelError(
                f"this engine cannot run {config.model_type}, which does not write token by token"
            )
    with quiet():
        return config, _processor(folder, config)


def _auto_class(config: Any) -> Any:
    """The auto class of transformers that loads a model for images and text."""
    return AutoModelForCausalLM if config.model_type == "phi4_multimodal" else AutoModelForImageTextToText


def load_config(folder: Path, *, quantized: bool = False) -> Any:
    """The configuration of a checkpoint that has its weights; `quantized` as above. Raises ModelError."""
    _check_files(folder)
    taken = read_config(folder, quantized=quantized)
    try:
        with quiet(), TemporaryDirectory() as clean:
            (Path(clean) / "config.json").write_text(json.dumps(taken), encoding="utf-8")
            config: Any = AutoConfig.from_pretrained(clean, local_files_only=True, trust_remote_code=False)
            config = getattr(config, "thinker_config", config)  # the part of Qwen-Omni that writes text
            config.name_or_path = str(folder)
            return config
    except Exception as error:
        _name_library(folder, error)
        raise _config_fault(folder, taken, error) from None


def end_tokens(generation: Any, config: Any, tokenizer: Any) -> frozenset[int]:
    """The ids that end an answer, from all of a checkpoint's files; `generation` may be None."""
    found = [tokenizer.eos_token_id]
    for source in (generation, config, config.get_text_config()):
        ends = getattr(source, "eos_token_id", None)
        found += ends if isinstance(ends, list | tuple) else [ends]
    return frozenset(end for end in found if isinstance(end, int))


@dataclass(frozen=True)
class Placement:
    """Where a model's weights are put, and how they are held and used: the options of `open_model`."""

    device: torch.device
    dtype: torch.dtype | str
    device_map: str | None
    quantize: str | None
    attn: str | None


def place(
    device: str,
    dtype: str,
    device_map: str | None = None,
    quantize: str | None = None,
    attn: str | None = None,
) -> Placement:
    """Check the options for hardware. Raises ModelError."""
    choices = {
        "device_map": (device_map, DeviceMap),
        "quantize": (quantize, Quantize),
        "attn": (attn, Attention),
    }
    for name, (value, choice) in choices.items():
        known = get_args(choice)
        if value is not None and value not in known:
            raise ModelError(f"{name} is {value!r}; choose {', '.join(known[:-1])} or {known[-1]}")
    if device_map is not None and device != "auto":
        raise ModelError(f"--device-map takes all devices, and --device is {device}; leave one of them out")
    if attn == "flash_attention_2" and find_spec("flash_attn") is None:
        raise ModelError("--attn flash_attention_2 needs flash-attn; run: pip install flash-attn")
    found = find_device(device)
    check_dtype(dtype)
    kind: torch.dtype | str = _DTYPES.get(dtype, dtype)
    if dtype == "auto" and found.type == "cpu":
        kind = torch.float32
    return Placement(found, kind, device_map, quantize, attn)


def check_dtype(name: str) -> None:
    """Raise ModelError if there is no such dtype."""
    if name not in (*_DTYPES, "auto"):
        raise ModelError(f"there is no dtype {name!r}; choose {', '.join(_DTYPES)} or auto")


def _check_files(folder: Path) -> None:
    if not folder.is_dir():
        raise ModelError(
            f"there is no folder {folder}, and no server of that name in endpoints.yaml; give the folder of "
            "a checkpoint, a model on the hub (org/name), a server's address (http://...), or mini"
        )
    if not (folder / "config.json").is_file():
        raise ModelError(f"{folder} is no checkpoint: it has no config.json")
    try:
        for file in (*folder.iterdir(), *folder.glob("*/*")):  # transformers opens those of many names
            check_regular(file)
    except DataError as error:
        raise ModelError(f"{folder} is no checkpoint: {error}") from None
    if (folder / "adapter_config.json").is_file():  # transformers would load it, and more
        raise ModelError(f"{folder} has an adapter beside its model; merge it, or take its files out")
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        try:
            parts = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
            raise ModelError(f"{index} is damaged; download the checkpoint again") from None
        if strange := [part for part in parts if not _PART.fullmatch(str(part))]:
            raise ModelError(f"{index} names {strange[0]!r}, which is no file of weights in its folder")
        missing = sorted(part for part in parts if not (folder / part).is_file())
        if missing:
            raise ModelError(
                f"{folder} is incomplete: {missing[0]} is missing; download the checkpoint again"
            )
    elif not (folder / "model.safetensors").is_file():
        if any(folder.glob("*.bin")) or any(folder.glob("*.pt*")):
            raise ModelError(
                f"{folder} has weights in a pickle format, which can run code; convert them to safetensors"
            )
        raise ModelError(f"{folder} has no weights: model.safetensors is missing")


def _processor(folder: Path, config: Any, *, trust_code: bool = False) -> Any:
    """The checkpoint's processor; without its video part where that cannot be loaded."""
    auto: Any = AutoProcessor
    check_processor_numbers(folder)
    try:
        processor = auto.from_pretrained(folder, local_files_only=True, trust_remote_code=trust_code)
    except Exception as error:
        try:
            stills = _without_video(_processor_class(folder, config))
            processor = stills.from_pretrained(folder, local_files_only=True)
        except Exception as second:
            _name_library(folder, second)
            _name_library(folder, error)
            check_described(folder)
            raise ModelError(
                f"{folder} has no processor that can be loaded ({first_sentence(error)}); "
                "add the files of the original checkpoint"
            ) from None
    if not hasattr(processor, "image_processor") or not hasattr(processor, "tokenizer"):
        raise ModelError(
            f"{folder} has no processor for images; add the original checkpoint's files, if it has one"
        )
    template = getattr(processor, "chat_template", None) or getattr(
        processor.tokenizer, "chat_template", None
    )
    if not template:
        raise ModelError(
            f"{folder} has no chat template; add the chat_template.jinja of an instruct checkpoint"
        )
    check_template(folder, template)
    processor.chat_template = template  # Phi-4-multimodal's takes none of its own file
    return processor


def _processor_class(folder: Path, config: Any) -> Any:
    """The class of a checkpoint's processor, by its type or, for types without one, by its name in a file."""
    if type(config) in PROCESSOR_MAPPING:
        return PROCESSOR_MAPPING[type(config)]
    files = (folder / "processor_config.json", folder / "preprocessor_config.json")
    names = (str(read_json(file).get("processor_class")) for file in files if file.is_file())
    found = (getattr(transformers, name, None) for name in names)
    return next(one for one in found if isinstance(one, type) and issubclass(one, ProcessorMixin))


def _without_video(processor: Any) -> Any:
    names = [name for name in processor.get_attributes() if "video" not in name]
    return type(processor.__name__, (processor,), {"get_attributes": classmethod(lambda cls: names)})


def load_weights(
    auto: Any,
    folder: Path,
    config: Any,
    where: Placement,
    *,
    trust_code: bool = False,
) -> Any:
    """A model by an auto class of transformers, in evaluation mode on its device. Raises ModelError."""
    _check_generation(folder)
    options: dict[str, Any] = {}
    if where.quantize is not None:
        options["quantization_config"] = quantize_with(where.quantize, where.dtype, config)
    if where.device_map is not None:
        options["device_map"] = where.device_map
    elif where.device.type != "cpu" or options or getattr(config, "quantization_config", None) is not None:
        options["device_map"] = {"": where.device}
    if where.attn is not None:
        options["attn_implementation"] = _attention(auto, config, where.attn)
    try:
        with quiet():
            model, loading = auto.from_pretrained(
                folder,
                config=config,
                dtype=where.dtype,
                local_files_only=True,
                trust_remote_code=trust_code,
                use_safetensors=True,
                **options,
                ignore_mismatched_sizes=True,  # which are refused below, with their names
                output_loading_info=True,
            )
    except torch.OutOfMemoryError as error:
        raise ModelError(
            f"{folder} does not fit on {where.device} ({first_sentence(error)}); divide it "
            "(--device-map auto) or quantize it (--quantize 4bit)"
        ) from None
    except Exception as error:
        _name_library(folder, error)
        if isinstance(error, SafetensorError | OSError):
            raise ModelError(
                f"the weights in {folder} cannot be loaded ({first_sentence(error)}); "
                "download the checkpoint again"
            ) from None
        try:
            with quiet(), torch.device("meta"):
                if not trust_code:
                    auto.from_config(config)
        except Exception as second:
            raise _config_fault(folder, config.to_dict(), second) from None
        raise ModelError(f"the weights in {folder} cannot be loaded: {first_sentence(error)}") from None
    for name, found, described in sorted(loading["mismatched_keys"], key=str):
        raise ModelError(
            f"the weights in {folder} do not fit its config.json: {name} has the shape {list(found)}, and by "
            f"the configuration {list(described)}; use both of one checkpoint"
        )
    missing = sorted(loading["missing_keys"])
    named = getattr(config, "architectures", None) or [type(model).__name__]
    if missing and type(model).__name__ not in named:
        raise ModelError(f"{folder} holds a {named[0]}, which does not answer about images in text")
    if missing:
        raise ModelError(f"the weights in {folder} are incomplete: {missing[0]} is missing")
    return model.eval().requires_grad_(False)


def _attention(auto: Any, config: Any, kind: str) -> str | dict[str, str]:
    """The kind of attention of a model's parts.

    Flash attention takes no mask for each row, as the engine's batches of text need: it is for what encodes
    the images.
    """
    if kind != "flash_attention_2" or auto is AutoModelForSequenceClassification:
        return kind
    return {"": "sdpa", **{part: "sdpa" if "text" in part else kind for part in config.sub_configs}}


def _check_generation(folder: Path) -> None:
    """Raise ModelError if there is a `generation_config.json` that transformers does not take."""
    file = folder / "generation_config.json"
    if not file.is_file():
        return
    ends = read_json(file).get("eos_token_id")
    for end in ends if isinstance(ends, list) else [ends]:
        if end is not None and type(end) is not int:
            raise ModelError(
                f"{file}: eos_token_id is {shortened(repr(ends), 80)}, which is no number of a token"
            )
    try:
        with quiet():
            GenerationConfig.from_pretrained(folder, local_files_only=True)
    except Exception as error:
        raise ModelError(f"{file} cannot be used: {_last_sentence(error)}") from None


def _config_fault(folder: Path, config: dict[str, Any], error: Exception) -> ModelError:
    """What is wrong in a `config.json` from which no configuration, or no network, can be made."""
    file = folder / "config.json"
    if isinstance(error, KeyError) and error.args:  # a name that transformers looks up, and does not know
        for field in _fields_with(config, error.args[0]):
            return ModelError(f"{file}: {field} is {shortened(repr(error.args[0]), 80)}, which is not known")
    return ModelError(f"{file} describes no model that can be made: {_last_sentence(error)}")


def _fields_with(config: Any, value: object, path: str = "") -> Iterator[str]:
    """The fields of a configuration that have a value, such as "text_config.hidden_act"."""
    for name, part in config.items():
        if isinstance(part, dict):
            yield from _fields_with(part, value, f"{path}{name}.")
        elif part == value or (isinstance(part, list) and value in part):
            yield f"{path}{name}"


def _last_sentence(error: BaseException) -> str:
    """The reason in an error of several lines, whose first ones say only that something was checked."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    reason = re.sub(r"^\w+(Error|Exception): ", "", lines[-1]) if lines else type(error).__name__
    return shortened(reason.rstrip("."), 500)


def _context(config: Any) -> int:
    """The longest text in tokens."""
    text = config.get_text_config()
    context = getattr(text, "max_position_embeddings", None) or 2048
    window = getattr(text, "sliding_window", None) if config.model_type in PREFIX_LM else None
    return int(min(context, window or context))


# How transformers and Python say that a library is missing, the first group naming it.
_MISSING = (
    r"pip install (?:-\S+ )*[`'\"]?([A-Za-z][\w.-]*)",
    r"requires (?:the )?[`'\"]?([A-Za-z][\w.-]*)[`'\"]? library",
    r"No module named ['\"]?([A-Za-z][\w-]*)",
    r"need to have [`'\"]?([A-Za-z][\w.-]*)",
    r"Missing optional dependencies: ([A-Za-z][\w-]*)",
)
_PACKAGES = {"PIL": "pillow", "cv2": "opencv-python", "mamba_ssm": "mamba-ssm", "flash_attn": "flash-attn"}
_OPTIONAL = ("num2words", "opencv-python", "timm", "torchvision")


def _name_library(folder: Path, error: BaseException) -> None:
    """Raise ModelError, with the command that installs it, if an error is about a missing library."""
    # transformers says "need to have" also of a tokenizer whose files are missing.
    slow = "need to have" in str(error) and any(folder.glob("*.model"))
    absent = "Missing optional dependencies" in str(error)
    if not isinstance(error, ImportError) and not slow and not absent:
        return
    found = (re.search(pattern, str(error)) for pattern in _MISSING)
    name = next((match[1].rstrip(".") for match in found if match), getattr(error, "name", None))
    if name:
        package = _PACKAGES.get(name, name.lower())
        if package in _OPTIONAL:
            raise ModelError(missing_package(str(folder), package, extra="vision-extras")) from None
        raise ModelError(
            f"{folder} needs {package}, which is not installed; run: pip install {package}"
        ) from None


@contextmanager
def failing_with(words: str) -> Iterator[None]:
    """For calls of a checkpoint's parts inside. Raises ModelError with these words where one fails.

    A library in Rust, such as tokenizers, may panic: on a pattern that has too much to try, for one.
    """
    try:
        yield
    except ModelError:
        raise
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise ModelError(f"{words}: {first_sentence(error)}") from None


def first_sentence(error: BaseException) -> str:
    """The first sentence of an error's message."""
    lines = str(error).strip().splitlines()
    sentence = re.split(r"\.\s+(?=[A-Z])", lines[0])[0].rstrip(".") if lines else type(error).__name__
    return shortened(sentence, 500)


@contextmanager
def quiet() -> Iterator[None]:
    """Silence transformers' progress bars, and its advice about files that the user cannot change."""
    logs: Any = transformers.utils.logging
    level, bars = logs.get_verbosity(), logs.is_progress_bar_enabled()
    logs.set_verbosity_error()
    logs.disable_progress_bar()
    try:
        yield
    finally:
        logs.set_verbosity(level)
        if bars:
            logs.enable_progress_bar()
