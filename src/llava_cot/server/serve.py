"""Running the server until it is told to stop.

Owns the socket and the signals.
"""

from __future__ import annotations

import math
import signal
import socket
from contextlib import suppress

import uvicorn

from llava_cot.models.base import Model
from llava_cot.search.resources import Resources
from llava_cot.server.service import ServerSettings
from llava_cot.server.site import make_site


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens, so that an address that is taken is told before a model is opened.

    Raises ValueError.
    """
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.create_server((address[0], port), family=family, backlog=2048)
        # Else a reply's second part waits some 40 ms for the client to confirm the first: asyncio sees to
        # that by itself only for sockets that it has made.
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)
        return listening
    except (OSError, OverflowError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ValueError(
            f"cannot listen on {host}, port {port}: {reason.lower()}; choose another --host or --port"
        ) from None


def address(listening: socket.socket) -> str:
    """Where a client finds the API."""
    host, port, *_ = listening.getsockname()
    return f"http://[{host}]:{port}/v1" if ":" in host else f"http://{host}:{port}/v1"


def run(model: Model, settings: ServerSettings, listening: socket.socket, resources: Resources) -> None:
    """Serve until SIGTERM or SIGINT; what is running or waiting then is finished first."""
    config = uvicorn.Config(
        make_site(model, settings, resources),
        access_log=False,
        log_level="warning",
        server_header=False,
        timeout_graceful_shutdown=math.ceil(settings.seconds) + 1,
    )
    # uvicorn ends with the signal that stopped it, as if unhandled: a requested end is no failure.
    signal.signal(signal.SIGTERM, lambda *_: None)
    with suppress(KeyboardInterrupt):
        uvicorn.Server(config).run(sockets=[listening])
