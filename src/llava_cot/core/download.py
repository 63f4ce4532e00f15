"""Fetching a file from a public web address, within limits of size, time and hosts."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import TypeVar

import httpx

from llava_cot.errors import DownloadError

MAX_REDIRECTS = 5
_HEADERS = {"User-Agent": "llava-cot", "Accept": "image/*,*/*;q=0.5", "Accept-Encoding": "identity"}

# IPv6 addresses that stand for an IPv4 address in their last 32 bits (RFC 4291, RFC 6052).
_WITH_IPV4 = (IPv6Network("::ffff:0:0/96"), IPv6Network("::/96"), IPv6Network("64:ff9b::/96"))
_PUBLIC_IPV6 = IPv6Network("2000::/3")  # all that has been given out for hosts (RFC 4291, section 2.4)


def download(url: str, *, max_bytes: int, max_seconds: float, allow_private: bool = False) -> bytes:
    """The body of an http(s) URL, after at most five redirects. Raises DownloadError.

    Unless `allow_private`, a host is refused if any of its addresses is not a public one; with it, such a
    host may be named, but a public one still may not redirect to it. In any case the
    connection is made to an address that was checked, so that a second look-up cannot change it.
    Proxies of the environment are not used. May be called with or without a running event loop; blocks.
    """
    fetch = partial(_in_time, url, max_bytes, max_seconds, allow_private)
    return _in_thread(lambda: asyncio.run(fetch())).result()


_T = TypeVar("_T")


def _in_thread(function: Callable[[], _T]) -> Future[_T]:
    """Run a function in a thread that nothing waits for, so that neither an interrupt nor a time limit does.

    A look-up in particular cannot be stopped, and a name server that does not answer holds it for
    minutes; an executor would wait for it when its loop closes, or at the latest when the process ends.
    """
    result: Future[_T] = Future()
    result.set_running_or_notify_cancel()

    def run() -> None:
        try:
            result.set_result(function())
        except BaseException as error:
            result.set_exception(error)

    threading.Thread(target=run, name="llava-cot download", daemon=True).start()
    return result


async def _in_time(url: str, max_bytes: int, max_seconds: float, allow_private: bool) -> bytes:
    try:
        async with asyncio.timeout(max_seconds):
            return await _follow(url, max_bytes, allow_private)
    except (TimeoutError, httpx.TimeoutException):
        raise DownloadError(f"it did not arrive within {max_seconds:g} seconds") from None
    except httpx.InvalidURL:
        raise DownloadError("the address is not well formed") from None
    except httpx.HTTPError as error:
        raise DownloadError(f"the connection failed ({str(error) or type(error).__name__})") from None


async def _follow(url: str, max_bytes: int, allow_private: bool) -> bytes:
    # Certificates named by SSL_CERT_FILE and SSL_CERT_DIR are honored, proxies are not.
    context = httpx.create_ssl_context()
    target = httpx.URL(url)
    async with httpx.AsyncClient(verify=context, trust_env=False, headers=_HEADERS, timeout=None) as client:
        for hop in range(MAX_REDIRECTS + 1):
            addresses = await _addresses(target, allow_private)
            if hop == 0:  # only who names a private host may be sent to one
                allow_private = not all(is_public(address) for address in addresses)
            response = await _connect(client, target, addresses)
            try:
                if not response.has_redirect_location:
                    return await _body(response, max_bytes)
                target = target.join(response.headers["location"])
            finally:
                await response.aclose()
    raise DownloadError(f"it is redirected more than {MAX_REDIRECTS} times")


async def _connect(client: httpx.AsyncClient, url: httpx.URL, addresses: list[str]) -> httpx.Response:
    failure: httpx.HTTPError | None = None
    for address in addresses:
        request = client.build_request(
            "GET",
            url.copy_with(host=address),
            headers={"Host": url.netloc.decode("ascii")},
            extensions={"sni_hostname": url.raw_host.decode("ascii")},
        )
        try:
            return await client.send(request, stream=True)
        except httpx.ConnectError as error:
            failure = error
    raise failure or DownloadError("its host has no address")


async def _addresses(url: httpx.URL, allow_private: bool) -> list[str]:
    if url.scheme not in ("http", "https") or not url.host:
        raise DownloadError("only addresses that begin with http:// or https:// can be fetched")
    try:
        host, port = url.raw_host.decode("ascii"), url.port or (443 if url.scheme == "https" else 80)
        look_up = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
        found = await asyncio.wrap_future(_in_thread(look_up))
    except (OSError, UnicodeError):
        raise DownloadError(f"the host {url.host} is not known; check the address") from None
    addresses = list(dict.fromkeys(str(item[4][0]) for item in found))
    if not allow_private and not all(is_public(address) for address in addresses):
        raise DownloadError(f"the host {url.host} is in a private or reserved network, which is refused")
    return addresses


def is_public(address: str) -> bool:
    """Whether an IP address, in text, belongs to a host of the public internet."""
    ip = ip_address(address.partition("%")[0])
    if isinstance(ip, IPv6Address):
        if any(ip in network for network in _WITH_IPV4):
            ip = IPv4Address(int(ip) & 0xFFFF_FFFF)
        elif ip.sixtofour is not None:
            ip = ip.sixtofour
        elif ip not in _PUBLIC_IPV6:
            return False
    return ip.is_global and not ip.is_multicast and not ip.is_reserved


async def _body(response: httpx.Response, max_bytes: int) -> bytes:
    if response.status_code != 200:
        raise DownloadError(f"the server answered {response.status_code} {response.reason_phrase}".rstrip())
    length = response.headers.get("content-length", "")
    data = bytearray()
    too_large = length.isdecimal() and int(length[:20]) > max_bytes
    if not too_large:
        async for chunk in response.aiter_raw():
            data += chunk
            if len(data) > max_bytes:
                too_large = True
                break
    if too_large:
        raise DownloadError(f"it has more than the {max_bytes / 1e6:g} MB allowed")
    return bytes(data)
