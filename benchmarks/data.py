"""Annotation: its speed beside the teacher's own time, its memory, and what a kill costs.

    python benchmarks/data.py
    python benchmarks/data.py --json > figures.json
    python benchmarks/data.py --quick    # does it run? The figures mean little

Rate: `llava-cot data annotate` as a command, 256 questions in flight, with a server in another process
(`tutoring.py`) that answers after half a second. Possible is 256 / (calls per question x 0.5 s). The time is
from the first request to the last reply, by the server's clock. Each question has a picture of its own.

Memory: what a process grows by, at its peak, from before it begins to annotate until the set is written,
with a teacher that answers at once in the same process; for a thousand questions and for a million.

Kills: SIGKILL at random moments, then a resumed run, until nothing is pending. A call is paid for when the
server has sent the whole reply. It is lost if the client had read the reply, since its connection was used
again, and still made the call again: the reply was on its way to the store, which takes some milliseconds
(more if the processor is shared). A reply that was not read cannot have been saved. The set must be equal to
that of a run without kills, byte for byte.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from PIL import Image

from llava_cot.data.annotation.annotate import annotate_to
from llava_cot.data.annotation.procedure import CALL_KINDS
from llava_cot.data.annotation.teachers import ModelTeacher
from llava_cot.data.reading import RecordFile
from llava_cot.data.record import Picture, Record, Turn, to_json
from llava_cot.data.store import Store
from llava_cot.models.base import Continuation, Prompt, Sampling
from llava_cot.models.endpoint.capabilities import Capabilities, save

IN_FLIGHT = 256
WAIT = 0.5
_ABLE = Capabilities(
    "continue",
    many=False,
    stops=True,
    top_logprobs=0,
    prompt_logprobs=False,
    choice_tokens=3,
    seed=True,
    limit="max_tokens",
    json_schema="none",
    option_fields=(),
    randomness=("temperature", "top_p"),
    stages={},
    thinking="none",
    thinking_prefix="none",
)
_SIDES = (0, 96, 192)  # of the pictures, in pixels; 0 is no picture
_FILES = ("train.jsonl", "rejects.jsonl")
_LATE = 0.2  # seconds that a reply may be late
_PARTS = ("rates", "memory", "kills")


@dataclass(frozen=True)
class Rate:
    """Questions per second. `picture` is the side of each, in pixels, `kilobytes` its file's mean size."""

    picture: int
    kilobytes: float
    questions: int
    calls: float
    possible: float
    reached: float
    seconds: float  # of the whole command

    @property
    def share(self) -> float:
        return self.reached / self.possible


@dataclass(frozen=True)
class Memory:
    questions: int
    megabytes: float
    seconds: float


@dataclass(frozen=True)
class Kills:
    """What kills cost.

    `sent` counts replies, `stored` those that were saved, `twice` calls that were answered twice. Of these,
    `lost` had been read; `tried` were answered twice with no kill between (a connection failed, and its
    request was retried); `oldest` is the longest time between a reply and the next kill, in milliseconds.
    """

    kills: int
    questions: int
    in_flight: int
    sent: int
    stored: int
    twice: int
    lost: int
    tried: int
    oldest: float
    same: bool


