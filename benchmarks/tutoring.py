"""A server that stands in for a hosted teacher: four stages and verdicts, some of which are to be rejected.

    python benchmarks/tutoring.py [WAIT]    # seconds before a reply; 0

Prints its port. A reply depends on the request alone, its seed included: of the texts, one in twenty has no
conclusion and one in twenty is exactly the standard answer; of the verdicts, one in twenty is "incorrect". So
a question takes two calls on average. `GET /told` gives every reply that was sent: what it was for (kind,
number, seed), when, in seconds of the machine's monotonic clock, and whether it certainly was read, since its
connection was used again; and when the first request came.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import sys
import time
from weakref import WeakKeyDictionary

from replying import NUMBER, Replying, _send

_SEED = re.compile(rb'"seed": (\d+)')
_FAULTY = 0.05


class Tutoring(Replying):
    """`sent` has every reply, `began` when the first request came."""

    def __init__(self, wait: float) -> None:
        super().__init__(0.0, wait)
        self.sent: list[tuple[str, float, bool]] = []
        self._last: WeakKeyDictionary[asyncio.StreamWriter, int] = WeakKeyDictionary()
        self.began = 0.0

    async def _answer(self, body: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        self.began = self.began or time.monotonic()
        last = self._last.get(writer)
        if last is not None:
            self.sent[last] = (*self.sent[last][:2], True)
        await asyncio.sleep(self._wait)
        number, seed = NUMBER.search(body), _SEED.search(body)
        assert number is not None and seed is not None
        kind = "judge" if b"Given answer:" in body else "write"
        what = f"{kind} {number[1].decode()} {seed[1].decode()}"
        _send(writer, 200, json.dumps(_reply(kind, number[1].decode(), random.Random(what))).encode())
        self._last[writer] = len(self.sent)
        self.sent.append((what, time.monotonic(), False))
        return True

    def report(self) -> dict[str, object]:
        return {"sent": self.sent, "began": self.began}


def _reply(kind: str, number: str, rng: random.Random) -> dict[str, object]:
    if kind == "judge":
        text = f"It names {number}. Verdict: {'incorrect' if rng.random() < _FAULTY else 'correct'}."
        usage = {"prompt_tokens": 250, "completion_tokens": 12, "total_tokens": 262}
    else:
        drawn = rng.random()
        answer = f" {number} " if drawn < _FAULTY else f" It is number {number}. "
        end = "" if drawn > 1 - _FAULTY else f"\n\n<CONCLUSION>{answer}</CONCLUSION>"
        text = (
            "<SUMMARY> I will look for the number that is asked for. </SUMMARY>\n\n"
            f"<CAPTION> {'The picture shows one number among other marks. ' * 12}</CAPTION>\n\n"
            f"<REASONING> {'What is written there can be read. ' * 20}It is {number}. </REASONING>{end}"
        )
        usage = {"prompt_tokens": 900, "completion_tokens": 350, "total_tokens": 1250}
    message = {"role": "assistant", "content": text}
    return {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": usage}


async def main() -> None:
    tutoring = Tutoring(float(sys.argv[1]) if sys.argv[1:] else 0.0)
    server = await asyncio.start_server(tutoring.connected, "127.0.0.1", 0, limit=2**26, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
