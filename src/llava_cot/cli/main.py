"""The command `llava-cot`: the table of verbs, and errors as one sentence and an exit status."""

from __future__ import annotations

import atexit
import io
import signal
import sys
import traceback
import warnings
from collections.abc import MutableMapping
from contextlib import redirect_stderr, redirect_stdout
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TextIO

import typer
from typer.core import TyperGroup
from typer.exceptions import TyperException

from llava_cot.core.heavy_imports import own_process
from llava_cot.core.wording import PrintableStream, shortened

if TYPE_CHECKING:
    from typer._click import Command, Context, HelpFormatter

# The verbs with their lines in the help. Each is a module of its name, imported when the verb is chosen.
VERBS = {
    "ask": "Answer a question about an image in stages.",
    "trace": "Show a saved trace, as a tree in the terminal or as a page.",
    "eval": "Answer the questions of benchmarks with models and methods, and score the conclusions.",
    "plan": "Say beforehand which method, judge and N would pay, from one pool of samples.",
    "report": "Write a report on runs: tables, plots, and every question with its answers.",
    "serve": "Answer over HTTP, as OpenAI's chat completions.",
    "data": "Make training data: sample, annotate, check.",
    "train": "Fine-tune a model on staged answers, as a recipe says.",
    "judge": "Measure judges.",
    "models": "Look at models behind servers.",
    "scenes": "Write images of made-up scenes with questions, answers and annotations.",
    "reproduce": "Test the paper's claims on mini, or on your model (without the claim about training).",
}


class _Verbs(TyperGroup):
    """A group whose commands are imported when they are chosen, so that `--help` answers at once."""

    def list_commands(self, ctx: Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: Context, cmd_name: str) -> Command | None:
        if cmd_name not in VERBS:
            return None
        known: MutableMapping[str, Command] = self.commands
        if cmd_name not in known:
            module = import_module(f"llava_cot.cli.{cmd_name}")
            command = typer.main.get_command(module.app)
            command.name = cmd_name
            known[cmd_name] = command
        return known[cmd_name]

    def format_commands(self, ctx: Context, formatter: HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(VERBS.items()))


app = typer.Typer(
    name="llava-cot",
    cls=_Verbs,
    help="Staged answers from vision-language models, and search over the stages.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_debug = False
_LONGEST = 2000  # characters of a sentence, which may quote a text of any length


def main() -> None:
    """The entry point. Exits with 2 and one sentence on bad input, 130 when interrupted."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    with redirect_stdout(_printable(sys.stdout)), redirect_stderr(_printable(sys.stderr)):
        _run()


def _printable(stream: TextIO | None) -> Any:
    """A stream through which no file, model or server can steer the terminal; None where there is none."""
    return None if stream is None else PrintableStream(stream)


def _run() -> NoReturn:
    own_process()
    try:
        sys.exit(app(standalone_mode=False))
    except TyperException as error:
        _misused(error)
    except KeyboardInterrupt:  # a second one; typer has the first
        sys.exit(130)
    except (ValueError, OSError) as error:
        _fail(_sentence(error), 2, error)
    except Exception as error:
        hint = "this is a bug in llava-cot; `llava-cot --debug ...` shows where"
        _fail(f"{type(error).__name__}: {_sentence(error)} ({hint})", 1, error)
    finally:
        # The exit itself is short; an interrupt then would only break off what torch has to tidy up.
        atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)


def _misused(error: TyperException) -> NoReturn:
    """Wrong arguments: one sentence; the help where there is no argument at all."""
    message = error.format_message()
    if "\n" in message:
        print(message, file=sys.stderr)
        sys.exit(2)
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "llava-cot"
    _fail(f"{message.rstrip('.')} (`{command} --help` shows what it takes)", 2, error)


def _fail(sentence: str, status: int, error: Exception) -> NoReturn:
    if _debug:
        traceback.print_exception(error)
    print(f"llava-cot: {sentence}", file=sys.stderr)
    sys.exit(status)


def _sentence(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        name = f"{error.filename}: " if error.filename else ""
        return shortened(name + error.strerror, _LONGEST)
    return shortened(str(error), _LONGEST) or type(error).__name__


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"llava-cot {version('llava-cot')}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show where an error comes from.")] = False,
) -> None:
    global _debug
    _debug = debug
    if not debug:
        warnings.simplefilter("ignore")
