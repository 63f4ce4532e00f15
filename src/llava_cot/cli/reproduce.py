"""The verb `reproduce`. The study itself is in the repository's research/paper, not in the wheel."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

import typer

from llava_cot.cli.options import new_app


def _study() -> typer.Typer:
    """The command of the checkout that this package is installed from, or one that explains its absence."""
    root = Path(__file__).resolve().parents[3]
    if (root / "research" / "paper").is_dir():
        sys.path.append(str(root))
        found: typer.Typer = import_module("research.paper.command").app
        return found
    missing = new_app()

    @missing.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
    def reproduce() -> None:
        """Test the paper's claims (from a clone of the repository)."""
        raise ValueError(
            "reproduce runs the repository's research/paper, which the package does not have; run it from a "
            "clone, installed with: make install EXTRAS=eval"
        )

    return missing


app = _study()
