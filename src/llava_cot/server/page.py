"""The web page: ask a question about a picture, and watch stages and search as they are decided.

Built with Gradio, whose own loading of files from the web is turned off. Questions go through the service's
queue; traces are drawn by `view.html`.
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
from llava_cot.search.request import DEFAULT_METHOD, make_request, possible_judges, possible_methods
from llava_cot.search.resources import Resources
from llava_cot.search.search import Began, Event, Search
from llava_cot.server.api_errors import api_error, error_response
from llava_cot.server.chat_request import ChatQuestion, check_text
from llava_cot.server.schemas import MAX_BUDGET
from llava_cot.server.service import Service
from llava_cot.view.html import stylesheet, trace_fragment

# Seconds between two updates of a running search: at least, and at most.
_MIN_UPDATE = 0.1
_MAX_UPDATE = 1.0
_MAX_CANDIDATES = 16  # of the slider
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
.lc-message { padding: .75rem 0; }
.lc-links { display: flex; flex-wrap: wrap; gap: .5rem 1.5rem; padding: .75rem 0; }
"""


class _Page(gradio.Blocks):
    """Refuses files that a request names by URL, which Gradio would fetch."""

    async def preprocess_data(self, block_fn: Any, inputs: list[Any], *args: Any, **kwargs: Any) -> Any:
        if any(_has_url(value) for value in inputs):
            raise gradio.Error("upload the picture; this page loads none from the web")
        try:
            return await super().preprocess_data(block_fn, inputs, *args, **kwargs)
        except ComponentProcessingError:
            raise gradio.Error(
                "the picture is damaged, or the file is not a picture; upload a PNG or JPEG, for example"
            ) from None


def _has_url(value: Any) -> bool:
    """Whether a control's value contains a file at a URL."""
    if isinstance(value, dict):
        return _is_url(value.get("path")) or any(map(_has_url, value.values()))
    return isinstance(value, list) and any(map(_has_url, value))


def _is_url(path: Any) -> bool:
    return isinstance(path, str) and "://" in path


def make_page(service: Service) -> FastAPI:
    """The web page of one server, at /."""
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
    # Unknown addresses get the API's error, which says where the API is.
    app.routes[-1].app.add_exception_handler(404, lambda _, error: error_response(error))  # type: ignore[attr-defined]
    return app


def _blocks(service: Service) -> _Page:
    gradio.set_static_paths(_FOLDER)  # served from there, since Gradio deletes its copies after a while
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
                method = gradio.Dropdown(
                    possible_methods(service.resources), value=DEFAULT_METHOD, label="Method"
                )
                with gradio.Row():
                    n = gradio.Slider(1, _MAX_CANDIDATES, 4, step=1, label="Candidates", min_width=140)
                    judge = gradio.Dropdown(
                        possible_judges(DEFAULT_METHOD, service.resources),
                        value=METHODS[DEFAULT_METHOD].judge,
                        label="Judge",
                        min_width=140,
                    )
                budget = gradio.Number(
                    label="Token budget (0: no limit)",
                    precision=0,
                    value=0,  # an empty field is sent as 0
                    minimum=0,
                    maximum=MAX_BUDGET,
                    visible=METHODS[DEFAULT_METHOD].budgeted,
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
                shown = gradio.HTML(_message("The answer appears here, stage by stage."), elem_id="answer")
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
            concurrency_limit=None,  # the service has a queue of its own
            show_progress="hidden",
        )
        stop.click(
            lambda: _message("Stopped."), None, shown, cancels=asking, api_visibility="private", queue=False
        )
    return page


def _controls(resources: Resources, method: str, judge: str | None) -> tuple[Any, Any, Any]:
    """Update the controls for a method: candidates, its possible judges, budget."""
    declared, judges = METHODS[method], possible_judges(method, resources)
    chosen = judge if judge in judges or not judges else judges[0]
    return (
        gradio.update(visible=not declared.single),
        gradio.update(visible=True, choices=judges, value=chosen) if judges else gradio.update(visible=False),
        gradio.update(visible=declared.budgeted, value=0),
    )


async def _answers(service: Service, *controls: Any) -> AsyncIterator[str]:
    """The answer as HTML, again and again while it grows; an error as a message."""
    try:
        question = _read_controls(service, *controls)
        async for html in _search(service, question):
            yield html
    except Exception as error:
        reply = api_error(error)
        if reply.status_code >= 500:
            _log.error("a question on the page failed", exc_info=error)
        yield _message(f"{reply.body.message[:1].upper()}{reply.body.message[1:]}.", role="alert")


def _read_controls(
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
    """The question that the controls describe. Raises ApiError or RequestError."""
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


async def _search(service: Service, question: ChatQuestion) -> AsyncIterator[str]:
    """The search so far, again and again, and at its end the whole with links."""
    changed = asyncio.Event()
    started: list[Search] = []

    def listen(event: Event) -> None:
        if isinstance(event, Began):
            started.append(event.search)
        changed.set()

    work = asyncio.create_task(service.answer(question, [listen]))
    work.add_done_callback(lambda _: changed.set())
    try:
        while not work.done():
            yield _running(started[0]) if started else _message("Waiting in the queue...")
            changed.clear()
            # Gradio notices a closed browser only when it gets something to send.
            with suppress(TimeoutError):
                await asyncio.wait_for(changed.wait(), _MAX_UPDATE)
            await asyncio.wait({work}, timeout=_MIN_UPDATE)
        [trace] = await work
    finally:
        work.cancel()
    name = service.traces.add(trace)
    yield _links(name) + trace_fragment(trace, "trace", with_question=False)


def _running(search: Search) -> Markup:
    message = _message(f"Searching: {search.stage}..." if search.stage else "Starting...")
    return message + trace_fragment(search.so_far(), "live", with_question=False, running=True)


def _links(name: str) -> Markup:
    """Links to the trace, relative so that they work behind a proxy too."""
    return Markup(
        '<p class="lc-links"><a href="traces/{0}" target="_blank">Link to this answer</a>'
        '<a href="traces/{0}.json" download="trace.json">Download the trace</a></p>'
    ).format(name)


def _message(sentence: str, role: str = "status") -> Markup:
    return Markup('<p class="lc-message" role="{}">{}</p>').format(role, sentence)
