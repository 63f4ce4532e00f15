"""From what a command names (models, files) to `Equipment`: read early, and refused early.

Owns the refusals. Opens no model.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any, get_args

from llava_cot.search.ask import lacking, unmet
from llava_cot.search.equipment import Equipment, JudgeModelKind, option, takes
from llava_cot.search.extras import Calibration, Example, Extra, Extras
from llava_cot.search.judges import JUDGES
from llava_cot.search.methods import METHODS


def equip(
    uses: Iterable[tuple[str, str | None]] | None,
    *,
    reasoner: str | None = None,
    judge_model: str | None = None,
    examples: str | tuple[Example, ...] | None = None,
    calibration: str | None = None,
    **settings: Any,
) -> Equipment:
    """Look at what was named for these methods, each with its judge, before any model is opened.

    None stands for whatever may be asked for later, of which nothing is known to be missing. `examples` are
    themselves, or their file. `settings` are for `open_model`. Raises ValueError for what no method and no
    judge here takes, for what one wants and was not given, and for files that cannot be used.
    """
    given = {
        "reasoner": reasoner, "judge_model": judge_model, "examples": examples, "calibration": calibration,
    }  # fmt: skip
    named = {extra for extra in get_args(Extra) if given[extra] is not None}
    pairs = [(method, judge or METHODS[method].judge) for method, judge in uses or _all()]
    taken = {extra for method, judge in pairs for _, extra in takes(method, judge)}
    for extra in get_args(Extra):
        if extra in named - taken:
            raise ValueError(_not_taken(extra))
    read = Extras(
        examples=_examples(examples) if isinstance(examples, str) else examples or (),
        calibration=None if calibration is None else _calibration(calibration),
    )
    if uses is not None:
        _check(pairs, named, read.calibration)
    return Equipment(
        reasoner, judge_model, _kind(pairs, uses is None), read.examples, read.calibration, settings
    )


def _kind(pairs: Sequence[tuple[str, str | None]], any_of_them: bool) -> JudgeModelKind:
    """What the judge model has to be."""
    rewarding = any(judge is not None and JUDGES[judge].asks == "reward" for _, judge in pairs)
    if not rewarding:
        return "model"
    return "either" if any_of_them else "reward"


def _all() -> list[tuple[str, str | None]]:
    return [
        (method, judge)
        for method, kind in METHODS.items()
        for judge in (JUDGES if kind.judge is not None else [None])
    ]


def _check(
    pairs: Sequence[tuple[str, str | None]], named: Collection[Extra], calibration: Calibration | None
) -> None:
    """Raises ValueError for what is wanted and not there, and for a calibration of another judge."""
    for method, judge in pairs:
        fits = calibration is None or calibration.judge == judge
        lack = lacking(method, judge, [extra for extra in named if fits or extra != "calibration"])
        if lack is not None:
            raise ValueError(unmet(*lack))
    judges = {judge for method, judge in pairs if (method, "calibration") in takes(method, judge)}
    if calibration is not None and calibration.judge not in judges:
        those = ", ".join(sorted(filter(None, judges)))
        raise ValueError(
            f"the calibration is of the judge {calibration.judge}, and the scores are those of {those}; give "
            "one of these, or leave --calibration out"
        )


def _not_taken(extra: Extra) -> str:
    methods = [name for name, kind in METHODS.items() if extra in (*kind.wants, *kind.takes)]
    judges = [name for name, kind in JUDGES.items() if extra == "judge_model" and kind.asks != "nobody"]
    those = [
        f"the {noun}{'s' if len(names) > 1 else ''} {', '.join(names)}"
        for noun, names in (("method", methods), ("judge", judges))
        if names
    ]
    if not those:
        return f"no method and no judge here takes {option(extra)}; leave it out"
    return f"{option(extra)} is for {' and '.join(those)}; leave it out, or choose such a one"


def _examples(file: str) -> tuple[Example, ...]:
    from llava_cot.search.examples import load_examples

    return load_examples(file)


def _calibration(file: str) -> Calibration:
    from llava_cot.search.calibration import load_calibration

    return load_calibration(file)
