"""The web app: a picture and a question in, stages and search out as they are decided.

Owns the page and its controls. In which turn a question is answered is decided where the API's requests are,
how a trace looks in `show.page`. Built with Gradio, whose own way to load files from the web is closed.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import gradio
from fastapi import FastAPI
from gradio.exceptions import ComponentProcessingError
from markupsafe import Markup

from llava_cot.core.images import ImageLimits
from llava_cot.models.base import Sampling
from llava_cot.search.methods import METHODS
from llava_cot.search.request import make_request, possible_judges, possible_methods
from llava_cot.search.resources import Resources
from llava_cot.search.search import Began, Event, Search
from llava_cot.server.api_errors import api_error, error_response
from llava_cot.server.chat_request import ChatQuestion, check_text
from llava_cot.server.schemas import MAX_BUDGET
from llava_cot.server.service import Service, answer
from llava_cot.view.html import stylesheet, trace_fragment

# Seconds between two pictures of a search: at least, and at most.
_PAUSE = 0.1
_BEAT = 1.0
_SHOWN_CANDIDATES = 16  # as far as the slider goes
_FIRST = "stage-beam"  # as for `ask`
# Items 24, 14, 30 and 20 of `llava-cot scenes --split validation --seed 1`.
_FOLDER = Path(__file__).with_name("examples")
_EXAMPLES = (
    (
        "chain.png",
        "Remove all small purple metal objects. Add 4 cyan spheres. How many objects are left now?",
    ),
    ("compare.png", "Are there more purple objects than large cylinders?"),
    ("count.png", "How many metal objects do you see?"),
    ("position.png", "What is the color of the object on the far left?"),
)
_HOUR = 3600
_log = logging.getLogger(__name__)

_STYLE = """
.lc-trace { max-width: none; padding: 0; }
.lc-trace .lc-stage { margin-top: .5rem; padding: .75rem 1rem; border: 1px solid var(--line); }
.lc-trace .lc-stage { border-radius: .5rem; background: var(--paper); }
.lc-said { padding: .75rem 0; }
.lc-links { display: flex; flex-wrap: wrap; gap: .5rem 1.5rem; padding: .75rem 0; }
"""


class _Page(gradio.Blocks):
    """Fetches no file that a request names by its address, as Gradio would."""

    async def preprocess_data(self, block_fn: Any, inputs: list[Any], *args: Any, **kwargs: Any) -> Any:
        if any(_is_elsewhere(value) for value in inputs):
            raise gradio.Error("pictures are uploaded; this page loads none from the web")
        try:
            return await super().preprocess_data(block_fn, inputs, *args, **kwargs)
        except ComponentProcessingError:
            raise gradio.Error("the picture is damaged, or none; take a PNG or JPEG, say") from None


def _is_elsewhere(value: Any) -> bool:
    """Whether a file in it is at an address."""
    if isinstance(value, dict):
        return _is_address(value.get("path")) or any(map(_is_elsewhere, value.values()))
    return isinstance(value, list) and any(map(_is_elsewhere, value))


def _is_address(path: Any) -> bool:
    return isinstance(path, str) and "://" in path


def make_page(service: Service) -> FastAPI:
    """The page of one server, at /."""
    page = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app: FastAPI = gradio.mount_gradio_app(
        page,
        _blocks(service),
        path="/",
        footer_links=[],
        run_history=False,
        max_file_size=ImageLimits().max_bytes,
        ssr_mode=False,
        mcp_server=False,
        theme=gradio.themes.Default(
            font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]
        ),
        css=stylesheet() + _STYLE,
        app_kwargs={"docs_url": None, "redoc_url": None, "openapi_url": None},
    )
    # Most likely the API is looked for: say where it is, as that does.
    app.routes[-1].app.add_exception_handler(404, lambda _, error: error_response(error))  # type: ignore[attr-defined]
    return app


def _blocks(service: Service) -> _Page:
    gradio.set_static_paths(_FOLDER)  # shown from there, not from copies, which are deleted in time
    page = _Page(title="llava-cot", analytics_enabled=False, delete_cache=(_HOUR, _HOUR), fill_width=True)
    with page:
        gradio.Markdown(f"# llava-cot\nAsk **{service.model.name}** about a picture.")
        with gradio.Row():
            with gradio.Column(scale=1, min_width=320):
                picture = gradio.Image(
                    label="Picture",
                    type="filepath",
                    image_mode=None,
                    sources=["upload", "clipboard"],
                    height=280,
                )
                question = gradio.Textbox(label="Question", max_lines=5)
                method = gradio.Dropdown(possible_methods(service.resources), value=_FIRST, label="Method")
                with gradio.Row():
                    n = gradio.Slider(1, _SHOWN_CANDIDATES, 4, step=1, label="Candidates", min_width=140)
                    judge = gradio.Dropdown(
                        possible_judges(_FIRST, service.resources),
                        value=METHODS[_FIRST].judge,
                        label="Judge",
                        min_width=140,
                    )
                budget = gradio.Number(
                    label="Tokens at most (0: no bound)",
                    precision=0,
                    value=0,  # an empty field is sent as 0
                    minimum=0,
                    maximum=MAX_BUDGET,
                    visible=METHODS[_FIRST].budgeted,
                )
                with gradio.Accordion("More", open=False):
                    temperature = gradio.Slider(0, 2, Sampling().temperature, step=0.05, label="Temperature")
                    seed = gradio.Number(label="Seed (empty: a new one each time)", precision=0, value=None)
                with gradio.Row():
                    go = gradio.Button("Ask", variant="primary", min_width=120)
                    stop = gradio.Button("Stop", min_width=120)
                examples = [[str(_FOLDER / name), text] for name, text in _EXAMPLES]
                gradio.Examples(examples, [picture, question], label="Examples")
            with gradio.Column(scale=2, min_width=320):
                shown = gradio.HTML(_said("The answer appears here, stage by stage."), elem_id="answer")
        method.change(
            partial(_controls, service.resources),
            [method, judge],
            [n, judge, budget],
            api_visibility="private",
            queue=False,
        )
        asking = gradio.on(
            [go.click, question.submit],
            partial(_answers, service),
            [picture, question, method, n, judge, budget, temperature, seed],
            shown,
            api_visibility="private",
            concurrency_limit=None,  # the service has a line of its own
            show_progress="hidden",
        )
        stop.click(
            lambda: _said("Stopped."), None, shown, cancels=asking, api_visibility="private", queue=False
        )
    return page


def _controls(resources: Resources, method: str, judge: str | None) -> tuple[Any, Any, Any]:
    """What a method leaves to choose: candidates, a judge (the chosen one, if it can be), a budget."""
    kind, able = METHODS[method], possible_judges(method, resources)
    chosen = judge if judge in able or not able else able[0]
    return (
        gradio.update(visible=not kind.single),
        gradio.update(visible=True, choices=able, value=chosen) if able else gradio.update(visible=False),
        gradio.update(visible=kind.budgeted, value=0),
    )


async def _answers(service: Service, *controls: Any) -> AsyncIterator[str]:
    """The answer as it grows, as HTML."""
    try:
        asked = _asked(service, *controls)
        async for shown in _searched(service, asked):
            yield shown
    except Exception as error:
        told = api_error(error)
        if told.status_code >= 500:
            _log.error("a question on the page failed", exc_info=error)
        yield _said(f"{told.body.message[:1].upper()}{told.body.message[1:]}.", role="alert")


def _asked(
    service: Service,
    picture: str | None,
    question: str,
    method: str,
    n: int,
    judge: str | None,
    budget: int | None,
    temperature: float,
    seed: int | None,
) -> ChatQuestion:
    """What the controls say. Raises ApiError or ValueError."""
    check_text(question)
    declared = METHODS[method]
    judge = judge if declared.judge is not None else None
    request = make_request(
        method,
        n=1 if declared.single else n,
        judge=judge,
        sampling=Sampling(temperature=temperature, seed=random.getrandbits(31) if seed is None else seed),
        budget=(budget or None) if declared.budgeted else None,
        fmt=service.settings.fmt,
        resources=service.resources.fitting(method, judge),
    )
    return ChatQuestion(question, () if picture is None else (Path(picture),), request)


async def _searched(service: Service, asked: ChatQuestion) -> AsyncIterator[str]:
    """What there is of the answer, again and again, and at the end all of it with its links."""
    grown = asyncio.Event()
    begun: list[Search] = []

    def listen(event: Event) -> None:
        if isinstance(event, Began):
            begun.append(event.search)
        grown.set()

    work = asyncio.create_task(answer(service, asked, [listen]))
    work.add_done_callback(lambda _: grown.set())
    try:
        while not work.done():
            yield _growing(begun[0]) if begun else _said("Waiting for its turn...")
            grown.clear()
            # Gradio notices that a browser has gone when it is given something for it.
            with suppress(TimeoutError):
                await asyncio.wait_for(grown.wait(), _BEAT)
            await asyncio.wait({work}, timeout=_PAUSE)
        [trace] = await work
    finally:
        work.cancel()
    name = service.traces.add(trace)
    yield _links(name) + trace_fragment(trace, "trace", with_question=False)


def _growing(search: Search) -> Markup:
    said = _said(f"Searching: {search.stage}..." if search.stage else "Beginning...")
    return said + trace_fragment(search.so_far(), "live", with_question=False, running=True)


def _links(name: str) -> Markup:
    """Relative, so that they hold behind a proxy too."""
    return Markup(
        '<p class="lc-links"><a href="traces/{0}" target="_blank">Link to this answer</a>'
        '<a href="traces/{0}.json" download="trace.json">Download the trace</a></p>'
    ).format(name)


def _said(sentence: str, role: str = "status") -> Markup:
    return Markup('<p class="lc-said" role="{}">{}</p>').format(role, sentence)
