"""The data card of an annotated set: `README.md`, with the header that the Hugging Face hub reads."""

from __future__ import annotations

from collections import Counter
from math import ceil
from statistics import fmean

from llava_cot.data.annotation.output import AnnotationSummary
from llava_cot.data.annotation.procedure import CallCost
from llava_cot.data.annotation.teachers import Teacher

# The licenses that the hub knows, by the same names in lower case; any other is "other".
_HUB = {
    "Apache-2.0", "MIT", "CC-BY-4.0", "CC-BY-SA-4.0", "CC-BY-NC-4.0", "CC-BY-NC-SA-4.0", "GPL-3.0"
}  # fmt: skip
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
_FILES = """\
`train.jsonl` has a line for each record; the paths in it are relative to this folder. `train.parquet` has
the same with the pictures in it; `datasets.load_dataset` of this folder loads it. The rejected turns are in
`rejects.jsonl`, with the reasons.
"""
_REASONS = {
    "no answer": "the turn has no standard answer",
    "not the teacher's": "the teacher cannot answer such questions",
    "picture": "a picture cannot be read",
    "refused": "the teacher's server refused the question",
    "format": "the stages were not complete and in order",
    "leak": "the text mentions the standard answer or the hints",
    "conclusion": "the conclusion was judged to be another answer",
    "no verdict": "the verdict could not be read",
}


def data_card(summary: AnnotationSummary, teacher: Teacher, cost: CallCost, ended: str | None) -> str:
    """The text of the card. `ended` says why the work ended early, if it did."""
    parts = [_header(summary), "# Staged answers\n"]
    if summary.pending:
        why = f" ({ended})" if ended else ""
        parts.append(
            f"**Not complete:** {summary.pending:,} of the records are still to be annotated{why}. "
            "Run the same command to resume.\n"
        )
    parts += [
        "Questions with answers in four stages (summary, caption, reasoning, conclusion), in the layout of "
        "LLaVA-CoT-100k, made by `llava-cot data annotate`.\n",
        _table("", _counts(summary)),
        _table("Rejected", [(_REASONS.get(why, why), n) for why, n in sorted(summary.rejected.items())]),
        _lengths(summary.words),
        _table("Made by", _made_by(teacher, cost)),
        _sources(summary.sources),
        _FILES,
    ]
    return "\n".join(part for part in parts if part)


def _header(summary: AnnotationSummary) -> str:
    licenses = {license for _, license in summary.sources}
    license = licenses.pop().lower() if len(licenses) == 1 and licenses <= _HUB else "other"
    size = next((name for most, name in _SIZES if summary.records < most), "n>1M")
    return (
        f"---\nlicense: {license}\ntask_categories:\n- visual-question-answering\n"
        f"size_categories:\n- {size}\ntags:\n- chain-of-thought\n- llava-cot\n"
        "configs:\n- config_name: default\n  data_files:\n  - split: train\n    path: train.parquet\n---\n"
    )


def _counts(summary: AnnotationSummary) -> list[tuple[str, object]]:
    rows: list[tuple[str, object]] = [
        ("records", summary.records),
        ("annotated turns", summary.turns),
        ("rejected turns", summary.rejected.total()),
        ("pictures of the records", summary.pictures),
    ]
    if summary.pending:
        rows.append(("records still pending", summary.pending))
    if summary.repeated:
        rows.append(("records skipped, with the id of another", summary.repeated))
    return rows


def _made_by(teacher: Teacher, cost: CallCost) -> list[tuple[str, object]]:
    return [
        *teacher.settings.items(),
        ("calls", cost.calls),
        ("tokens read", cost.prompt_tokens),
        ("tokens written", cost.completion_tokens),
        ("US dollars", f"{cost.usd:.2f}" if cost.usd is not None else "no price known"),
    ]


def _lengths(words: dict[str, Counter[int]]) -> str:
    rows = [
        f"| {name} | {fmean(counts.elements()):.1f} | {_quantile(counts, 0.5)} | {_quantile(counts, 0.95)} |"
        for name, counts in words.items()
        if counts
    ]
    head = "| stage | mean | median | 95% have at most |\n| --- | ---: | ---: | ---: |"
    return _section("Words in each stage", head, rows)


def _quantile(lengths: Counter[int], share: float) -> int:
    return sorted(lengths.elements())[max(ceil(share * lengths.total()) - 1, 0)]


def _sources(sources: Counter[tuple[str, str]]) -> str:
    rows = [
        f"| {_cell(source) or 'not named'} | {_cell(license) or 'not stated'} | {count:,} |"
        for (source, license), count in sorted(sources.items())
    ]
    return _section("Sources", "| source | license of its authors | records |\n| --- | --- | ---: |", rows)


def _table(title: str, rows: list[tuple[str, object]]) -> str:
    lines = [f"| {_cell(n)} | {f'{v:,}' if isinstance(v, int) else _cell(str(v))} |" for n, v in rows]
    return _section(title, "| | |\n| --- | ---: |", lines)


def _section(title: str, head: str, rows: list[str]) -> str:
    return "\n".join([*([f"## {title}\n"] if title else []), head, *rows, ""]) if rows else ""


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
