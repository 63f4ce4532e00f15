"""The check of plans: both commands are run, and expectations compared with what was measured."""

from __future__ import annotations

import argparse
from pathlib import Path

from research.paper.plan_check import SETTINGS, PlanCheck, PlanSetting, check_setting, methods_of, table


def test_a_setting_is_planned_and_measured(tmp_path: Path) -> None:
    given = argparse.Namespace(
        out=str(tmp_path), bench="scenes:validation", questions=3, fresh="scenes", count=3, n=2, max_tokens=40
    )
    found = check_setting(PlanSetting("a name", "mini", ("likelihood",), ("--top-p", "0.8")), given)
    assert [one.method for one in found] == methods_of(PlanSetting("", "mini", ("likelihood",)), 2)
    assert (tmp_path / "a-name/plan/plan.svg").is_file()
    assert "| a name | majority-2 |" in table(found)


def test_the_settings_are_those_of_the_docs() -> None:
    assert len(SETTINGS) == 4
    inside = PlanCheck("s", "m", 50, 52, 49, 55)
    outside = PlanCheck("s", "m", 48.9, 52, 49, 55)
    assert table([inside, outside]).endswith("1 of 2 expectations lie within the interval measured.")
