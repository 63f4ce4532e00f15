"""Does `llava-cot plan` foretell what methods score? Its expectations against runs on fresh questions.

    python -m research.paper.plan_check --out out/plan-check

For each setting, `llava-cot plan` estimates the methods from one set of questions, and `llava-cot eval`
measures them on others. A method is foretold if its expected score lies within the 95% interval that was
measured. Both have an error of their questions: with as many on both sides, one in six expectations lies
outside by chance alone.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llava_cot.core.files import write_whole
from research.paper.sizes import MINI_TOKENS


@dataclass(frozen=True)
class PlanSetting:
    """A model with its judges, as options of `plan`, and the methods that are measured afterwards."""

    name: str
    model: str
    judges: tuple[str, ...]
    options: tuple[str, ...] = ()  # of plan and eval


SETTINGS = (
    PlanSetting("mini", "mini", ("likelihood",)),
    PlanSetting("mini-base prompted", "mini-base", ("likelihood",), ("--stages", "prompted")),
    PlanSetting("mini with a bad judge", "mini", ("self",)),
    PlanSetting("mini with mini-reward", "mini", ("implicit",), ("--judge-model", "mini-reward")),
)


@dataclass(frozen=True)
class PlanCheck:
    """A method of a setting: its expected score, and the score and interval that were measured."""

    setting: str
    method: str
    expected: float
    measured: float
    low: float
    high: float

    @property
    def inside(self) -> bool:
        return self.low <= self.expected <= self.high


def methods_of(setting: PlanSetting, n: int) -> list[str]:
    """The methods that are measured: with the judges of the setting, and without."""
    judged = [f"{method}-{n}@{judge}" for judge in setting.judges for method in ("best-of", "stage-beam")]
    return ["single", "greedy", f"majority-{n}", *judged]


def check_setting(setting: PlanSetting, given: argparse.Namespace) -> list[PlanCheck]:
    """Plan for a setting, measure its methods, and compare."""
    out = Path(given.out) / setting.name.replace(" ", "-")
    common = ["--model", setting.model, *setting.options, "--max-tokens", str(given.max_tokens), "--json"]
    judges = [word for judge in setting.judges for word in ("--judge", judge)]
    questions = ["--limit", str(given.questions), "--out", f"{out}/plan"]
    planned = _command("plan", given.bench, *common, *judges, *questions)
    expected = {_spec(one["spec"]): one["score"]["value"] for one in planned["methods"]}
    methods = [word for method in methods_of(setting, given.n) for word in ("--method", method)]
    fresh = ["--limit", str(given.count), "--out", f"{out}/runs"]
    measured = _command("eval", given.fresh, *common, *methods, *fresh)
    found = []
    for row in measured["results"]:
        score = row["score"]
        limits = score["value"], score["low"], score["high"]
        found.append(PlanCheck(setting.name, row["method"], expected[_spec(row["method"])], *limits))
    return found


def _spec(text: str) -> str:
    from llava_cot.search.request import parse_spec

    return parse_spec(text).name


def _command(*words: str) -> dict[str, Any]:
    print("llava-cot", *words, file=sys.stderr)
    done = subprocess.run([sys.executable, "-m", "llava_cot", *words], stdout=subprocess.PIPE, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def table(checks: Sequence[PlanCheck]) -> str:
    """All comparisons in Markdown, and how many expectations lie within their interval."""
    lines = [
        "| setting | method | expected, % | measured, % | 95% interval | inside |",
        "| --- | --- | ---: | ---: | ---: | --- |",
    ]
    lines += [
        f"| {one.setting} | {one.method} | {one.expected:.1f} | {one.measured:.1f} "
        f"| {one.low:.1f} to {one.high:.1f} | {'yes' if one.inside else 'no'} |"
        for one in checks
    ]
    inside = sum(one.inside for one in checks)
    return "\n".join(
        [*lines, "", f"{inside} of {len(checks)} expectations lie within the interval measured."]
    )


def main() -> None:
    names = ", ".join(one.name for one in SETTINGS)
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--out", required=True, help="the folder of pools and runs; an unfinished one is resumed"
    )
    parser.add_argument("--setting", action="append", help=f"one of: {names}; by default all")
    parser.add_argument("--bench", default="scenes-hard:validation", help="the questions to plan on")
    parser.add_argument("--questions", type=int, default=1000, help="how many of them")
    parser.add_argument("--fresh", default="scenes-hard", help="the questions to measure on")
    parser.add_argument("--count", type=int, default=1000, help="how many of them")
    parser.add_argument("--n", type=int, default=4, help="the number of candidates")
    parser.add_argument("--max-tokens", type=int, default=MINI_TOKENS)
    given = parser.parse_args()
    chosen = [one for one in SETTINGS if one.name in (given.setting or [one.name])]
    if len(chosen) < len(given.setting or ()):
        parser.error(f"there is no such setting; choose one of: {names}")
    checks = [check for setting in chosen for check in check_setting(setting, given)]
    print(table(checks))
    write_whole(Path(given.out) / "plan-check.md", table(checks) + "\n")


if __name__ == "__main__":
    main()
