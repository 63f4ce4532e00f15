"""Rules by their names, as a folder of runs has them: those of the public benchmarks and those for one's own.

Needs no benchmark's file.
"""

from __future__ import annotations

from llava_cot.errors import DataError
from llava_cot.evaluation.benchmarks.own import RULES
from llava_cot.evaluation.benchmarks.tables import TABLES
from llava_cot.evaluation.types import ScoringRule


def rule_named(name: str) -> ScoringRule:
    """Raises DataError if there is none, as in a folder of another version of this package."""
    if name in RULES:
        return RULES[name]
    for table in TABLES.values():
        rule = table.rule()
        if rule.name == name:
            return rule
    raise DataError(f"there is no rule {name!r} here; is the folder from a later version of llava-cot?")
