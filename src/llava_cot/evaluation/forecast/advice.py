"""What to do, in one sentence, and the command that would confirm it.

A search is recommended if the 95% interval of its gain over the better one of one sample and the greedy
answer lies above zero. Of those, the best expected score less one point is enough: the one that writes the
fewest tokens for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from shlex import join

from llava_cot.evaluation.forecast.forecast import Forecast, MethodForecast
from llava_cot.evaluation.report.document import amount, number, signed, signed_interval

CLOSE = 1.0  # points of score for which no more tokens are spent
HEADROOM = 5.0  # points between the baseline and one right of N, below which no judge can help much


@dataclass(frozen=True)
class Advice:
    """A recommendation: the spec of the method, and the sentence."""

    spec: str
    sentence: str


def advise(forecast: Forecast) -> Advice:
    """Choose a method, or none."""
    base = forecast.method(forecast.baseline)
    named = {"single": "one sample", "greedy": "greedy decoding"}[base.spec]
    searches = [one for one in forecast.methods if one.spec not in ("single", "greedy")]
    paying = [one for one in searches if one.over_baseline.low > 0]
    if paying:
        best = max(one.score.value for one in paying)
        chosen = min((one for one in paying if one.score.value >= best - CLOSE), key=lambda one: one.tokens)
        return Advice(chosen.spec, f"Search with {chosen.spec}: {_expected(chosen, base, named)}.")
    n, ceiling = max(forecast.one_of.items())
    room = ceiling.value - base.score.value
    if room < HEADROOM:
        return Advice(
            base.spec,
            f"Do not search: {named} scores {number(base.score.value)}%, and one of {n} answers is right for "
            f"{number(ceiling.value)}% of the questions, which leaves little to choose; if that is not "
            "enough, train the model (`llava-cot train`).",
        )
    best_search = max(searches, key=lambda one: one.score.value)
    return Advice(
        base.spec,
        f"Do not search with these judges: no method is surely better than {named} with "
        f"{number(base.score.value)}% (the best, {best_search.spec}, by "
        f"{signed_interval(best_search.over_baseline)} points), though one of {n} answers is right for "
        f"{number(ceiling.value)}%: train a judge or the model on rollouts (`llava-cot data rollouts`), "
        f"or use {named}.",
    )


def _expected(chosen: MethodForecast, base: MethodForecast, named: str) -> str:
    gain, times = chosen.over_baseline, chosen.tokens / max(1.0, base.tokens)
    return (
        f"{number(chosen.score.value)}% is expected, {signed(gain.value)} points over {named} "
        f"({signed_interval(gain)}), for {amount(times)} times its tokens"
    )


def confirming_command(bench: str, model: str, spec: str, options: list[str]) -> str:
    """The `llava-cot eval` line that would confirm an advice on more questions.

    Args:
        bench: The benchmark.
        model: The model.
        spec: The method that was recommended.
        options: Further options of the command, such as the judge model's.
    """
    specs = dict.fromkeys(["single", "greedy", spec])
    methods = [word for one in specs for word in ("--method", one)]
    words = ["llava-cot", "eval", bench, "--model", model, *methods, *options, "--limit", "1000"]
    return join([*words, "--out", "confirm"])
