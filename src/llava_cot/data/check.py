"""Checks a folder of records, line by line: what would be wrong to train on, and where.

Owns which checks there are. How each of them tells is the subject of `agreement.py`, `giveaways.py`,
`overlap.py` and `stages.py`. Between lines it keeps hashes alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path

from llava_cot.data.agreement import agrees
from llava_cot.data.findings import Examined, Finding, Report
from llava_cot.data.giveaways import leaks, refusal
from llava_cot.data.looking import Look, look_at_all
from llava_cot.data.overlap import Benchmarks, Fingerprint, question_key
from llava_cot.data.reading import Line, data_file, read_lines
from llava_cot.data.records import Record, Turn
from llava_cot.stages import LLAVA_COT, Answer, StageFormat, parse, validate


def check(
    folder: Path,
    benchmarks: Benchmarks | None = None,
    *,
    fmt: StageFormat = LLAVA_COT,
    processes: int = 1,
    on_progress: Callable[[int], None] | None = None,
) -> Report:
    """Check a folder; see `examine`."""
    report = Report(data_file(folder))
    for examined in examine(report.file, benchmarks, fmt=fmt, processes=processes):
        report.add(examined)
        if on_progress:
            on_progress(examined.line.end)
    return report


def examine(
    file: Path, benchmarks: Benchmarks | None = None, *, fmt: StageFormat = LLAVA_COT, processes: int = 1
) -> Iterator[Examined]:
    """The lines of a data file, each with what is wrong in it, lazily.

    Pictures are looked at in so many processes (see `looking.look_at_all`).
    """
    lines = ((line, _files(line)) for line in read_lines(file))
    ids: dict[bytes, int] = {}
    asked: dict[bytes, int] = {}
    for line, looks in look_at_all(lines, perceptual=benchmarks is not None, processes=processes):
        record = line.record
        if record is None:
            yield Examined(line, (), (Finding("line", line.number, None, None, line.problem),))
            continue
        findings = [*_same_id(line.number, record, ids), *_pictures(line, record, looks)]
        agreeing = undecided = 0
        for number, turn in enumerate(record.turns):
            if turn.response is None:
                continue
            answer = parse(turn.response, fmt)
            findings += _response(line.number, record.id, number, turn, answer, fmt)
            conclusion = answer.conclusion
            if not conclusion or not turn.answer:
                continue
            agreement = agrees(conclusion, turn.answer, turn.options)
            agreeing += agreement is True
            undecided += agreement is None
            if agreement is False:
                what = f"{conclusion!r} where the answer is {_standard(turn)}"
                findings.append(Finding("contradiction", line.number, record.id, number, what))
        if not line.outside and not any(look.problem for look in looks):
            findings += _asked_before(line.number, record, looks, asked)
        if benchmarks is not None:
            findings += _of_benchmark(line.number, record, looks, benchmarks)
        yield Examined(line, tuple(looks), tuple(findings), agreeing, undecided)


def _files(line: Line) -> list[tuple[str, Path]]:
    pictures = line.record.pictures if line.record else ()
    return [(picture.name, picture.file) for picture in pictures if picture.file is not None]


def _digest(*texts: str) -> bytes:
    text = "\0".join(texts).encode("utf-8", "surrogatepass")
    return blake2b(text, digest_size=16).digest()


def _same_id(number: int, record: Record, ids: dict[bytes, int]) -> Iterator[Finding]:
    first = ids.setdefault(_digest(record.id), number)
    if first != number:
        yield Finding("id", number, record.id, None, f"line {first} has this id")


def _pictures(line: Line, record: Record, looks: list[Look]) -> Iterator[Finding]:
    for name in line.outside:
        what = f"the picture {name!r} lies outside of the folder"
        yield Finding("picture", line.number, record.id, None, what, "outside")
    for look in looks:
        if look.problem:
            detail = "missing" if look.missing else "unreadable"
            yield Finding("picture", line.number, record.id, None, look.problem, detail)


def _response(
    line: int, id: str, number: int, turn: Turn, answer: Answer, fmt: StageFormat
) -> Iterator[Finding]:
    for departure in validate(answer.text, fmt):
        yield Finding("stages", line, id, number, departure.detail, departure.kind)
    if words := refusal(answer, turn.answer):
        yield Finding("refusal", line, id, number, f"it says {words!r}")
    for stage, words in leaks(answer, turn.text):
        yield Finding("leak", line, id, number, f"{words!r} in the {stage or 'response'}", stage or "")


def _standard(turn: Turn) -> str:
    """The standard answer for people: with the option's text, where it is a letter."""
    index = ord(turn.answer) - ord("A") if turn.answer and len(turn.answer) == 1 else -1
    known = 0 <= index < len(turn.options)
    return f"{turn.answer!r} ({turn.options[index]})" if known else repr(turn.answer)


def _asked_before(
    number: int, record: Record, looks: list[Look], asked: dict[bytes, int]
) -> Iterator[Finding]:
    """Questions that were asked about the same pictures before, in this record or an earlier one."""
    pictures = [look.sha256 for look in looks]
    seen: set[bytes] = set()
    for turn in range(len(record.turns)):
        key = _digest(*pictures, question_key(replace(record, turns=record.turns[turn : turn + 1])))
        first = asked.setdefault(key, number)
        if first != number or key in seen:
            what = f"line {first} asks the same about the same picture"
            yield Finding("duplicate", number, record.id, turn, what if pictures else f"line {first} asks it")
        seen.add(key)


def _of_benchmark(
    number: int, record: Record, looks: list[Look], benchmarks: Benchmarks
) -> Iterator[Finding]:
    prints = [Fingerprint(look.sha256, look.phash) for look in looks if look.phash is not None]
    found = benchmarks.overlap(record, prints)
    if found:
        what = {"picture": "its picture is in a benchmark", "text": "its question is in a benchmark"}[found]
        yield Finding("benchmark", number, record.id, None, what, found)
