"""Options of more than one verb."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

if TYPE_CHECKING:
    from typer._click import Context, HelpFormatter

ModelSpec = Annotated[
    str,
    typer.Option(help="'mini', the folder of a checkpoint, 'vllm:FOLDER', or a server's address or name."),
]
Stages = Annotated[
    str | None, typer.Option("--format", metavar="STAGES", help="Other stages, such as 'think,answer'.")
]
CacheMb = Annotated[int, typer.Option(metavar="MB", help="The most memory, in MiB, for all caches together.")]
ModelName = Annotated[
    str | None, typer.Option(metavar="NAME", help="Which of a server's models, if it has several.")
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]
Dtype = Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")]
Reasoner = Annotated[
    str | None,
    typer.Option(metavar="M", help="Another model, as --model, for methods that have it reason."),
]
JudgeModel = Annotated[
    str | None,
    typer.Option(metavar="M", help="Another model that judges; a reward model where the judge asks one."),
]
Examples = Annotated[
    str | None, typer.Option(metavar="FILE", help="Examples for methods that show some (YAML).")
]
Calibration = Annotated[
    str | None, typer.Option(metavar="FILE", help="How a judge scores, for methods that have a cut-off.")
]


class Naming(TyperCommand):
    """A command in whose help {methods} and {judges} stand for the names of what there is.

    They are looked up when the help is shown: to know them for every command would cost each its start.
    """

    def format_options(self, ctx: Context, formatter: HelpFormatter) -> None:
        from llava_cot.search.judges import JUDGES
        from llava_cot.search.methods import METHODS

        for param in self.params:
            told: Any = getattr(param, "help", None)
            if told:
                named = told.replace("{methods}", _listed(METHODS)).replace("{judges}", _listed(JUDGES))
                param.help = named  # type: ignore[attr-defined]
        super().format_options(ctx, formatter)


def _listed(names: Iterable[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} or {last}"
