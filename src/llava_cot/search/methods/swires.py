"""SWIRES, the stage-wise retracing search of LLaVA-CoT's later version (arXiv 2411.10440, version 6).

Several captions, several reasonings from the best of them, and back to the captions while too few reasonings
are good enough. The paper and its published script differ; both are here.
"""

from __future__ import annotations

from dataclasses import dataclass

from llava_cot.search.calibration import cut_off
from llava_cot.search.methods.base import method
from llava_cot.search.search import Search
from llava_cot.search.tree import Node, grow, ranked, score, select


@dataclass(frozen=True)
class SwiresNumbers:
    """The numbers of SWIRES except n, the captions of a round, of which the better half are kept (2 of 4).

    Attributes:
        returns: The most returns to the captions.
        sent: Reasonings from each of which a conclusion is sampled.
        each: Reasonings from a kept caption; paper: 4 in all, script: 2 from each of 2.
        passing: Reasonings, of all rounds, that must score above the cut-off (script, and the paper's
            appendix; the paper's text: one).
    """

    returns: int
    sent: int
    each: int = 2
    passing: int = 2


PAPER = SwiresNumbers(returns=3, sent=2)  # version 6
SCRIPT = SwiresNumbers(returns=4, sent=3)  # inference/VLMEvalKit/swires.py: up to 5 rounds


@method("swires", n=4, judge="logits", scores=True, accepts=("calibration",))
async def swires(search: Search) -> None:
    """Sample captions and reasonings, again while too few reasonings score well; the paper's numbers."""
    await retrace(search, PAPER)


@method("swires-script", n=4, judge="logits", scores=True, accepts=("calibration",))
async def swires_script(search: Search) -> None:
    """As swires, with the numbers of the published script."""
    await retrace(search, SCRIPT)


async def retrace(search: Search, numbers: SwiresNumbers) -> None:
    """Search the final stage and the two before it; earlier stages are sampled once.

    A candidate that skips stages or ends early is scored as it is, together with those that continue.
    Stages after the final one are not sampled.

    Raises:
        ValueError: The format has fewer than three stages up to the final one, or the judge has no cut-off.
    """
    fmt = search.fmt
    final = fmt.names.index(fmt.final)
    reasoning, caption = final - 1, final - 2
    if caption < 0:
        raise ValueError(
            f"{search.request.method} searches the final stage and two before it, and the format has only "
            f"{', '.join(fmt.names[: final + 1])}; choose another method"
        )
    threshold = cut_off(search.judge, search.resources.calibration)
    base = Node()
    while base.after < caption:
        [base] = await grow(search, [base], 1, base.after)
    ahead = base.after > reasoning  # the model skipped all that would be searched
    found = [base] if ahead else []
    for _ in range(0 if ahead else numbers.returns + 1):
        captions = await grow(search, [base], search.n, caption)
        best = await select(search, captions, (search.n + 1) // 2)
        reasonings = await grow(search, best, numbers.each, reasoning)
        found = ranked([*found, *await score(search, reasonings)])
        if sum(node.score is not None and node.score > threshold for node in found) >= numbers.passing:
            break
    conclusions = await grow(search, found[: numbers.sent], 1, final)
    [winner] = await select(search, conclusions, 1)
    search.follow(winner.leaf)
