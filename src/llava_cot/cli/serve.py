"""The command line's `serve` verb. Everything heavy is imported when it runs."""

from __future__ import annotations

import sys
from contextlib import closing
from typing import Annotated

import typer

from llava_cot.cli.options import CacheMb, Device, Dtype, ModelName, ModelSpec, Stages, new_app, options_from
from llava_cot.errors import missing_package
from llava_cot.search.resources import ResourceOptions

app = new_app()


@app.command()
@options_from("resources", ResourceOptions)
def serve(
    resources: ResourceOptions,
    model: ModelSpec = "mini",
    model_name: ModelName = None,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 takes any that is free.")] = 8000,
    api_key_env: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The environment variable that holds the key clients must send."),
    ] = None,
    at_once: Annotated[int, typer.Option(help="The most requests that are answered together.")] = 64,
    line: Annotated[int, typer.Option(help="The most requests that wait; others are refused.")] = 256,
    time_limit: Annotated[
        float, typer.Option(metavar="SECONDS", help="For one request, with waiting.")
    ] = 600,
    allow_urls: Annotated[
        bool, typer.Option("--allow-urls", help="Load pictures from public web addresses too.")
    ] = False,
    raw: Annotated[
        bool, typer.Option("--raw", help="Answer with the tagged text, not the conclusion alone.")
    ] = False,
    stages: Stages = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    cache_mb: CacheMb = 2048,
) -> None:
    """Answer over HTTP, as OpenAI's chat completions."""
    try:
        from llava_cot.server.serve import address, listen, run
        from llava_cot.server.service import ServerSettings
    except ModuleNotFoundError as error:
        raise ValueError(missing_package("the server", error.name, extra="serve")) from None
    from llava_cot.core.stages import LLAVA_COT, make_format
    from llava_cot.search.resources import read_resources

    spec = read_resources(resources, device=device, dtype=dtype, cache_mb=cache_mb)
    settings = ServerSettings(
        fmt=make_format(stages) if stages else LLAVA_COT,
        at_once=at_once,
        line=line,
        seconds=time_limit,
        raw=raw,
        allow_urls=allow_urls,
        key=_key(api_key_env) if api_key_env is not None else None,
    )
    with (
        closing(listen(host, port)) as listening,
        spec.open_with(model, model_name) as (opened, ready),
    ):
        print(f"serving {opened.name} at {address(listening)}", file=sys.stderr, flush=True)
        run(opened, settings, listening, ready)


def _key(name: str) -> str:
    import os

    key = os.environ.get(name, "").strip()
    if not key:
        raise ValueError(
            f"the environment variable {name!r} holds no key; set it, or leave --api-key-env out"
        )
    return key
