"""Importing torch and transformers, and ending with them, in less time and without needless warnings.

They make a million objects that stay. Searching these for garbage takes a fifth of an import's time, and a
second at the end of the process.
"""

from __future__ import annotations

import atexit
import gc
import logging
from collections.abc import Iterator
from contextlib import contextmanager

# It warns of what is usual on a CPU, when transformers imports it and at each pass of a network.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)

_own_process = False


def own_process() -> None:
    """For commands: garbage that is there after heavy imports is not looked for, at the end none at all."""
    global _own_process
    _own_process = True
    atexit.register(gc.freeze)


@contextmanager
def heavy_imports() -> Iterator[None]:
    """Collect no garbage meanwhile."""
    enabled, frozen = gc.isenabled(), gc.get_freeze_count()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if not _own_process and not frozen:
            gc.unfreeze()  # frozen and unfrozen, all is in the oldest generation without having been searched
        if enabled:
            gc.enable()
