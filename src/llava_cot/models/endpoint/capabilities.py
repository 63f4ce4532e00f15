"""What a server can do: found by `probe`, and saved in a file for each server and model."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path

from pydantic import TypeAdapter

from llava_cot.core.files import write_whole
from llava_cot.core.stages import StageFormat
from llava_cot.models.base import ConstraintKind
from llava_cot.models.endpoint.prompts import OPTION_FIELDS, PromptFormat, SchemaField, ThinkingForm

ANY_FORMAT = "any"
# The options of every request, unless the model refuses them.
RANDOMNESS = ("temperature", "top_p")


@dataclass(frozen=True)
class Capabilities:
    """What one model behind one address can do."""

    prefix: PromptFormat  # how the server continues the assistant's text
    thinking: ThinkingForm  # how its replies give what the model thinks before it answers
    thinking_prefix: PromptFormat  # how the server continues the thinking
    many: bool  # a request can have several samples
    stops: bool  # the reply includes or names the stop string at which it stopped
    top_logprobs: int  # how many tokens' log-probabilities it gives at each position (0: none)
    choice_tokens: int  # the token limit of a request that scores options
    prompt_logprobs: bool  # it gives those of a prompt's own tokens, and so of any text
    seed: bool  # it takes a seed
    limit: str  # its name for the token limit
    json_schema: SchemaField  # the field in which it takes a JSON schema for the reply
    option_fields: tuple[str, ...]  # those for top-k, min-p and repetition penalty that it has
    randomness: tuple[str, ...]  # which of temperature and top_p it takes, in one request
    # Whether the model writes stages by itself, where that was found out: by the opening tags of the format,
    # or of any format for a server of this package, which does the stages and the search.
    stages: dict[str, bool]

    def writes_stages(self, fmt: StageFormat) -> bool | None:
        return self.stages.get(ANY_FORMAT, self.stages.get(" ".join(fmt.opening_tags)))

    @property
    def continues_prefix(self) -> bool:
        return self.prefix != "none"

    @property
    def continues_thinking(self) -> bool:
        return self.thinking_prefix != "none"

    @property
    def left_out(self) -> tuple[str, ...]:
        """The options of every request that the model refuses."""
        return tuple(name for name in RANDOMNESS if name not in self.randomness)

    @property
    def logprobs(self) -> bool:
        return self.top_logprobs > 0

    @property
    def scores_texts(self) -> bool:
        return self.prompt_logprobs

    @property
    def constraints(self) -> tuple[ConstraintKind, ...]:
        return () if self.json_schema == "none" else ("json",)

    @property
    def ignored_sampling(self) -> tuple[str, ...]:
        """The options of sampling that have no effect."""
        return self.left_out if self.seed else (*self.left_out, "seed")

    @property
    def sampling_options(self) -> tuple[str, ...]:
        """The `OPTIONAL_SAMPLING` that it has a field for."""
        return tuple(option for option, names in OPTION_FIELDS.items() if {*names} & {*self.option_fields})


_IN_WORDS: dict[PromptFormat, str] = {
    "continue": "continued (continue_final_message)",
    "trailing": "continued (a last message of the assistant)",
    "none": "not continued: the next turn asks for what comes next",
}


_THINKING: dict[ThinkingForm, str] = {
    "apart": "in a field of its own",
    "inline": "in the text",
    "none": "none seen",
}


def describe(found: Capabilities) -> dict[str, str]:
    """What a server can do, in words."""
    stops = "included or named" if found.stops else "neither included nor named: samples are cut here"
    top, schema = found.top_logprobs, found.json_schema
    logprobs = f"of the {top} likeliest tokens" if top else "none: no judge logits or likelihood"
    logprobs += ", of whole texts" if found.prompt_logprobs else "; not of whole texts: no judge implicit"
    return {
        "assistant's text": _IN_WORDS[found.prefix],
        "thinking": _THINKING[found.thinking] + _continued(found),
        "samples": "several per request" if found.many else "one per request",
        "stop strings": stops,
        "log-probabilities": logprobs,
        "seed": "taken" if found.seed else "refused: no run can be repeated",
        "token limit": found.limit,
        "JSON schema": "not enforced: no method msg" if schema == "none" else f"enforced ({schema})",
        "sampling options": _options(found),
    }


def _continued(found: Capabilities) -> str:
    if found.thinking == "none":
        return ""
    return ", continued" if found.continues_thinking else ", not continued: searched as whole answers"


def _options(found: Capabilities) -> str:
    taken = ", ".join((*found.randomness, *found.sampling_options)) or "none"
    left_out = " and ".join(found.left_out)
    return f"{taken} (left out, since the model refuses it: {left_out})" if left_out else taken


def capabilities_folder() -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "llava-cot" / "endpoints"


def _file(url: str, model: str) -> Path:
    """One file for each, so that processes that open several do not overwrite what the others found."""
    return capabilities_folder() / f"{sha256(f'{url} {model}'.encode()).hexdigest()[:16]}.json"


def load(url: str, model: str) -> Capabilities | None:
    """What was found before; None if nothing was, or if an earlier version of this package found less."""
    try:
        return TypeAdapter(Capabilities).validate_json(_file(url, model).read_bytes())
    except (OSError, ValueError):
        return None


def known(url: str, model: str | None) -> Capabilities | None:
    """What was found before, also without the model's name if no other of this server was used."""
    if model is not None:
        return load(url, model)
    models = set()
    for file in capabilities_folder().glob("*.json"):
        with suppress(OSError, ValueError, KeyError, TypeError):
            saved = json.loads(file.read_bytes())
            models |= {saved["model"]} if saved["url"] == url else set()
    return load(url, models.pop()) if len(models) == 1 else None


def save(url: str, model: str, found: Capabilities) -> None:
    """Save for the next time. Where nothing can be written, the requests are sent again then."""
    file = _file(url, model)
    with suppress(OSError, ValueError):
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, json.dumps({"url": url, "model": model} | asdict(found), indent=1) + "\n")
