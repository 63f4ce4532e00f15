"""Processes that decode pictures, with limits of time and memory; a picture breaks nothing but its process.

They are started when the first picture needs one, as commands of their own: multiprocessing would run the
user's script again in each. They load Pillow and no more, and end with this process, however it ends.
"""

from __future__ import annotations

import atexit
import os
import signal
import socket
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable
from typing import TypeVar

from llava_cot.core.decoding import (
    DECODED,
    LITTLE_MEMORY,
    REPLY,
    REQUEST,
    Decoded,
    Unusable,
    assemble,
    decode,
    quick_pixels,
    receive,
    strip_sizes,
    upright_size,
)

_T = TypeVar("_T")
# Of computing, for one picture: 50 megapixels take less, in each of the formats.
MAX_SECONDS = 2.0
# Of the clock, for a process that gets no time: only a machine that is far too busy needs so long.
_MAX_WAIT = 60.0
POOL_SIZE = max(2, min(32, os.cpu_count() or 1))
LITTLE_MEMORY_REASON = "there was not enough memory to decode it; free some, or make it smaller"
_COMMAND = (
    "import sys; sys.path[:] = sys.argv[2:]; "
    "from llava_cot.core.decoding import serve; serve(int(sys.argv[1]))"
)
_BUFFER = 1_000_000  # bytes between the two processes
_LONGEST_REASON = 1000  # bytes
# What loading Pillow may need. The keys of servers are not among it.
_VARIABLES = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "TMPDIR")


def decode_bounded(data: bytes, max_pixels: int) -> Decoded:
    """Decode a picture's file within limits of time and memory. Blocks.

    A file whose header bounds the time is decoded in this process.

    Raises:
        Unusable: The picture cannot be decoded, or not within the limits.
    """
    return decode(data, max_pixels) if _is_quick(data) else _pool.decode(data, max_pixels)


def size_bounded(data: bytes, max_pixels: int) -> tuple[int, int]:
    """The size of the picture that `decode_bounded` gives. Raises Unusable."""
    return upright_size(data, max_pixels) if _is_quick(data) else _pool.size(data, max_pixels)


def _is_quick(data: bytes) -> bool:
    return sys.platform == "win32" or quick_pixels(data) is not None


