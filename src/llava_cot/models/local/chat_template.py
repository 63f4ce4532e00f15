"""Chat templates of checkpoints: programs that transformers runs in a sandbox, here within bounds.

The sandbox keeps them from the machine, and not from running for ever.
"""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from jinja2 import Environment, TemplateSyntaxError

from llava_cot.errors import ModelError

_SECONDS = 5.0  # the longest prompts take some milliseconds
_FIRST_LOOK, _LOOK = 0.2, 0.05
_MOST_BYTES = 2**30  # that the process may grow meanwhile
_LARGEST = 10**6  # number in a template: larger ones would only multiply texts
_NUMBERS = ("integer", "float")
_MOST_CHARACTERS = 2**20


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


def _size(number: str) -> float:
    try:
        return float(int(number.replace("_", ""), 0))
    except (ValueError, OverflowError):  # it has a point, or too many digits
        return float(number)


def render_bounded(render: Callable[[], str]) -> str:
    """What `render` returns, unless it runs too long or takes too much memory. Raises ModelError then.

    A thread watches it and raises an exception in it, which ends any loop of a template.
    """
    done, raised, lock = threading.Event(), threading.Event(), threading.Lock()
    thread, before = threading.get_ident(), _resident()

    def watch() -> None:
        end, pause = time.monotonic() + _SECONDS, _FIRST_LOOK
        while not done.wait(pause):
            pause = _LOOK
            with lock:
                if not done.is_set() and (time.monotonic() > end or _resident() - before > _MOST_BYTES):
                    raised.set()
                    _raise_in(thread, _OutOfBounds)
                    return

    def end_watch() -> None:
        with lock:
            done.set()
        # An exception that was raised at the last moment is still to come. (Taking it back by raising None
        # would leave the interpreter looking for it at every step.)
        while raised.is_set():
            time.sleep(0.001)

    threading.Thread(target=watch, name="llava-cot template", daemon=True).start()
    try:
        try:
            text = render()
        except _OutOfBounds:
            raise
        except BaseException:
            end_watch()
            raise
        end_watch()
        return text
    except _OutOfBounds:
        raise ModelError("the chat template does not come to an end; use the original checkpoint's") from None
    finally:
        done.set()


def _raise_in(thread: int, error: type[Exception]) -> None:
    """Raise an exception in a thread at its next step of Python."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(error))


def _resident() -> int:
    """The process's memory in bytes, on Linux; 0 elsewhere."""
    with suppress(OSError, ValueError, IndexError):
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
    return 0
