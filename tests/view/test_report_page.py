"""The files of a report, and what is in them."""

from __future__ import annotations

import base64
import json
import re
import xml.etree.ElementTree as ET
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from made_results import MadeResults, made

from llava_cot.errors import DataError
from llava_cot.evaluation.report.arms import Arm, arms_of
from llava_cot.evaluation.report.document import ReportSection
from llava_cot.evaluation.report.judging import ArmJudging
from llava_cot.view.report_page import escape, write_report
from llava_cot.view.report_questions import embed_questions


@pytest.fixture(scope="module")
def results() -> MadeResults:
    return made(count=9, methods=("single", "stage-beam-2", "best-of-2"))


def unpacked(text: str) -> Any:
    return json.loads(zlib.decompress(base64.b64decode(text)))


def nothing(what: str, done: int, total: int) -> None:
    pass


def test_a_report_is_markdown_a_page_and_plots(results: MadeResults, tmp_path: Path) -> None:
    out = tmp_path / "new" / "out"
    assert write_report(results, out) == out / "report.html"
    text = (out / "report.md").read_text()
    linked = re.findall(r"\]\((plots/[^)]+)\)", text)
    assert sorted(linked) == sorted(f"plots/{file.name}" for file in (out / "plots").iterdir())
    assert len(linked) == 4
    for name in linked:
        assert ET.fromstring((out / name).read_text()).tag.endswith("svg")
    rows = [line for line in text.splitlines() if line.startswith("| best-of-2 ")]
    assert len(rows) >= 6
    for table in re.findall(r"(?:^\|.*\n)+", text, re.M):
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1
    assert "\\<b\\>" in text and "<b>" not in text


def test_the_page_loads_nothing_and_every_part_has_its_place(results: MadeResults, tmp_path: Path) -> None:
    page = write_report(results, tmp_path).read_text()
    assert re.search(
        r"default-src 'none'; img-src data:; style-src 'sha256-[^']+'; script-src 'sha256-", page
    )
    assert not re.search(r"""(?:src|href|action)\s*=\s*["'](?!#)""", page)
    assert "style=" not in page
    for title in (
        "Benchmarks by methods", "Against the baseline", "Score by tokens", "Score by time", "Score by N",
        "Score by skill", "Cost of a question", "By skill: accuracy", "Agreement",
        "Questions answered correctly", "Whole answers: chosen, voted and best", "Format and stages",
        "How scores were decided",
        "How duels were decided", "Judges: right and wrong answers",
    ):  # fmt: skip
        assert f">{title}</figcaption>" in page, title


def test_the_same_runs_give_the_same_report(results: MadeResults, tmp_path: Path) -> None:
    first, second = (write_report(results, tmp_path / name).read_bytes() for name in ("a", "b"))
    assert first == second


def test_every_trace_is_there_once_and_pictures_too(results: MadeResults) -> None:
    told: list[tuple[int, int]] = []
    arms = arms_of(results)
    found = embed_questions(results, arms, lambda what, done, total: told.append((done, total)))
    assert told == [(n + 1, 9) for n in range(9)]
    assert (found.shown, found.questions, len(found.pictures)) == (9, 9, 8)  # one was answered by none
    index = unpacked(found.index)
    assert [arm["method"] for arm in index["arms"]] == ["single", "stage-beam-2", "best-of-2"]
    for number, item in enumerate(index["items"]):
        block = unpacked(found.blocks[number])
        kept = {answer["key"] for answer in item["answers"] if "failure" not in answer}
        assert set(block) == kept
        assert len(item["answers"]) == 6
        for answer in item["answers"]:
            arm = arms[answer["arm"]]
            run = int(answer["key"].partition(".")[2])
            assert arm.by_seed[answer["seed"]][item["id"]].score.value == answer["value"]
            if answer["key"] in block:
                assert (
                    f"{len(results.traces[arm.keys[run], item['id']].candidates)}</dd>"
                    in block[answer["key"]]
                )
    ids = re.findall(r' id="([^"]+)"', "".join("".join(unpacked(b).values()) for b in found.blocks.values()))
    assert len(set(ids)) == len(ids) > 0
    duels = sum(len(trace.verdicts) for trace in results.traces.values())
    assert sum(one.decided.total() for one in found.judging.values()) == duels


def test_shown_questions_are_drawn_from_all_benchmarks_and_duels_of_all_are_counted() -> None:
    results = made(("a", "b", "c"), count=8, methods=("stage-beam-2",), seeds=(0,))
    arms = arms_of(results)
    whole = embed_questions(results, arms, nothing)
    found = embed_questions(results, arms, nothing, most=6)
    assert (found.shown, found.questions) == (6, 24)
    items = unpacked(found.index)["items"]
    kept = [item for item in items if item["pictures"] is not None]
    assert sorted(item["benchmark"] for item in kept) == list("aabbcc")
    assert sorted(found.blocks) == [items.index(item) for item in kept]
    assert found.judging == whole.judging
    small = embed_questions(results, arms, nothing, size=1)
    assert small.shown == 1
    assert not embed_questions(results, arms, nothing, most=0).pictures


def test_long_texts_are_cut_and_say_so(results: MadeResults) -> None:
    long = MadeResults(
        {"made-up": [replace(item, text="word " * 5000) for item in results.questions["made-up"]]},
        results.traces,
        results.runs,
    )
    text = unpacked(embed_questions(long, arms_of(long), nothing).index)["items"][0]["text"]
    assert len(text) < 4100 and text.endswith("(21,000 more characters)")


def test_one_method_alone_is_reported_without_comparisons(tmp_path: Path) -> None:
    results = made(methods=("single",), count=4, seeds=(0,))
    page = write_report(results, tmp_path, paper=True).read_text()
    assert "<h1>made-up: single of scripted</h1>" in page
    assert "The paper reports none of these benchmarks." in page
    assert ">Agreement<" not in page and "plots/1-made-up-n.svg" not in (tmp_path / "report.md").read_text()


def test_a_report_of_failures_alone_can_be_written(tmp_path: Path) -> None:
    results = made(methods=("single",), count=1, seeds=(0,))  # the last question fails
    text = (write_report(results, tmp_path).parent / "report.md").read_text()
    assert "Answers that are missing and count as wrong: 1 of 1 " in text


def test_leading_sections_and_a_title_can_be_given(results: MadeResults, tmp_path: Path) -> None:
    def lead(arms: Sequence[Arm], judging: Mapping[Arm, ArmJudging]) -> list[ReportSection]:
        assert set(judging) == set(arms)
        return [ReportSection("Findings", (f"There are {len(arms)} of them.",))]

    page = write_report(results, tmp_path, lead=lead, title="Mine").read_text()
    text = (tmp_path / "report.md").read_text()
    assert text.startswith("# Mine\n")
    assert text.index("## Findings\n\nThere are 3 of them.") < text.index("## Scores")
    assert page.index("<h2>Findings</h2>") < page.index("<h2>Scores</h2>")


def test_a_folder_that_cannot_be_written_fails_before_traces_are_read(
    results: MadeResults, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot make the folder"):
        write_report(results, tmp_path / "file")
    with pytest.raises(DataError, match="there is no 'nonsense'"):
        write_report(results, tmp_path / "out", baseline="nonsense")
    assert not (tmp_path / "out").exists()


def test_markup_is_escape() -> None:
    assert escape("a|b\n<i>*c*") == r"a\|b \<i\>\*c\*"