class DecoderPool:
    """Up to `size` processes that decode pictures. May be used by many threads.

    Attributes:
        started: The number of processes that were started so far.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self.started = 0
        self._begin()

    def _begin(self) -> None:
        self._turns = _Turns(self._size)
        self._idle: list[_Decoder] = []
        self._all: set[_Decoder] = set()

    def decode(self, data: bytes, max_pixels: int) -> Decoded:
        """As `decode_bounded`."""
        return self._use(lambda decoder: decoder.decode(data, max_pixels))

    def size(self, data: bytes, max_pixels: int) -> tuple[int, int]:
        """As `size_bounded`."""
        return self._use(lambda decoder: decoder.ask(data, max_pixels, size_only=True)[0])

    def _use(self, function: Callable[[_Decoder], _T]) -> _T:
        with self._turns:
            decoder = self._take()
            try:
                result = function(decoder)
            except _Refused:
                self._idle.append(decoder)
                raise
            except (EOFError, OSError):
                reason = decoder.why_ended()
                self._drop(decoder)
                raise Unusable(reason) from None
            except BaseException:  # such as an interrupt, after which its reply would be the next one's
                self._drop(decoder)
                raise
            self._idle.append(decoder)
            return result

    def _drop(self, decoder: _Decoder) -> None:
        self._all.discard(decoder)
        decoder.end()

    def _take(self) -> _Decoder:
        while self._idle:
            decoder = self._idle.pop()
            if decoder.alive:
                return decoder
            self._drop(decoder)
        decoder = _Decoder()
        self.started += 1
        self._all.add(decoder)
        return decoder

    def close(self) -> None:
        """End all processes; new ones are started when they are needed."""
        found = list(self._all)
        self._begin()
        for decoder in found:
            decoder.end()

    def forget(self) -> None:
        """In a process that was forked: leave the processes to the parent."""
        for decoder in list(self._all):
            decoder.forget()
        self._begin()


class _Refused(Unusable):
    """Said by a process that goes on."""


class _Turns:
    """Lets so many threads in at a time, in the order in which they came, as threading.Semaphore does not."""

    def __init__(self, free: int) -> None:
        self._free = free
        self._lock = threading.Lock()
        self._waiting: deque[threading.Lock] = deque()

    def __enter__(self) -> None:
        with self._lock:
            if self._free:
                self._free -= 1
                return
            turn = threading.Lock()
            turn.acquire()
            self._waiting.append(turn)
        try:
            turn.acquire()
        except BaseException:  # an interrupt
            with self._lock:
                given = turn not in self._waiting
                if not given:
                    self._waiting.remove(turn)
            if given:
                self.__exit__()
            raise

    def __exit__(self, *_: object) -> None:
        with self._lock:
            if self._waiting:
                self._waiting.popleft().release()
            else:
                self._free += 1


class _Decoder:
    """One process."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair()
        self._socket.settimeout(_MAX_WAIT)
        with theirs:
            for end in (self._socket, theirs):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)
            command = [sys.executable, "-I", "-S", "-c", _COMMAND, str(theirs.fileno()), *sys.path]
            try:
                self._process = subprocess.Popen(
                    command,
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,  # what the C libraries say of damaged files
                    env={name: os.environ[name] for name in _VARIABLES if name in os.environ},
                    process_group=0,  # a Ctrl-C in the terminal is for the user's command
                )
            except OSError as error:
                self._socket.close()
                raise Unusable(f"no process can be started to decode it ({error.strerror})") from None

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def decode(self, data: bytes, max_pixels: int) -> Decoded:
        """Decode a picture. Raises as `ask`."""
        size, bare = self.ask(data, max_pixels)
        strips = (receive(self._socket, 3 * size[0] * rows) for rows in strip_sizes(size))
        return assemble(size, strips, bare)

    def ask(self, data: bytes, max_pixels: int, size_only: bool = False) -> tuple[tuple[int, int], bool]:
        """Send a picture; returns its size, and whether its file is bare. The pixels follow if wanted.

        Raises _Refused for what is wrong with it, EOFError or OSError if the process ended or must be ended.
        """
        self._socket.sendall(REQUEST.pack(len(data), max_pixels, size_only, MAX_SECONDS))
        self._socket.sendall(data)
        outcome, width, height, bare, length = REPLY.unpack(receive(self._socket, REPLY.size))
        if length > _LONGEST_REASON or (not size_only and width * height > max_pixels):
            raise EOFError  # a process that was taken over
        if outcome != DECODED:
            reason = receive(self._socket, length).decode(errors="replace")
            raise _Refused(LITTLE_MEMORY_REASON if outcome == LITTLE_MEMORY else reason)
        return (width, height), bare

    def why_ended(self) -> str:
        """Why the process ended, or has to, in the middle of a picture."""
        try:
            status = self._process.wait(timeout=1.0)
        except subprocess.TimeoutExpired:
            return f"it was not decoded within {_MAX_WAIT:g} seconds; the machine is too busy"
        if status == -signal.SIGPROF:
            return f"decoding it takes more than {MAX_SECONDS:g} seconds of computing; save it again as PNG"
        if status == -signal.SIGKILL:  # by the system, when memory is short
            return LITTLE_MEMORY_REASON
        if status < 0:
            return "it is damaged: its decoder crashed"
        return f"the process that decodes pictures ended with status {status}"

    def end(self) -> None:
        self._process.kill()
        self._process.wait()
        self._socket.close()

    def forget(self) -> None:
        self._process.returncode = 0  # it is not this process's child
        self._socket.close()


_pool = DecoderPool(POOL_SIZE)
atexit.register(_pool.close)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.forget)
