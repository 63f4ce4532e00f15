"""Options of more than one verb, and options made from the fields of settings."""

from __future__ import annotations

import inspect
import json
import os
import re
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import is_dataclass
from functools import wraps
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from llava_cot.core.wording import shortened

if TYPE_CHECKING:
    from typer._click import Context, HelpFormatter

ModelSpec = Annotated[
    str,
    typer.Option(
        help="'mini' or 'mini-base', built in, a checkpoint (its folder, or org/name on the hub), "
        "'vllm:CHECKPOINT', or a server's address or name."
    ),
]
ModelName = Annotated[
    str | None, typer.Option(metavar="NAME", help="One of a server's models, if it has several.")
]
Adapters = Annotated[
    list[str] | None,
    typer.Option(
        "--adapter",
        metavar="ADAPTER",
        help="A low-rank adapter (peft) for the model: its folder, or org/name on the hub. Repeatable; their "
        "effects add up.",
    ),
]
Merge = Annotated[
    bool, typer.Option("--merge/--no-merge", help="Merge adapters into the weights, which is faster.")
]
TrustRemoteCode = Annotated[
    bool,
    typer.Option(
        "--trust-remote-code",
        help="Run the code that the checkpoint brings, named first. It can do whatever you can.",
    ),
]


def _json_object(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise typer.BadParameter(
            f"{shortened(repr(text), 80)} is no JSON object; write one such as "
            "'{\"enable_thinking\": false}'"
        )
    return found


ChatTemplateKwargs = Annotated[
    dict[str, Any] | None,
    typer.Option(
        parser=_json_object,
        metavar="JSON",
        help="Further arguments of the model's chat template, such as '{\"enable_thinking\": false}'.",
    ),
]
Format = Annotated[
    str | None,
    typer.Option(
        "--format",
        metavar="STAGES",
        help="Other stages, such as 'think,answer', 'thinking' for a model that thinks, or a YAML file.",
    ),
]
AtOnce = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="N",
        help="Questions in flight; 64 for a local model, 256 for a server, if not given.",
    ),
]
Ray = Annotated[
    str | None, typer.Option(metavar="ADDRESS", help="Answer on a Ray cluster: HOST:PORT, auto or local.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")]


def _no_bars(quiet: bool) -> bool:
    """Have huggingface_hub, which reads this when it is imported, show no progress bars."""
    if quiet:
        os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
    return quiet


Quiet = Annotated[
    bool,
    typer.Option("--quiet", "-q", callback=_no_bars, help="Print only errors on standard error."),
]


def new_app(help: str | None = None) -> typer.Typer:
    """The application of a verb, or of a group of verbs if there is a help."""
    return typer.Typer(
        help=help,
        no_args_is_help=help is not None,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )


def complete_methods(incomplete: str = "", ctx: typer.Context | None = None) -> list[str]:
    """The names of methods that begin so, for help and shell completion.

    What is on the command line already leaves out those that cannot work with it; so it does below.
    """
    from llava_cot.search.methods import METHODS
    from llava_cot.search.request import possible_methods

    names: Iterable[str] = METHODS if ctx is None else _possible(ctx, lambda *what: possible_methods(*what))
    return _beginning(names, incomplete)


def complete_specs(incomplete: str, ctx: typer.Context | None = None) -> list[str]:
    """The specs of methods that begin so, each with the method's own n."""
    from llava_cot.search.methods.base import GREEDY, METHODS
    from llava_cot.search.request import parse_spec, runs_alone

    names = [name for name, _ in METHODS.items()]
    if ctx is not None:
        names = _possible(ctx, lambda *what: [name for name in names if runs_alone(name, *what)])
    return _beginning([GREEDY, *(parse_spec(name).name for name in names)], incomplete)


def complete_judges(incomplete: str = "", ctx: typer.Context | None = None) -> list[str]:
    """The names of judges that begin so."""
    from llava_cot.search.judges import JUDGES
    from llava_cot.search.methods import METHODS
    from llava_cot.search.request import DEFAULT_METHOD, possible_judges

    method = (None if ctx is None else ctx.params.get("method")) or DEFAULT_METHOD
    if ctx is None or method not in METHODS:
        return _beginning(JUDGES, incomplete)
    able = _possible(ctx, lambda *what: possible_judges(method, *what))
    return _beginning((name for name in JUDGES if name in able), incomplete)


def complete_scoring_judges(incomplete: str, ctx: typer.Context | None = None) -> list[str]:
    """The names of judges that give scores and begin so."""
    from llava_cot.search.judges import JUDGES
    from llava_cot.search.request import possible_judges

    names = [name for name, known in JUDGES.items() if known.scores]
    if ctx is not None:
        able = _possible(ctx, lambda *what: possible_judges("best-of-n", *what))
        names = [name for name in names if name in able]
    return _beginning(names, incomplete)


