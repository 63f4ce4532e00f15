"""A chat completions server that thinks of nothing: it answers at once, or late, or fails at random.

    python benchmarks/replying.py [SHARE [WAIT]]    # of requests that fail, and seconds before a reply; 0

Prints its port. Every request is answered, in one piece or as a stream, with four stages whose conclusion is
the number in the question, so that an answer can be told from another's. `GET /told` is how often each number
was answered whole, and how often each fault was met. A fault is one of: status 429 or 500; a connection that
is dropped before the reply, or in it; a body that stalls; JSON that breaks off.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import sys
from collections import Counter

FAULTS = ("429", "500", "dropped", "cut", "stalled", "broken")
NUMBER = re.compile(rb"Question (\d+)")


class Replying:
    """`told` counts the answers that were sent whole, by number; `met` the faults."""

    def __init__(self, share: float, wait: float) -> None:
        self._share, self._wait = share, wait
        self._rng = random.Random(0)
        self.told: Counter[str] = Counter()
        self.met: Counter[str] = Counter()

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
                body = await reader.readexactly(int(length[1])) if length else b""
                if head.startswith(b"GET"):
                    _send(writer, 200, json.dumps(self.report()).encode())
                elif not await self._answer(body, reader, writer):
                    break
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    def report(self) -> dict[str, object]:
        return {"told": self.told, "met": self.met}

    async def _answer(self, body: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Whether the connection goes on."""
        await asyncio.sleep(self._wait)
        found = NUMBER.search(body)
        number = found[1].decode() if found else "0"
        reply = _reply(number, b'"stream": true' in body)
        if self._rng.random() >= self._share:
            _send(writer, 200, reply)
            self.told[number] += 1
            return True
        fault = self._rng.choice(FAULTS)
        self.met[fault] += 1
        if fault in ("429", "500"):
            _send(writer, int(fault), b'{"error": {"message": "told to fail"}}')
        elif fault == "broken":
            _send(writer, 200, reply[: len(reply) // 2])
        elif fault == "dropped":
            writer.transport.abort()
        else:
            _send(writer, 200, reply, sent=len(reply) // 2)
            if fault == "stalled":
                await reader.read(1)  # until the client has had enough
        return fault in ("429", "500", "broken")


def _reply(number: str, streamed: bool) -> bytes:
    text = (
        "<SUMMARY>I will read the number.</SUMMARY>\n\n<CAPTION>There is one number.</CAPTION>\n\n"
        f"<REASONING>The number is {number}.</REASONING>\n\n<CONCLUSION>{number}</CONCLUSION>"
    )
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "delta" if streamed else "message": message, "finish_reason": "stop"}
    usage = {"prompt_tokens": 20, "completion_tokens": 40, "total_tokens": 60}
    reply = json.dumps({"choices": [choice], "usage": usage})
    return f"data: {reply}\n\ndata: [DONE]\n\n".encode() if streamed else reply.encode()


def _send(writer: asyncio.StreamWriter, status: int, body: bytes, sent: int | None = None) -> None:
    wait = "Retry-After: 0\r\n" if status == 429 else ""
    head = f"HTTP/1.1 {status} Said\r\nContent-Type: application/json\r\n{wait}"
    writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body[:sent])


async def main() -> None:
    share, wait, *_ = [*map(float, sys.argv[1:]), 0.0, 0.0]
    replying = Replying(share, wait)
    server = await asyncio.start_server(replying.connected, "127.0.0.1", 0, limit=2**26, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
