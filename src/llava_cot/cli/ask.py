"""The verb `ask`."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llava_cot.cli.options import (
    Adapters,
    AsJson,
    ChatTemplateKwargs,
    Format,
    Merge,
    ModelName,
    ModelSpec,
    NamingCommand,
    Quiet,
    TrustRemoteCode,
    new_app,
    options_from,
)
from llava_cot.models.base import SAMPLING_OPTIONS, Sampling
from llava_cot.models.hardware import HardwareOptions
from llava_cot.search.request import SearchOptions
from llava_cot.search.resources import ResourceOptions

if TYPE_CHECKING:
    from llava_cot.core.question import LoadedImage
    from llava_cot.core.trace import Trace

app = new_app()


@app.command(cls=NamingCommand)
@options_from("search", SearchOptions)
@options_from("resources", ResourceOptions)
@options_from("sampling", Sampling, SAMPLING_OPTIONS)
@options_from("hardware", HardwareOptions)
def ask(
    *,
    image: Annotated[str, typer.Argument(help="A path, a URL, '-' for standard input, 'none' for no image.")],
    question: Annotated[str, typer.Argument(help="The question.")],
    more: Annotated[
        list[str] | None, typer.Option("--image", metavar="IMAGE", help="One more image; may be repeated.")
    ] = None,
    model: ModelSpec = "mini",
    model_name: ModelName = None,
    adapter: Adapters = None,
    merge: Merge = True,
    trust_remote_code: TrustRemoteCode = False,
    chat_template_kwargs: ChatTemplateKwargs = None,
    search: SearchOptions,
    sampling: Sampling,
    resources: ResourceOptions,
    format: Format = None,
    hardware: HardwareOptions,
    as_json: AsJson = False,
    trace: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Save the trace; with --json also put it in the object."),
    ] = None,
    show_search: Annotated[bool, typer.Option("--show-search", help="Show losers and verdicts too.")] = False,
    quiet: Quiet = False,
) -> None:
    """Answer a question about an image in stages."""
    from llava_cot.core.files import output_file
    from llava_cot.core.format_file import read_format
    from llava_cot.core.question import Question
    from llava_cot.search.ask import answer
    from llava_cot.search.request import make_request
    from llava_cot.search.resources import for_requests, read_resources
    from llava_cot.view.console import CleanConsole
    from llava_cot.view.describe import describe_usage, describe_warning
    from llava_cot.view.terminal import LiveView

    target = output_file(trace) if trace else None
    fmt = read_format(format)
    spec = read_resources(resources, **hardware.given())
    request = make_request(**search.model_dump(), sampling=sampling, fmt=fmt, resources=spec)
    spec = for_requests(spec, [request])
    about = Question(question, tuple(_images(image, more or [])))
    live = sys.stdout.isatty() and not as_json
    out = CleanConsole() if live else None
    err = None if quiet else CleanConsole(error=True)
    view = LiveView(fmt, out=out, err=err, show_search=show_search)
    view.status(f"opening {model}")
    try:
        with spec.open_with(
            model,
            model_name,
            adapter or (),
            merge=merge,
            trust_remote_code=trust_remote_code,
            chat_template_kwargs=chat_template_kwargs,
        ) as (opened, ready):
            result = asyncio.run(answer(request, opened, about, ready, view))
    finally:
        view.close()
    if target is not None:
        result.save(target)
    if as_json:
        print(json.dumps(_reply(result, with_trace=target is not None)))
    elif not live and result.answer is not None:
        print(result.answer)
    if err is None:
        return
    for warning in result.warnings:
        err.out(describe_warning(warning), style="yellow", highlight=False)
    if not as_json:
        err.out(describe_usage(result.usage), style="dim", highlight=False)


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
    reply["warnings"] = record.get("warnings", [])
    return reply | ({"trace": record} if with_trace else {})
