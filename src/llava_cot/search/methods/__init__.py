"""The inference-time scaling methods, each one function in one dictionary, with what it takes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from llava_cot.core.trace import Trace
from llava_cot.search.extras import Extra
from llava_cot.search.methods.adaptive_beam import adaptive_stage_beam
from llava_cot.search.methods.adaptive_best import adaptive_best_of_n
from llava_cot.search.methods.adaptive_majority import adaptive_majority
from llava_cot.search.methods.base import Method
from llava_cot.search.methods.best_of_n import best_of_n
from llava_cot.search.methods.cot import cot, cot_few_shot
from llava_cot.search.methods.majority import majority
from llava_cot.search.methods.msg import msg
from llava_cot.search.methods.prism import prism, prism_query
from llava_cot.search.methods.sentence_beam import sentence_beam
from llava_cot.search.methods.single import single
from llava_cot.search.methods.stage_beam import stage_beam
from llava_cot.search.methods.stage_wise_beam import stage_wise_beam
from llava_cot.search.methods.staged_prompt import staged_prompt
from llava_cot.search.methods.swires import swires, swires_script
from llava_cot.search.methods.weighted import weighted_best_of_n

__all__ = ["METHODS", "Kind", "Method"]


@dataclass(frozen=True)
class Kind:
    """A method. Beyond what each takes (`Method`), `run` takes what is in `wants` and `takes` by these names,
    of which it can do without the latter, and `budget` if it is `budgeted`."""

    run: Callable[..., Awaitable[Trace]]
    one: bool = False  # a single answer, so that n is 1
    n: int = 2  # candidates where their number is left out
    judge: str | None = None  # which judge it asks by itself; None if it asks none
    scored: bool = False  # its judge must give scores
    probability: bool = False  # and these must be probabilities
    budgeted: bool = False
    wants: tuple[Extra, ...] = ()
    takes: tuple[Extra, ...] = ()


METHODS: dict[str, Kind] = {
    "single": Kind(single, one=True),
    "majority": Kind(majority, budgeted=True),
    "adaptive-majority": Kind(adaptive_majority),
    "best-of-n": Kind(best_of_n, judge="self", budgeted=True),
    "weighted-best-of-n": Kind(weighted_best_of_n, judge="logits", scored=True),
    "adaptive-best-of-n": Kind(adaptive_best_of_n, judge="logits", scored=True, probability=True),
    "sentence-beam": Kind(sentence_beam, judge="self"),
    "stage-beam": Kind(stage_beam, judge="self", budgeted=True),
    "adaptive-stage-beam": Kind(adaptive_stage_beam, judge="self"),
    "stage-wise-beam": Kind(stage_wise_beam, n=4, judge="logits", scored=True),
    "swires": Kind(swires, n=4, judge="logits", scored=True, takes=("calibration",)),
    "swires-script": Kind(swires_script, n=4, judge="logits", scored=True, takes=("calibration",)),
    "staged-prompt": Kind(staged_prompt, one=True),
    "msg": Kind(msg, one=True),
    "cot": Kind(cot, one=True),
    "cot-few-shot": Kind(cot_few_shot, one=True, wants=("examples",)),
    "prism": Kind(prism, one=True, wants=("reasoner",)),
    "prism-query": Kind(prism_query, one=True, wants=("reasoner",)),
}
