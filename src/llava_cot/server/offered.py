"""Which methods and judges a server can run with what it was given, and what it says of the others.

Owns the choice. What a method or a judge wants is declared in `METHODS` and `JUDGES`.
"""

from __future__ import annotations

from llava_cot.search.ask import WANTED, held, lacking, settings
from llava_cot.search.equipment import fitting
from llava_cot.search.extras import Extra, Extras
from llava_cot.search.judges import JUDGES
from llava_cot.search.methods import METHODS
from llava_cot.server.api_errors import ApiError


def methods(extras: Extras) -> list[str]:
    """Those that have all they want, with at least one judge if they ask one."""
    return [
        name
        for name, kind in METHODS.items()
        if (runs(name, extras) if kind.judge is None else judges(name, extras))
    ]


def judges(method: str, extras: Extras) -> list[str]:
    """The judges that the method can ask, its own one first; none if it asks none, or cannot run."""
    own = METHODS[method].judge
    if own is None:
        return []
    able = [name for name in JUDGES if _fit(method, name) and _lack(method, name, extras) is None]
    return sorted(able, key=lambda name: name != own)


def runs(method: str, extras: Extras) -> bool:
    """Whether the method can run with the judge that it asks by itself."""
    return _lack(method, METHODS[method].judge, extras) is None


def check(method: str, judge: str | None, extras: Extras) -> None:
    """Raises ApiError for what this server has not been given what it wants."""
    lack = _lack(method, judge or METHODS[method].judge, extras)
    if lack is not None:
        whose, want = lack
        raise ApiError(
            400,
            f"{whose} wants {WANTED[want][0]}, which this server was not given; "
            "choose another method or judge",
        )


def _lack(method: str, judge: str | None, extras: Extras) -> tuple[str, Extra] | None:
    return lacking(method, judge, held(fitting(extras, method, judge)))


def _fit(method: str, judge: str) -> bool:
    try:
        settings(method, None, judge, temperature=1.0, top_p=1.0, max_tokens=1, seed=0)
    except ValueError:
        return False
    return True
