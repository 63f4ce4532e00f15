"""A folder of training data from traces: pairs for DPO-style trainers, and records for fine-tuning.

Pairs are in TRL's conversational form with pictures (TRL 1.16). TRL cannot continue an assistant's message
(its trainer renders `prompt + chosen`), so the answer so far begins both `chosen` and `rejected`.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, TextIO

from llava_cot.core.files import bounded_lines, check_new_folder, check_regular
from llava_cot.core.images import load_image
from llava_cot.core.question import PLACE, Question, question_text
from llava_cot.core.trace import Trace
from llava_cot.data.preferences.pairs import PreferencePair, pairs, winning
from llava_cot.data.record import Picture, Record, to_json
from llava_cot.errors import DataError, ImageError

PAIRS, ANSWERS = "preferences.jsonl", "train.jsonl"


@dataclass
class PreferencesResult:
    """How many pairs and answers the traces gave, and how many were left out by reason."""

    traces: int = 0
    pairs: int = 0
    answers: int = 0
    pairs_left: Counter[str] = field(default_factory=Counter)
    answers_left: Counter[str] = field(default_factory=Counter)

    def left_out(self) -> str:
        """What was left out and why, on one line; empty if nothing was."""
        parts = (
            (noun, ", ".join(f"{count:,} {reason}" for reason, count in left.most_common()))
            for noun, left in (("pairs", self.pairs_left), ("answers", self.answers_left))
        )
        return "; ".join(f"{noun}: {reasons}" for noun, reasons in parts if reasons)


def make_preferences(
    traces: Sequence[Path],
    out: Path,
    *,
    keep_wrong: bool = False,
    on_progress: Callable[[int], None] = lambda done: None,
) -> PreferencesResult:
    """Write the pairs and answers of traces, in files or folders that `ask --trace` saved, into a new or
    empty folder.

    `preferences.jsonl` and `train.jsonl` appear when all is done; one without lines is not written.
    `keep_wrong` keeps pairs whose winner concludes with another answer than the reference. `on_progress` gets
    the number of traces read.

    Raises:
        DataError: The folder holds other files, or the traces give nothing.
        ValueError: A file is no trace.
    """
    files = trace_files(traces)
    # What an interrupted run left may be there.
    check_new_folder(out, {"images", f"{PAIRS}.part", f"{PAIRS}.kept", f"{ANSWERS}.part"})
    out.mkdir(parents=True, exist_ok=True)
    parts = [out / f"{name}.part" for name in (PAIRS, ANSWERS)]
    writer = _Writer(out, keep_wrong)
    try:
        with (
            parts[0].open("w", encoding="utf-8") as of_pairs,
            parts[1].open("w", encoding="utf-8") as of_answers,
        ):
            for place, trace in read_traces(files):
                try:
                    writer.write(trace, of_pairs, of_answers)
                except ValueError as error:
                    raise DataError(f"{place}: {error}") from None
                on_progress(writer.made.traces)
        writer.drop_contradictions(parts[0])
        made = writer.made
        if not made.pairs and not made.answers:
            raise DataError(f"there is nothing to train on in the traces ({made.left_out()})")
        for part, count in zip(parts, (made.pairs, made.answers), strict=True):
            if count:
                part.replace(part.with_suffix(""))
        return made
    finally:
        for part in (*parts, parts[0].with_suffix(".kept")):
            part.unlink(missing_ok=True)


class _Writer:
    """Writes the pairs and answers of one trace after the other, with hashes of those before."""

    def __init__(self, out: Path, keep_wrong: bool) -> None:
        self.made = PreferencesResult()
        self._out = out
        self._keep_wrong = keep_wrong
        self._written: set[bytes] = set()
        self._contradicted: set[bytes] = set()
        self._ids: Counter[bytes] = Counter()

    def write(self, trace: Trace, of_pairs: TextIO, of_answers: TextIO) -> None:
        self.made.traces += 1
        found, left = pairs(trace, keep_wrong=self._keep_wrong)
        turn, reason = winning(trace)
        if any(PLACE in text for text in (trace.question.text, *trace.question.options)):
            left["pictures stand within the question, and TRL puts them before it"] += len(found)
            found = []
        names = save_pictures(trace, self._out) if found or turn else []
        if names is None:
            left["a picture is not in the trace"] += len(found)
            found, turn, reason = [], None, "a picture is not in the trace" if turn else reason
        self.made.pairs_left += left
        base = trace.question.id or f"trace-{_digest(names, trace.question.text).hex()[:12]}"
        for pair in found:
            line = _line(base, pair, trace, names or [])
            if not self._new(_key(line)):
                self.made.pairs_left["the same pair was there before"] += 1
                continue
            of_pairs.write(json.dumps(line) + "\n")
            self.made.pairs += 1
            if _key(line, "rejected", "chosen") in self._written:
                self._contradicted |= {_key(line), _key(line, "rejected", "chosen")}
        if turn is None:
            self.made.answers_left[reason] += 1
        elif self._new(_digest(names, turn.text, turn.response)):
            extra = {"model": trace.model, "method": trace.method, "judge": trace.judge}
            pictures = tuple(Picture(name) for name in names or [])
            record = Record(self._id(base), (turn,), pictures, "traces", extra=extra)
            of_answers.write(json.dumps(to_json(record)) + "\n")
            self.made.answers += 1
        else:
            self.made.answers_left["the same answer was there before"] += 1

    def drop_contradictions(self, part: Path) -> None:
        """Remove pairs whose opposite was judged as well, in any trace: they teach nothing."""
        if not self._contradicted:
            return
        remaining = part.with_suffix(".kept")
        with part.open(encoding="utf-8") as lines, remaining.open("w", encoding="utf-8") as left:
            for line in lines:
                if _key(json.loads(line)) in self._contradicted:
                    self.made.pairs -= 1
                    self.made.pairs_left["the opposite was chosen as well"] += 1
                else:
                    left.write(line)
        remaining.replace(part)

    def _new(self, key: bytes) -> bool:
        if key in self._written:
            return False
        self._written.add(key)
        return True

    def _id(self, base: str) -> str:
        """`base`, with a number if it is taken by another answer to the same question."""
        while True:
            key = _digest(base)
            self._ids[key] += 1
            if self._ids[key] == 1:
                return base
            base = f"{base}-{self._ids[key]}"


def _line(id: str, pair: PreferencePair, trace: Trace, names: list[str]) -> dict[str, Any]:
    question = question_text(Question(trace.question.text, options=trace.question.options))
    return {
        "id": id,
        "images": names,
        "prompt": [{"role": "user", "content": question}],
        "chosen": [{"role": "assistant", "content": pair.prefix + pair.chosen}],
        "rejected": [{"role": "assistant", "content": pair.prefix + pair.rejected}],
        "prefix": pair.prefix,
        "stage": pair.stage,
        "judge": pair.judge,
        "decided_by": pair.decided_by,
        "model": trace.model,
    }


def _key(line: dict[str, Any], *order: str) -> bytes:
    """A hash of a pair, or of its opposite if the order is reversed."""
    return _digest(line["images"], line["prompt"], *(line[side] for side in order or ("chosen", "rejected")))


def _digest(*what: Any) -> bytes:
    return sha256(json.dumps(what).encode()).digest()[:16]


_DATA_URL = re.compile(r"data:image/(png|jpeg|webp|gif);base64,(.*)", re.DOTALL)


def trace_files(paths: Sequence[Path]) -> list[Path]:
    """The files among the paths, and those in folders. Raises DataError for a path without any."""
    files: list[Path] = []
    for path in paths:
        if not path.exists():
            raise DataError(f"there is no {path}; name traces that `ask --trace` saved, or a folder of them")
        check_regular(path)
        inside = sorted(path.rglob("*.json")) + sorted(path.rglob("*.jsonl")) if path.is_dir() else [path]
        if not inside:
            raise DataError(
                f"{path} holds no traces, which are .json or .jsonl files; `ask --trace` saves them"
            )
        files += inside
    return files


def read_traces(files: Sequence[Path]) -> Iterator[tuple[str, Trace]]:
    """Yield each trace with its place. Raises DataError for a file that is no trace."""
    for file in files:
        if file.suffix.lower() != ".jsonl":
            yield str(file), Trace.load(file)
            continue
        check_regular(file)
        try:
            with file.open("rb") as lines:
                for number, (line, length) in enumerate(bounded_lines(lines), 1):
                    if length > len(line):
                        raise DataError(f"{file}, line {number} is longer than any trace")
                    if line.strip():
                        yield f"{file}, line {number}", Trace.parse(line, f"{file}, line {number},")
        except OSError as error:
            raise DataError(f"cannot read the traces {file}: {error.strerror}") from None


def save_pictures(trace: Trace, out: Path) -> list[str] | None:
    """Write the question's pictures under `out`, byte for byte as they are in the trace, named by their hash.

    Returns their names, or None if one is not in the trace. Raises DataError for one that cannot be read.
    """
    names = []
    for image in trace.question.images:
        found = _DATA_URL.fullmatch(image.data or "")
        if found is None:
            return None
        try:
            data = base64.b64decode(found[2], validate=True)
            load_image(data, name=image.name)
        except (binascii.Error, ImageError) as error:
            raise DataError(f"its picture {image.name} cannot be read: {error}") from None
        suffix = "jpg" if found[1] == "jpeg" else found[1]
        name = f"images/{sha256(data).hexdigest()[:32]}.{suffix}"
        if not (out / name).exists():
            (out / "images").mkdir(exist_ok=True)
            part = out / f"{name}.part"
            part.write_bytes(data)
            part.replace(out / name)
        names.append(name)
    return names
