"""Fuzzers: inputs that are made from good ones by chance, and what must hold of each.

An input gives a result, or one clear sentence in an exception of the package; never another exception, never
more than a few seconds, never much memory. The inputs follow from a seed. The failing one is saved, and
`make fuzz SEED=...` begins with it; `make fuzz SECONDS=600` runs longer.
"""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from llava_cot.errors import (
    DataError,
    DownloadError,
    ImageError,
    ModelError,
    RequestError,
    StoreError,
)

# For all fuzzers together, and the first seed.
SECONDS = float(os.environ.get("FUZZ_SECONDS", "60"))
SEED = int(os.environ.get("FUZZ_SEED", "0"))
REFUSALS = (DataError, DownloadError, ImageError, ModelError, RequestError, StoreError)
_LONGEST = 10.0  # seconds of one input, of the clock
_MOST_BYTES = 400 * 2**20  # by which the process may grow for one input
_LONGEST_SENTENCE = 10_000  # commands and the server show 2,000 characters

WORDS = (
    "", " ", "\0", "\n", "\r\n", "\x1b[2J\x1b]0;x\x07", "\x9b31m", "\u202e", "\ufeff", "\ud800",
    "\U0010ffff", "é" * 300, "a" * 5000, "../../etc/passwd", "/dev/zero", "/etc/passwd",
    "file:///etc/passwd", "http://127.0.0.1:9/x", "~root/x", "data:image/png;base64,", "data:,%", "nan",
    "-inf", "1e999", "0", "-1", "9" * 400, "true", "null", "none", "[]", "{}", "<image>", "<|image|>",
    "<SUMMARY>", "</CONCLUSION>", "{{ x }}", "{% for i in range(9) %}", "%s%n", "${HOME}", "'", '"', "١٢٣",
    "twenty-one", "1,234.5 cm", "−5", "½", "1/0", "(" * 200, "*" * 200, "a" * 40 + "!",
)  # fmt: skip
NUMBERS = (
    0, -1, 1, 2, 3, 27, 255, 2**31, 2**32, 2**53 + 1, 2**63, 2**64, -(2**63) - 1, 10**30, 10**400, 0.0,
    -0.0, 0.5, 1e-320, 1e308, -1e308, float("inf"), float("-inf"), float("nan"), True, False,
)  # fmt: skip
_TOKENS = [
    *(word.encode("utf-8", "surrogatepass") for word in WORDS if len(word) < 400),
    b"\x00", b"\xff", b"\xff\xff\xff\xff", b"\x00\x00\x00\x00", b"\x7f\xff\xff\xff", b"\x80",
    b"\xed\xa0\x80", b"\xef\xbb\xbf", b"{", b"}", b"[", b"]", b"[" * 500, b'{"a":' * 300, b",", b":", b'"',
    b"\\", b"\\ud800", b"\\u0000", b"NaN", b"Infinity", b"1e999", b"- ", b": ", b"&a ", b"*a", b"<<: ",
    b"!!float ", b"!!python/name:os.system ", b"\t", b"|\n", b">\n", b"---\n",
]  # fmt: skip


def mutate_bytes(rng: random.Random, data: bytes, others: Sequence[bytes] = ()) -> bytes:
    """The data with a few changes: bytes, pieces, and well-known troublemakers."""
    made = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 3, 8))):
        at = rng.randrange(len(made) + 1)
        to = min(len(made), at + rng.choice((1, 1, 2, 4, 16, 100)))
        match rng.randrange(7):
            case 0:
                made[at:to] = rng.randbytes(to - at)
            case 1:
                made[at:at] = rng.choice(_TOKENS)
            case 2:
                made[at:to] = rng.choice(_TOKENS)
            case 3:
                del made[at:to]
            case 4:
                made[at:at] = made[at:to] * rng.choice((1, 2, 50))
            case 5 if others:
                other = rng.choice(others)
                begin = rng.randrange(len(other) + 1)
                made[at:to] = other[begin : begin + rng.randrange(200)]
            case 6 if rng.random() < 0.3:
                del made[at:]
    return bytes(made)


