"""Chat templates of checkpoints: programs that transformers runs in a sandbox, here within bounds.

The sandbox keeps them from the machine, and not from running for ever.
"""

from __future__ import annotations

import ctypes
import logging
import os
import re
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, TemplateSyntaxError

from llava_cot.errors import ModelError

_log = logging.getLogger(__name__)

_SECONDS = 5.0  # the longest prompts take some milliseconds
_LOOK = 0.05
_MOST_BYTES = 2**30  # that the process may grow meanwhile
_LARGEST = 10**6  # number in a template: larger ones would only multiply texts
_NUMBERS = ("integer", "float")
_MOST_CHARACTERS = 2**20
# What the prompt decides, and what transformers makes of a template's text.
_OURS = frozenset({
    "add_generation_prompt", "chat_template", "continue_final_message", "conversation", "messages",
    "processor_kwargs", "return_assistant_tokens_mask", "return_dict", "return_tensors", "self", "tokenize",
})  # fmt: skip


class _OutOfBounds(Exception):
    pass


def check_template(folder: Path, template: Any) -> None:
    """Refuse a template that counts beyond any use, in a step that nothing could stop. Raises ModelError."""
    for text in template.values() if isinstance(template, dict) else [template]:
        if not isinstance(text, str) or len(text) > _MOST_CHARACTERS:
            raise ModelError(f"the chat template of {folder} is no text that can be used")
        with suppress(TemplateSyntaxError):  # reported when it is used
            for _, kind, value in Environment().lexer.tokeniter(text, None):
                if (kind == "operator" and value == "**") or (kind in _NUMBERS and _size(value) > _LARGEST):
                    raise ModelError(
                        f"the chat template of {folder} computes with {value[:20]}: without a bound"
                    )


def check_template_kwargs(given: object, template: str) -> dict[str, Any]:
    """Those of a chat template's further arguments that it reads; of the others, a warning says so.

    Raises ModelError for arguments that are not the user's to set.
    """
    if not isinstance(given, Mapping):
        raise ModelError(f"chat_template_kwargs is a {type(given).__name__}; give names with their values")
    if taken := sorted(_OURS & given.keys()):
        raise ModelError(
            f"chat_template_kwargs has {taken[0]}, which the prompt decides; give what the template itself "
            "reads, such as enable_thinking"
        )
    read = {name: value for name, value in given.items() if re.search(rf"\b{re.escape(name)}\b", template)}
    if unread := sorted(given.keys() - read.keys()):
        _log.warning("the chat template does not read %s, which has no effect", ", ".join(unread))
    return read


def _size(number: str) -> float:
    try:
        return float(int(number.replace("_", ""), 0))
    except (ValueError, OverflowError):  # it has a point, or too many digits
        return float(number)


@dataclass
class _Render:
    """One that is in progress: until when, the process's memory before it, and whether it has been ended."""

    end: float
    before: int
    ended: bool = False


class _Watch:
    """The renders in progress by their threads, and the thread that watches them while there are any.

    A thread for each would take longer than the render.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Begin anew, as in a process that was forked: the thread is not there."""
        self._lock = threading.Lock()
        self._renders: dict[int, _Render] = {}
        self._watching = False

    def begin(self, thread: int) -> None:
        render = _Render(time.monotonic() + _SECONDS, _resident())
        with self._lock:
            self._renders[thread] = render
            start, self._watching = not self._watching, True
        if start:
            threading.Thread(target=self._watch, name="llava-cot template", daemon=True).start()

    def end(self, thread: int) -> None:
        with self._lock:
            render = self._renders.pop(thread)
        # An exception that was raised at the last moment is still to come. (Taking it back by raising None
        # would leave the interpreter looking for it at every step.)
        while render.ended:
            time.sleep(0.001)

    def forget(self, thread: int) -> None:
        with self._lock:
            self._renders.pop(thread, None)

    def _watch(self) -> None:
        while True:
            time.sleep(_LOOK)
            with self._lock:
                for thread, render in self._renders.items():
                    over = time.monotonic() > render.end or _resident() - render.before > _MOST_BYTES
                    if over and not render.ended:
                        render.ended = True
                        _raise_in(thread, _OutOfBounds)
                if not self._renders:
                    self._watching = False
                    return


_watch = _Watch()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_watch.reset)


def render_bounded(render: Callable[[], str]) -> str:
    """What `render` returns, unless it runs too long or takes too much memory. Raises ModelError then.

    Another thread watches it and raises an exception in it, which ends any loop of a template.
    """
    thread = threading.get_ident()
    try:
        _watch.begin(thread)
        try:
            text = render()
        except _OutOfBounds:
            raise
        except BaseException:
            _watch.end(thread)
            raise
        _watch.end(thread)
        return text
    except _OutOfBounds:
        raise ModelError("the chat template does not come to an end; use the original checkpoint's") from None
    finally:
        _watch.forget(thread)


def _raise_in(thread: int, error: type[Exception]) -> None:
    """Raise an exception in a thread at its next step of Python."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(error))


def _resident() -> int:
    """The process's memory in bytes, on Linux; 0 elsewhere."""
    with suppress(OSError, ValueError, IndexError):
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
    return 0
