"""The command line: read the arguments, call, show.

Owns the options and the mapping of errors to exit statuses. Everything heavy is imported by the verb
that needs it, so that `--help` answers at once.
"""

from __future__ import annotations

import atexit
import io
import json
import signal
import sys
import traceback
import warnings
from contextlib import closing
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from typer.exceptions import TyperException

from llava_cot.cli.data import data_app
from llava_cot.cli.eval import evaluate
from llava_cot.cli.judge import judge_app
from llava_cot.cli.options import (
    CacheMb,
    Calibration,
    Device,
    Dtype,
    Examples,
    JudgeModel,
    ModelName,
    ModelSpec,
    Naming,
    Reasoner,
    Stages,
)
from llava_cot.cli.report import report
from llava_cot.cli.reproduce import reproduce
from llava_cot.cli.serve import serve
from llava_cot.cli.train import train

if TYPE_CHECKING:
    from llava_cot.core.question import LoadedImage
    from llava_cot.core.trace import Trace

app = typer.Typer(
    name="llava-cot",
    help="Staged answers from vision-language models, and search over the stages.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


models_app = typer.Typer(help="Look at models behind servers.", no_args_is_help=True)
app.add_typer(models_app, name="models")
app.add_typer(data_app, name="data")
app.add_typer(judge_app, name="judge")
app.command("train")(train)
app.command("eval")(evaluate)
app.command("report")(report)
app.command("reproduce")(reproduce)
app.command("serve")(serve)

_debug = False


def main() -> None:
    """The entry point. Exits with 2 and one sentence on bad input, 130 when interrupted."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    try:
        sys.exit(app(standalone_mode=False))
    except TyperException as error:
        _misused(error)
    except KeyboardInterrupt:  # a second one; typer has the first
        sys.exit(130)
    except (ValueError, OSError) as error:
        _fail(_sentence(error), 2, error)
    except Exception as error:
        hint = "this is a fault of llava-cot; `llava-cot --debug ...` shows where"
        _fail(f"{type(error).__name__}: {_sentence(error)} ({hint})", 1, error)
    finally:
        # The exit itself is short; an interrupt then would only break off what torch has to tidy up.
        atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)


def _misused(error: TyperException) -> NoReturn:
    """Arguments that make no command: one sentence; the help where there is no argument at all."""
    told = error.format_message()
    if "\n" in told:
        print(told, file=sys.stderr)
        sys.exit(2)
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "llava-cot"
    _fail(f"{told.rstrip('.')} (`{command} --help` shows what it takes)", 2, error)


def _fail(sentence: str, status: int, error: Exception) -> NoReturn:
    if _debug:
        traceback.print_exception(error)
    print(f"llava-cot: {sentence}", file=sys.stderr)
    sys.exit(status)


def _sentence(error: Exception) -> str:
    from llava_cot.core.text import one_line

    if isinstance(error, OSError) and error.strerror:
        name = f"{error.filename}: " if error.filename else ""
        return one_line(name + error.strerror)
    return one_line(str(error)) or type(error).__name__


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


@app.command(cls=Naming)
def ask(
    image: Annotated[
        str, typer.Argument(help="A path, a URL, '-' for standard input, 'none' for no picture.")
    ],
    question: Annotated[str, typer.Argument(help="What is asked.")],
    more: Annotated[
        list[str] | None, typer.Option("--image", metavar="IMAGE", help="One more picture; may be repeated.")
    ] = None,
    model: ModelSpec = "mini",
    model_name: ModelName = None,
    method: Annotated[str, typer.Option(help="{methods}.")] = "stage-beam",
    n: Annotated[
        int | None,
        typer.Option("-n", help="Candidates; the method's own number if not given."),
    ] = None,
    judge: Annotated[str | None, typer.Option(help="{judges}; the method's own if not given.")] = None,
    budget: Annotated[
        int | None,
        typer.Option(
            metavar="TOKENS", help="The most new tokens of the question, where a method keeps to it."
        ),
    ] = None,
    reasoner: Reasoner = None,
    judge_model: JudgeModel = None,
    examples: Examples = None,
    calibration: Calibration = None,
    temperature: Annotated[float, typer.Option(help="0 is greedy.")] = 0.6,
    top_p: Annotated[float, typer.Option(help="Sample from the likeliest tokens of this mass.")] = 0.9,
    max_tokens: Annotated[int, typer.Option(help="The most new tokens of one sample.")] = 2048,
    seed: Annotated[int, typer.Option(help="The same seed gives the same answer.")] = 0,
    stages: Stages = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    cache_mb: CacheMb = 2048,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
    trace: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Save the trace; with --json also put it in the object."),
    ] = None,
    show_search: Annotated[bool, typer.Option("--show-search", help="Show losers and verdicts too.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Nothing on standard error.")] = False,
) -> None:
    """Answer a question about a picture in stages."""
    from rich.console import Console

    from llava_cot import ask_sync
    from llava_cot.core.files import output_file
    from llava_cot.core.question import Question
    from llava_cot.core.stages import LLAVA_COT, make_format
    from llava_cot.search.ask import settings
    from llava_cot.search.equipping import equip
    from llava_cot.view.describe import describe_usage
    from llava_cot.view.terminal import LiveView

    target = output_file(trace) if trace else None
    settings(method, n, judge, temperature, top_p, max_tokens, seed, budget)
    equipment = equip(
        [(method, judge)], reasoner=reasoner, judge_model=judge_model, examples=examples,
        calibration=calibration, device=device, dtype=dtype, cache_mb=cache_mb,
    )  # fmt: skip
    fmt = make_format(stages) if stages else LLAVA_COT
    images = _images(image, more or [])
    live = sys.stdout.isatty() and not as_json
    out = Console(highlight=False) if live else None
    err = None if quiet else Console(stderr=True, highlight=False)
    view = LiveView(fmt, out=out, err=err, show_search=show_search)
    view.status(f"opening {model}")
    try:
        with equipment.opened_with(model, model_name) as (opened, extras):
            result = ask_sync(
                opened, None, Question(question, tuple(images)), method=method, n=n, judge=judge,
                temperature=temperature, top_p=top_p, max_tokens=max_tokens, seed=seed, fmt=fmt,
                budget=budget, extras=extras, on_event=view,
            )  # fmt: skip
    finally:
        view.close()
    if target is not None:
        result.save(target)
    if as_json:
        print(json.dumps(_reply(result, with_trace=target is not None)))
    elif not live and result.answer is not None:
        print(result.answer)
    if err is not None and not as_json:
        note = "" if result.answer is not None else "the model gave no conclusion · "
        err.out(note + describe_usage(result.usage), style="dim", highlight=False)


def _images(image: str, more: list[str]) -> list[LoadedImage]:
    if image == "none" and more:
        raise ValueError("IMAGE is 'none', yet --image names a picture; give it as IMAGE")
    sources = [] if image == "none" else [image, *more]
    if sources.count("-") > 1:
        raise ValueError("standard input holds one picture; give '-' once")
    return [_image(source) for source in sources]


def _image(source: str) -> LoadedImage:
    from llava_cot.core.question import ImageLimits, load_image

    if source != "-":
        return load_image(source, allow_private_hosts=True)
    if sys.stdin is None or sys.stdin.isatty():
        raise ValueError("'-' reads the picture from standard input; send one in, as in `... - < scene.png`")
    data = sys.stdin.buffer.read(ImageLimits().max_bytes + 1)
    return load_image(data, name="standard input")


def _reply(trace: Trace, with_trace: bool) -> dict[str, Any]:
    """What `--json` prints."""
    record = json.loads(trace.model_dump_json())
    images = [
        {key: image[key] for key in ("name", "sha256", "width", "height")}
        for image in record["question"]["images"]
    ]
    keys = ("model", "method", "n", "seed", "stages", "answer", "usage")
    reply = {"question": trace.question.text, "images": images} | {key: record[key] for key in keys}
    return reply | ({"trace": record} if with_trace else {})


@app.command("trace")
def show_trace(
    file: Annotated[str, typer.Argument(help="A trace, as `ask --trace FILE` saves it.")],
    html: Annotated[str | None, typer.Option(metavar="OUT", help="Write one self-contained page.")] = None,
) -> None:
    """Show a saved trace, as a tree in the terminal or as a page."""
    from llava_cot.core.trace import Trace

    loaded = Trace.load(file)
    if html is None:
        from rich.console import Console

        from llava_cot.view.tree import trace_tree

        Console(highlight=False).print(trace_tree(loaded))
        return
    from llava_cot.core.files import write_whole
    from llava_cot.view.html import trace_page

    write_whole(html, trace_page(loaded))
    print(f"wrote {html}", file=sys.stderr)


@app.command()
def scenes(
    out: Annotated[str, typer.Argument(help="The folder to write to.")],
    count: Annotated[int, typer.Option(help="How many scenes.")] = 100,
    seed: Annotated[int, typer.Option(help="The same seed gives the same scenes.")] = 0,
    split: Annotated[
        str, typer.Option(help="train, validation or test; no scene is in two of them.")
    ] = "test",
) -> None:
    """Write pictures of made-up scenes with questions, answers and annotations."""
    from llava_cot.scenes.write import write_scenes

    questions = write_scenes(out, count=count, seed=seed, split=split)
    print(f"wrote {questions}", file=sys.stderr)


@models_app.command()
def check(
    server: Annotated[str, typer.Argument(help="An address, or a name in endpoints.yaml.")],
    model_name: ModelName = None,
) -> None:
    """Find out anew what a server can do, and keep it for the next time."""
    from llava_cot.models.endpoint.capabilities import kept_in
    from llava_cot.models.registry import open_endpoint

    with closing(open_endpoint(server, model_name, fresh=True)) as opened:
        print(opened.describe())
    print(f"kept in {kept_in()}", file=sys.stderr)
