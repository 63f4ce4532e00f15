"""The command line's `serve` verb. Everything heavy is imported when it runs."""

from __future__ import annotations

import re
import sys
from contextlib import closing
from typing import Annotated

import typer

from llava_cot.cli.options import (
    Adapters,
    ChatTemplateKwargs,
    Format,
    Merge,
    ModelName,
    ModelSpec,
    TrustRemoteCode,
    new_app,
    options_from,
)
from llava_cot.errors import needs_extra
from llava_cot.models.hardware import HardwareOptions
from llava_cot.search.request import StagingOptions
from llava_cot.search.resources import ResourceOptions

app = new_app()

_NAME = re.compile(r"[\w./@:-]{0,199}[\w./@-]")


@app.command()
@options_from("staging", StagingOptions)
@options_from("resources", ResourceOptions)
@options_from("hardware", HardwareOptions)
def serve(
    *,
    model: ModelSpec = "mini",
    model_name: ModelName = None,
    adapter: Adapters = None,
    merge: Merge = True,
    trust_remote_code: TrustRemoteCode = False,
    chat_template_kwargs: ChatTemplateKwargs = None,
    served_model_name: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="The model's name in the API and in traces, instead of its folder's or its own.",
        ),
    ] = None,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 takes any free one.")] = 8000,
    api_key_env: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The environment variable with the key that clients must send."),
    ] = None,
    at_once: Annotated[
        int, typer.Option(metavar="N", help="Requests that are answered at the same time.")
    ] = 64,
    max_waiting: Annotated[
        int, typer.Option(metavar="N", help="Requests that wait; others are refused.")
    ] = 256,
    time_limit: Annotated[
        float, typer.Option(metavar="SECONDS", help="For one request, waiting included.")
    ] = 600,
    allowed_host: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="A name by which clients may address the server, besides those of this machine, such as "
            "vlm.example.org, *.example.org, or * for any. Repeatable.",
        ),
    ] = None,
    allow_urls: Annotated[
        bool, typer.Option("--allow-urls", help="Also load pictures from public http(s) URLs.")
    ] = False,
    raw: Annotated[
        bool, typer.Option("--raw", help="Reply with the tagged text, not just the conclusion.")
    ] = False,
    resources: ResourceOptions,
    format: Format = None,
    staging: StagingOptions,
    hardware: HardwareOptions,
) -> None:
    """Answer over HTTP, as OpenAI's chat completions."""
    with needs_extra("the server", "serve"):
        from llava_cot.server.api import api_url, listen, run_server
        from llava_cot.server.service import ServerSettings
    from llava_cot.core.format_file import read_format
    from llava_cot.search.request import make_request
    from llava_cot.search.resources import read_resources

    if served_model_name is not None and not _NAME.fullmatch(served_model_name):
        raise ValueError(
            "--served-model-name is 1 to 200 letters, digits and any of ._/@:-, and ends with no colon"
        )
    spec = read_resources(resources, **hardware.given())
    fmt = read_format(format)
    make_request("single", fmt=fmt, **staging.model_dump())  # refuses what no request could change
    settings = ServerSettings(
        fmt=fmt,
        staging=staging,
        max_running=at_once,
        max_waiting=max_waiting,
        time_limit=time_limit,
        raw=raw,
        allow_urls=allow_urls,
        allowed_hosts=(host, *(allowed_host or ())),
        api_key=_key(api_key_env) if api_key_env is not None else None,
    )
    with closing(listen(host, port)) as listening:
        if sys.stderr.isatty():
            print(f"opening {model} ...", file=sys.stderr, flush=True)
        with spec.open_with(
            model,
            model_name,
            adapter or (),
            merge=merge,
            trust_remote_code=trust_remote_code,
            chat_template_kwargs=chat_template_kwargs,
        ) as (opened, ready):
            opened.name = served_model_name or opened.name
            if (room := getattr(opened, "room", None)) is not None:
                print(room, file=sys.stderr)
            print(f"serving {opened.name} at {api_url(listening)}", file=sys.stderr, flush=True)
            run_server(opened, settings, listening, ready)


def _key(name: str) -> str:
    import os

    key = os.environ.get(name, "").strip()
    if not key:
        raise ValueError(f"the environment variable {name!r} has no key; set it, or drop --api-key-env")
    return key
