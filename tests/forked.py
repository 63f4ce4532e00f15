"""A process that has loaded the package and forks a child for each command, which starts in no time then.

    python tests/forked.py FD    # a Unix socket

Each message is a command's arguments, environment and folder as JSON, with its standard streams. The child
goes on as `python -m llava_cot` does; its exit status is the reply. The process ends when the socket is
closed.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import pkgutil
import runpy
import socket
import sys
import threading
import traceback
from contextlib import suppress
from typing import NoReturn

_LARGEST = 2**20  # bytes of a message


def preload() -> None:
    import llava_cot

    for module in pkgutil.walk_packages(llava_cot.__path__, "llava_cot."):
        if not module.name.endswith("__main__"):
            with suppress(ImportError):  # of optional dependencies
                importlib.import_module(module.name)
    for name in ("modeling_mllama", "processing_mllama"):  # mini's, which transformers loads with it
        importlib.import_module(f"transformers.models.mllama.{name}")


def end(arguments: list[str]) -> NoReturn:
    """Run the command, and end as Python does, but for taking all modules to pieces."""
    sys.argv = ["llava_cot", *arguments]
    status = 0
    try:
        runpy.run_module("llava_cot", run_name="__main__", alter_sys=True)
    except SystemExit as exit:
        status = exit.code if isinstance(exit.code, int) else int(exit.code is not None)
    except BaseException:
        traceback.print_exc()
        status = 1
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def serve(requests: socket.socket) -> None:
    while True:
        message, streams, _, _ = socket.recv_fds(requests, _LARGEST, 3)
        if not message:
            return
        child = os.fork()
        if child == 0:
            requests.close()
            for number, stream in enumerate(streams):
                os.dup2(stream, number)
                os.close(stream)
            command = json.loads(message)
            os.environ.clear()
            os.environ.update(command["environment"])
            os.chdir(command["folder"])
            more = os.environ.get("PYTHONPATH", "").split(os.pathsep)
            sys.path[1:1] = [folder for folder in more if folder and folder not in sys.path]
            end(command["arguments"])
        for stream in streams:
            os.close(stream)
        requests.sendall(b"%d\n" % child)
        _, status = os.waitpid(child, 0)
        requests.sendall(b"%d\n" % os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    preload()
    gc.freeze()  # the children's collections would copy what they share with this process
    serve(socket.socket(fileno=int(sys.argv[1])))
