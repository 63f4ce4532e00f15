"""Running the server on a socket until a signal ends it."""

from __future__ import annotations

import math
import signal
import socket
from contextlib import suppress

import uvicorn

from llava_cot.models.base import Model
from llava_cot.search.resources import Resources
from llava_cot.server.api import make_app
from llava_cot.server.service import ServerSettings


def listen(host: str, port: int) -> socket.socket:
    """Open a listening socket before the model is loaded. Raises ValueError if the address cannot be used."""
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.create_server((address[0], port), family=family, backlog=2048)
        # Without it, the second part of a reply waits some 40 ms for the client's acknowledgment of the
        # first. asyncio sets it only on sockets that it creates itself.
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)
        return listening
    except (OSError, OverflowError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ValueError(
            f"cannot listen on {host}, port {port}: {reason.lower()}; choose another --host or --port"
        ) from None


def api_url(listening: socket.socket) -> str:
    """The URL of the API on a listening socket."""
    host, port, *_ = listening.getsockname()
    return f"http://[{host}]:{port}/v1" if ":" in host else f"http://{host}:{port}/v1"


def run_server(
    model: Model, settings: ServerSettings, listening: socket.socket, resources: Resources
) -> None:
    """Serve until SIGTERM or SIGINT, then finish the requests that run or wait."""
    config = uvicorn.Config(
        make_app(model, settings, resources),
        access_log=False,
        log_level="warning",
        server_header=False,
        timeout_graceful_shutdown=math.ceil(settings.time_limit) + 1,
    )
    # After its shutdown, uvicorn raises the signal that stopped it again; being stopped is no failure here.
    signal.signal(signal.SIGTERM, lambda *_: None)
    with suppress(KeyboardInterrupt):
        uvicorn.Server(config).run(sockets=[listening])