def value(rng: random.Random, depth: int = 0) -> Any:
    """Any JSON value."""
    kind = rng.randrange(9)
    if kind < 3:
        return rng.choice(WORDS)
    if kind < 6:
        return rng.choice(NUMBERS)
    if kind == 6:
        return None
    if depth > 2:
        return rng.choice(([], {}))
    if kind == 7:
        return [value(rng, depth + 1) for _ in range(rng.choice((0, 1, 2, 30)))]
    return {rng.choice(WORDS): value(rng, depth + 1) for _ in range(rng.choice((0, 1, 3)))}


def mutate_json(rng: random.Random, found: Any) -> Any:
    """The value with a few changes of its parts, at random places."""
    made = json.loads(json.dumps(found))
    for _ in range(rng.choice((1, 1, 2, 4))):
        places: list[tuple[Any, Any]] = []
        _places(made, places)
        if not places:
            return value(rng)
        inside, at = rng.choice(places)
        match rng.randrange(6):
            case 0:
                del inside[at]
            case 1:
                other, there = rng.choice(places)
                inside[at] = json.loads(json.dumps(other[there]))
            case 2 if isinstance(inside, dict):
                inside[rng.choice(WORDS)] = inside[at]
            case 3 if isinstance(inside, list):
                inside.extend([inside[at]] * rng.choice((1, 3, 100)))
            case _:
                inside[at] = value(rng)
    return made


def _places(found: Any, places: list[tuple[Any, Any]]) -> None:
    """Every part of a value, as what holds it and where it is in that."""
    for at, part in found.items() if isinstance(found, dict) else enumerate(found):
        places.append((found, at))
        if isinstance(part, dict | list) and len(places) < 5000:
            _places(part, places)


def mutate_document(rng: random.Random, found: Any, others: Sequence[bytes] = ()) -> bytes:
    """A JSON text with changed values, or changed bytes, or both."""
    made = mutate_json(rng, found) if rng.random() < 0.8 else found
    text = json.dumps(made, ensure_ascii=rng.random() < 0.7)
    data = text.encode("utf-8", "surrogatepass")
    return mutate_bytes(rng, data, others) if rng.random() < 0.4 else data


def fuzz(
    name: str,
    share: float,
    make: Callable[[random.Random], bytes],
    check: Callable[[bytes], object],
    *,
    refusals: tuple[type[Exception], ...] = REFUSALS,
    longest: float = _LONGEST,
) -> None:
    """Check inputs for a share of the time.

    Args:
        name: What is fuzzed.
        share: Of `SECONDS`.
        make: Makes an input.
        check: Uses an input; raises one of `refusals`, or returns.
        refusals: The exceptions that are allowed, each with one sentence.
        longest: The seconds that one input may take.
    """
    folder = Path(tempfile.mkdtemp(prefix=f"fuzz-{name}-"))
    path = folder / "input"
    end, seed, refused = time.monotonic() + share * SECONDS, SEED, 0
    while time.monotonic() < end or seed == SEED:
        data = make(random.Random(seed))
        path.write_bytes(data)
        before, began = _peak(), time.monotonic()
        problem = ""
        signal.signal(signal.SIGALRM, _too_long)
        signal.setitimer(signal.ITIMER_REAL, 3 * longest)
        try:
            check(data)
        except refusals as refusal:
            refused += 1
            text = str(refusal)
            if os.environ.get("FUZZ_SHOW"):
                print(f"{name}: {seed}: {text[:300]!r}", file=sys.stderr)
            if not text or "\n" in text or len(text) > _LONGEST_SENTENCE:
                problem = f"the sentence is none: {text[:500]!r}"
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt | SystemExit):
                raise
            problem = "".join(traceback.format_exception(error)[-8:])
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        took, grown = time.monotonic() - began, _peak() - before
        if not problem and took > longest:
            problem = f"it took {took:.1f} seconds"
        if not problem and grown > _MOST_BYTES and seed > SEED:  # the first one loads libraries
            problem = f"it took {grown / 2**20:.0f} MiB"
        if problem:
            raise AssertionError(f"{name}: FUZZ_SEED={seed}, the input is in {path}\n{problem}")
        seed += 1
    path.unlink()
    folder.rmdir()
    print(f"{name}: {seed - SEED} inputs, {refused} refused", file=sys.stderr)


def _too_long(*_: object) -> None:
    raise TimeoutError("it does not come to an end")


def _peak() -> int:
    """The most memory that the process has had, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
