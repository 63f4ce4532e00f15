"""Servers by name, and what models cost: the user's configuration file and the prices in the package.

Owns the file's shape. Keys are in environment variables, which the file names; it never holds one.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from llava_cot.errors import ModelError
from llava_cot.models.endpoint.prompts import PromptFormat

# For addresses that are given without a configuration. Not a name that other programs use: their key is
# not for just any server.
KEY_ENV = "LLAVA_COT_API_KEY"
_PRICES = Path(__file__).parent / "prices.yaml"


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


def _listed(value: Any) -> Any:
    return ",".join(value) if isinstance(value, list) and all(isinstance(v, str) for v in value) else value


class Provider(_Settings):
    """A server, or several with commas between their addresses (in the file, a list), each of which has these
    settings. `model` is the model's name, `image_side` the most pixels of a picture's longer side."""

    url: Annotated[str, BeforeValidator(_listed)]
    model: str | None = None
    key_env: str = KEY_ENV
    in_flight: int = Field(default=64, ge=1)
    requests_per_minute: int | None = Field(default=None, ge=1)
    tokens_per_minute: int | None = Field(default=None, ge=1)
    seconds: float = Field(default=600.0, gt=0)
    image_side: int | None = Field(default=None, ge=1)
    prefix: PromptFormat | None = None


class Price(_Settings):
    """US dollars for a million tokens that are read, and that are written."""

    input: float = Field(ge=0)
    output: float = Field(ge=0)


class EndpointConfig(_Settings):
    providers: dict[str, Provider] = {}
    prices: dict[str, Price] = {}


def config_file() -> Path:
    home = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(home) / "llava-cot" / "endpoints.yaml"


def load_config() -> EndpointConfig:
    """The user's file, empty if there is none, with the package's prices under it. Raises ModelError."""
    own = _read(config_file())
    return own.model_copy(update={"prices": _read(_PRICES).prices | own.prices})


def _read(file: Path) -> EndpointConfig:
    try:
        data = yaml.safe_load(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return EndpointConfig()
    except (yaml.YAMLError, UnicodeDecodeError):
        raise ModelError(f"{file} is not YAML; its form is in docs/how-to/use-a-model-server.md") from None
    try:
        return EndpointConfig.model_validate({} if data is None else data)
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise ModelError(f"{file} cannot be used: {where}: {first['msg']}") from None


def find_providers(spec: str, config: EndpointConfig) -> list[Provider]:
    """The servers of that name or address, or of these, with commas between them; none if it is no such.

    Each has one address. Raises ModelError.
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
        raise ModelError(
            "the address of the server is not well formed; give one like http://localhost:8000/v1"
        )
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ModelError(
            f"the address of the server at {parts.hostname} has a user, a query or a fragment in it; give it "
            "without, and a key in an environment variable"
        )
    return url.rstrip("/")


def key_of(provider: Provider) -> str | None:
    """The provider's key. Raises ModelError if it names a variable that is not set, or no key is in it."""
    key = os.environ.get(provider.key_env, "").strip()
    if not key:
        if provider.key_env == KEY_ENV:
            return None
        raise ModelError(f"the environment variable {provider.key_env} is not set; put the key into it")
    if not key.isascii() or not key.isprintable() or " " in key:
        raise ModelError(f"what is in the environment variable {provider.key_env} is no key; set it again")
    return key
