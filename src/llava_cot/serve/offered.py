"""Which methods and judges a server can run with what it was given, and what it says of the others.

Owns the choice. What a method or a judge wants is declared in `METHODS` and `JUDGES`.
"""

from __future__ import annotations

from llava_cot.asking import WANTED, held, lacking, settings
from llava_cot.judges import JUDGES
from llava_cot.methods import METHODS
from llava_cot.methods.extras import Extras
from llava_cot.serve.errors import ApiError


def methods(extras: Extras) -> list[str]:
    """Those that have all they want, with at least one judge if they ask one."""
    return [
        name
        for name, kind in METHODS.items()
        if (runs(name, extras) if kind.judge is None else judges(name, extras))
    ]


def judges(method: str, extras: Extras) -> list[str]:
    """The judges that the method can ask, its own one first; none if it asks none, or cannot run."""
    own, there = METHODS[method].judge, held(extras)
    if own is None:
        return []
    able = [name for name in JUDGES if _fit(method, name) and lacking(method, name, there) is None]
    return sorted(able, key=lambda name: name != own)


def runs(method: str, extras: Extras) -> bool:
    """Whether the method can run with the judge that it asks by itself."""
    return lacking(method, METHODS[method].judge, held(extras)) is None


def check(method: str, judge: str | None, extras: Extras) -> None:
    """Raises ApiError for what this server has not been given what it wants."""
    lack = lacking(method, judge or METHODS[method].judge, held(extras))
    if lack is not None:
        whose, want = lack
        others = "another judge" if whose in JUDGES and whose != method else "another method"
        raise ApiError(
            400, f"{whose} wants {WANTED[want][0]}, which this server was not given; choose {others}"
        )


def _fit(method: str, judge: str) -> bool:
    try:
        settings(method, None, judge, temperature=1.0, top_p=1.0, max_tokens=1, seed=0)
    except ValueError:
        return False
    return True