@contextmanager
def tutoring(wait: float) -> Iterator[str]:
    """The address of a teacher's server that answers after so many seconds."""
    command = [sys.executable, str(Path(__file__).with_name("tutoring.py")), str(wait)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            url = f"http://127.0.0.1:{int(process.stdout.readline())}/v1"
            save(url, "tutor", _ABLE)  # so that it is not probed
            yield url
        finally:
            process.terminate()


def server_report(url: str) -> Any:
    return httpx.get(url.removesuffix("/v1") + "/told", timeout=60).json()


def write_questions(folder: Path, count: int, side: int = 0) -> float:
    """Write a file of questions, each with a picture of its own unless `side` is 0.

    Returns the pictures' mean size in kilobytes.
    """
    folder.mkdir(parents=True)
    rng, size = np.random.default_rng(0), 0
    slope = np.add.outer(np.arange(side), np.arange(side))[:, :, None] // 3
    with (folder / "questions.jsonl").open("w", encoding="utf-8") as lines:
        for i in range(count):
            name = f"{i}.png"
            if side:
                picture = slope + rng.integers(0, 256, 3) + rng.integers(0, 2, (side, side, 1))
                Image.fromarray((picture % 256).astype(np.uint8)).save(folder / name)
                size += (folder / name).stat().st_size
            turn = Turn(f"Question {i}: which number is this?", str(i), hints="It is written in the text.")
            pictures = (Picture(name, folder / name),) if side else ()
            lines.write(json.dumps(to_json(Record(f"q/{i}", (turn,), pictures, "made up", "CC0-1.0"))) + "\n")
    return size / count / 1000


def begin(source: Path, out: Path, url: str, at_once: int = IN_FLIGHT) -> subprocess.Popen[bytes]:
    command = ["data", "annotate", str(source), "--out", str(out), "--teacher", url, "--model-name", "tutor"]
    return subprocess.Popen(
        [sys.executable, "-m", "llava_cot", *command, "--at-once", str(at_once)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def finish(process: subprocess.Popen[bytes]) -> None:
    _, errors = process.communicate()
    assert process.returncode == 0, errors.decode()


def rate(scratch: Path, questions: int, side: int) -> Rate:
    source, out = scratch / f"questions-{side}", scratch / f"set-{side}"
    kilobytes = write_questions(source, questions, side)
    with tutoring(WAIT) as url:
        began = time.monotonic()
        finish(begin(source, out, url))
        seconds = time.monotonic() - began
        report = server_report(url)
    calls = len(report["sent"]) / questions
    span = report["sent"][-1][1] - report["began"]
    return Rate(side, kilobytes, questions, calls, IN_FLIGHT / (calls * WAIT), questions / span, seconds)


class Instant:
    """A model that answers at once, as `tutoring.py` does on average."""

    name = "instant"

    async def sample(
        self, prompt: Prompt, n: int, sampling: Sampling, on_text: object = None
    ) -> list[Continuation]:
        await asyncio.sleep(0)
        text = "Verdict: correct."
        if "Given answer:" not in prompt.messages[-1].text:
            stages = ("SUMMARY", "CAPTION", "REASONING", "CONCLUSION")
            text = "\n\n".join(f"<{stage}> It is the number there. </{stage}>" for stage in stages)
        return [Continuation(text, (), None, "eos", 900, 300)]

    async def choose(self, prompt: Prompt, options: Sequence[str]) -> list[float]:
        raise NotImplementedError

    def count_tokens(self, prompt: Prompt) -> int:
        return 0

    def price(self, prompt_tokens: int, completion_tokens: int) -> float | None:
        return None


def memory(scratch: Path, questions: int) -> Memory:
    """Measure the memory in a process of its own, since a peak never falls again."""
    source = scratch / f"lines-{questions}"
    write_questions(source, questions)
    command = [sys.executable, __file__, "--grow", str(source), str(scratch / f"grown-{questions}")]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return Memory(questions, **json.loads(done.stdout))


def grow(source: Path, out: Path) -> dict[str, float]:
    some = list(islice(RecordFile(source), 2 * IN_FLIGHT))
    annotate_to(out.with_name(f"{out.name}-warm"), some, ModelTeacher(Instant()))
    before, began = _peak(), time.monotonic()
    annotate_to(out, RecordFile(source), ModelTeacher(Instant()))
    return {"megabytes": _peak() - before, "seconds": time.monotonic() - began}


def _peak() -> float:
    """Megabytes; Linux counts kibibytes, macOS bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1024 if sys.platform == "linux" else 1) / 1e6


def kills(scratch: Path, count: int, questions: int, wait: float, at_once: int) -> Kills:
    source, out, calm = scratch / "killed-questions", scratch / "killed", scratch / "calm"
    write_questions(source, questions)
    rng, at = random.Random(0), []
    with tutoring(wait) as url:
        finish(begin(source, calm, url, at_once))
    with tutoring(wait) as url:
        for _ in range(count):
            process = begin(source, out, url, at_once)
            time.sleep(rng.uniform(0.2, 2.5))
            at.append(time.monotonic())
            process.send_signal(signal.SIGKILL)
            process.communicate()
        finish(begin(source, out, url, at_once))
        sent: list[tuple[str, float, bool]] = server_report(url)["sent"]
    with Store(out) as store:
        counts = store.counts()
    firsts: dict[str, float] = {}
    ages, lost, tried, read = [], 0, 0, set[str]()
    for what, when, was_read in sent:
        if what in firsts:
            requested = firsts[what] - wait - _LATE
            since = [moment - firsts[what] for moment in at if requested < moment < when]
            if since:
                ages.append(min(since))
                lost += what in read
            else:
                tried += 1
        firsts[what] = when
        if was_read:
            read.add(what)
    return Kills(
        kills=count,
        questions=questions,
        in_flight=at_once,
        sent=len(sent),
        stored=sum(counts[kind] for kind in CALL_KINDS),
        twice=sum(times - 1 for times in Counter(what for what, *_ in sent).values()),
        lost=lost,
        tried=tried,
        oldest=1000 * max(ages, default=0.0),
        same=all((out / name).read_bytes() == (calm / name).read_bytes() for name in _FILES),
    )


def rates_table(rates: Sequence[Rate]) -> list[str]:
    lines = [
        f"| {IN_FLIGHT} in flight, answers after {WAIT:g} s | questions | calls each | possible per second | "
        "reached | share | whole command, s |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for one in rates:
        what = f"pictures of {one.picture} x {one.picture}, {one.kilobytes:.0f} kB" if one.picture else "text"
        lines.append(
            f"| {what} | {one.questions:,} | {one.calls:.2f} | {one.possible:.1f} | {one.reached:.1f} | "
            f"{one.share:.1%} | {one.seconds:.1f} |"
        )
    return lines


def memory_table(memories: Sequence[Memory]) -> list[str]:
    lines = ["| questions | memory grows by, MB | seconds |", "| ---: | ---: | ---: |"]
    return lines + [f"| {one.questions:,} | {one.megabytes:.1f} | {one.seconds:.0f} |" for one in memories]


def kills_table(killed: Kills) -> list[str]:
    return [
        f"| killed {killed.kills} times, {killed.questions:,} questions, {killed.in_flight} in flight | |",
        "| --- | ---: |",
        f"| replies sent, saved, sent twice | {killed.sent:,}, {killed.stored:,}, {killed.twice:,} |",
        f"| of these, lost: read before a kill, and not yet saved | {killed.lost} |",
        f"| of these, sent again with no kill between | {killed.tried} |",
        f"| the longest time between a reply and the next kill | {killed.oldest:.0f} ms |",
        f"| the set is equal to that of a run without kills | {'yes' if killed.same else 'NO'} |",
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="few questions and kills")
    parser.add_argument("--only", choices=_PARTS, nargs="+", default=_PARTS, help="some of the tables")
    parser.add_argument("--json", action="store_true", help="one object instead of the tables")
    parser.add_argument("--grow", nargs=2, metavar=("IN", "OUT"), help=argparse.SUPPRESS)
    args = parser.parse_args(arguments)
    if args.grow:
        print(json.dumps(grow(*map(Path, args.grow))))
        return
    values: dict[str, Any] = {}
    lines: list[str] = []
    with tempfile.TemporaryDirectory() as name:
        os.environ["XDG_CACHE_HOME"] = name  # where the capabilities of servers are cached
        scratch = Path(name)
        if "rates" in args.only:
            sizes = [(128, 32)] if args.quick else [(20_480, side) for side in _SIDES]
            rates = [rate(scratch, count, side) for count, side in sizes]
            values["rates"] = [asdict(one) | {"share": one.share} for one in rates]
            lines += [*rates_table(rates), ""]
        if "memory" in args.only:
            memories = [
                memory(scratch, count) for count in ((100, 500) if args.quick else (1000, 10_000, 1_000_000))
            ]
            values["memory"] = [asdict(one) for one in memories]
            lines += [*memory_table(memories), ""]
        if "kills" in args.only:
            killed = (
                kills(scratch, 2, 200, 0.2, 32) if args.quick else kills(scratch, 50, 5000, WAIT, IN_FLIGHT)
            )
            values["kills"] = asdict(killed)
            lines += kills_table(killed)
    print(json.dumps(values, indent=1) if args.json else "\n".join(lines))


if __name__ == "__main__":
    main()
