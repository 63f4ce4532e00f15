"""The inference-time scaling methods, each one function in one dictionary."""

from __future__ import annotations

from llava_cot.methods.base import Method
from llava_cot.methods.best_of_n import best_of_n
from llava_cot.methods.majority import majority
from llava_cot.methods.sentence_beam import sentence_beam
from llava_cot.methods.single import single
from llava_cot.methods.stage_beam import stage_beam

__all__ = ["JUDGED", "METHODS", "Method"]

METHODS: dict[str, Method] = {
    "single": single,
    "majority": majority,
    "best-of-n": best_of_n,
    "sentence-beam": sentence_beam,
    "stage-beam": stage_beam,
}

# The methods that ask a judge; the others take none.
JUDGED = frozenset({"best-of-n", "sentence-beam", "stage-beam"})
