"""The command line's `data` verbs: sample, annotate, check, view, duels, preferences.

Owns their options. Everything heavy is imported by the verb that needs it.
"""

from __future__ import annotations

import typer

data_app = typer.Typer(help="Make data to train on: sample, annotate, check.", no_args_is_help=True)