def _possible(ctx: typer.Context, names: Callable[[Any, Any], list[str]]) -> list[str]:
    """The names that all models on the command line can run, whatever else may still be typed.

    What a server can do is known once it was used; other models can run all.
    """
    from llava_cot.models.endpoint.capabilities import known
    from llava_cot.models.registry import parse_model
    from llava_cot.search.resources import AnyResources

    given, model_name = ctx.params.get("model") or (), ctx.params.get("model_name")
    found = names(AnyResources(), None)
    for spec in (given,) if isinstance(given, str) else given:
        with suppress(ValueError):  # of its address, or of endpoints.yaml
            for server in parse_model(re.sub(r"^[A-Za-z0-9][\w.-]*=", "", spec)).servers:
                if (able := known(server.saved_as, model_name or server.model)) is not None:
                    found = [name for name in found if name in names(AnyResources(), able)]
    return found


def complete_benchmarks(incomplete: str) -> list[str]:
    """The names of benchmarks that begin so."""
    from llava_cot.evaluation.benchmarks import BENCHMARKS

    return _beginning(BENCHMARKS, incomplete)


def _beginning(names: Iterable[str], incomplete: str) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]


# What options made from fields have besides: other flags, the name of their value, shell completion.
_FLAGS: dict[str, tuple[str, ...]] = {"n": ("-n",)}
_METAVARS = {
    "budget": "TOKENS",
    "cache_mb": "MB",
    "calibration": "FILE",
    "examples": "FILE",
    "judge_model": "MODEL",
    "judge_prompts": "FILE",
    "likelihood_weight": "W",
    "max_tokens": "TOKENS",
    "min_think_tokens": "TOKENS",
    "reasoner": "MODEL",
    "reference": "MODEL",
    "think_tokens": "TOKENS",
}
_COMPLETIONS: dict[str, Callable[..., list[str]]] = {"method": complete_methods, "judge": complete_judges}


def options_from(parameter: str, settings: type, names: Sequence[str] | None = None) -> Callable[..., Any]:
    """Replace a parameter of a command, which takes an instance of `settings`, by an option for each field.

    Args:
        parameter: The name of the parameter.
        settings: A pydantic model or dataclass, whose fields have descriptions.
        names: The fields that become options; by default all.
    """
    fields: dict[str, Any] = (
        settings.__pydantic_fields__ if is_dataclass(settings) else settings.model_fields  # type: ignore[attr-defined]
    )
    chosen = {name: fields[name] for name in names or fields}

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        signature = inspect.signature(function, eval_str=True)

        @wraps(function)
        def command(**arguments: Any) -> Any:
            given = {name: arguments.pop(name) for name in chosen}
            return function(**arguments, **{parameter: _make(settings, given)})

        made = [_option(name, field) for name, field in chosen.items()]
        parameters = []
        for known in signature.parameters.values():
            parameters += made if known.name == parameter else [known]
        command.__signature__ = signature.replace(  # type: ignore[attr-defined]
            parameters=[one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in parameters]
        )
        command.__annotations__ = {one.name: one.annotation for one in parameters}
        return command

    return decorate


def _option(name: str, field: Any) -> inspect.Parameter:
    flags = _FLAGS.get(name, ("--" + name.replace("_", "-"),))
    text = {"method": "{methods}; ", "judge": "{judges}; "}.get(name, "")
    option = typer.Option(
        *flags,
        help=text + field.description.removeprefix("The method; ").removeprefix("The judge; "),
        metavar=_METAVARS.get(name),
        autocompletion=_COMPLETIONS.get(name),
    )
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=field.default,
        annotation=Annotated[field.annotation, option],
    )


def _make(settings: type, given: dict[str, Any]) -> Any:
    """An instance of the settings. Raises ValueError with one sentence."""
    from pydantic import ValidationError

    from llava_cot.models.base import Sampling, explain_sampling

    try:
        return settings(**given)
    except ValidationError as error:
        if settings is Sampling:
            name, reason = explain_sampling(error).split(" ", 1)
            raise ValueError(f"--{name.replace('_', '-')} {reason}") from None
        raise ValueError(error.errors()[0]["msg"]) from None


class NamingCommand(TyperCommand):
    """A command in whose help {methods} and {judges} stand for the names of those that there are.

    They are looked up when the help is shown, since plug-ins may add to them.
    """

    def format_options(self, ctx: Context, formatter: HelpFormatter) -> None:
        for param in self.params:
            text: Any = getattr(param, "help", None)
            if text and "{" in text:
                named = text.replace("{methods}", _listed(complete_methods()))
                param.help = named.replace("{judges}", _listed(complete_judges()))  # type: ignore[attr-defined]
        super().format_options(ctx, formatter)


def _listed(names: Iterable[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} or {last}"
