"""Servers by name, and what models cost: the user's endpoints.yaml and the prices in the package.

The file names the environment variables that hold the keys; it never holds a key.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from llava_cot.core.files import read_yaml
from llava_cot.core.wording import first_fault
from llava_cot.errors import DataError, ModelError
from llava_cot.models.endpoint.prompts import OPTION_FIELDS, PromptFormat

# For addresses without a configuration. Not a name that other programs use: their key is not for any server.
KEY_ENV = "LLAVA_COT_API_KEY"
_OptionField = Annotated[str, Field(pattern=f"^({'|'.join(chain(*OPTION_FIELDS.values()))})$")]
_PRICES = Path(__file__).parent / "prices.yaml"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


def _listed(value: Any) -> Any:
    return ",".join(value) if isinstance(value, list) and all(isinstance(v, str) for v in value) else value


class Provider(_Frozen):
    """A server, or several that share the calls, and their settings."""

    url: Annotated[str, BeforeValidator(_listed)]  # or several with commas between them (in the file, a list)
    model: str | None = None
    key_env: str = KEY_ENV  # the environment variable that holds the key
    in_flight: int = Field(default=64, ge=1)  # most requests at once
    requests_per_minute: int | None = Field(default=None, ge=1)  # most in any minute
    tokens_per_minute: int | None = Field(default=None, ge=1)
    seconds: float = Field(default=600.0, gt=0)  # longest wait for a whole reply
    image_side: int | None = Field(default=None, ge=1)  # most pixels of an image's longer side
    chat_template_kwargs: dict[str, Any] = {}  # further arguments of the chat template (vLLM, SGLang)
    # These two replace what would be found out by requests (`Capabilities`).
    prefix: PromptFormat | None = None
    option_fields: tuple[_OptionField, ...] | None = None

    def with_template_kwargs(self, given: Mapping[str, Any]) -> Provider:
        """The same with these arguments of the chat template over its own."""
        return self.model_copy(update={"chat_template_kwargs": self.chat_template_kwargs | dict(given)})

    @property
    def template_fields(self) -> dict[str, Any]:
        """The fields of every request for the chat template."""
        return {"chat_template_kwargs": self.chat_template_kwargs} if self.chat_template_kwargs else {}

    @property
    def saved_as(self) -> str:
        """What is found out of its models is saved under it: with other arguments, one may not think."""
        return " ".join([self.url, *map(json.dumps, self.template_fields.values())])


class Price(_Frozen):
    """US dollars per million tokens read, and per million tokens written."""

    input: float = Field(ge=0)
    output: float = Field(ge=0)

    def of(self, read: int, written: int) -> float:
        return (read * self.input + written * self.output) / 1e6


class EndpointConfig(_Frozen):
    providers: dict[str, Provider] = {}
    prices: dict[str, Price] = {}


def config_file() -> Path:
    home = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(home) / "llava-cot" / "endpoints.yaml"


def load_config() -> EndpointConfig:
    """The user's file, or an empty configuration, with the package's prices below it. Raises ModelError."""
    own = _read(config_file())
    return own.model_copy(update={"prices": _read(_PRICES).prices | own.prices})


def _read(file: Path) -> EndpointConfig:
    if not file.exists():
        return EndpointConfig()
    try:
        data = read_yaml(file, "configuration")
    except DataError as error:
        raise ModelError(f"{error}; its form is in docs/how-to/use-a-model-server.md") from None
    try:
        return EndpointConfig.model_validate(data)
    except ValidationError as error:
        raise ModelError(f"{file} cannot be used: {first_fault(error)}") from None


def find_providers(spec: str, config: EndpointConfig) -> list[Provider]:
    """The servers of a name or address, or of several with commas between them, each with one address.

    Empty if `spec` names no server. Raises ModelError.
    """
    found: list[Provider] = []
    unknown: list[str] = []
    for part in filter(None, map(str.strip, spec.split(","))):
        provider = config.providers.get(part)
        if provider is None and part.startswith(("http://", "https://")):
            provider = Provider(url=part)
        if provider is None:
            unknown.append(part)
            continue
        for url in filter(None, map(str.strip, provider.url.split(","))):
            found.append(provider.model_copy(update={"url": _checked(url)}))
    if found and unknown:
        raise ModelError(
            f"{unknown[0]!r} of {spec} is neither an address nor the name of a server in {config_file()}"
        )
    return found


def _checked(url: str) -> str:
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname)
        parts.port  # noqa: B018 - raises ValueError if it is none
    except ValueError:
        good = False
    if not good:
        raise ModelError("the server's address is not well formed; give one like http://localhost:8000/v1")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ModelError(
            f"the address of the server at {parts.hostname} has a user, a query or a fragment in it; give it "
            "without, and a key in an environment variable"
        )
    return url.rstrip("/")


def key_of(provider: Provider) -> str | None:
    """The provider's key. Raises ModelError if its variable is not set, or holds no key."""
    key = os.environ.get(provider.key_env, "").strip()
    if not key:
        if provider.key_env == KEY_ENV:
            return None
        raise ModelError(f"the environment variable {provider.key_env} is not set; put the key into it")
    if not key.isascii() or not key.isprintable() or " " in key:
        raise ModelError(f"the environment variable {provider.key_env} does not hold a key; set it again")
    return key
