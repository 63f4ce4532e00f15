"""SWIRES, the stage-wise retracing search of LLaVA-CoT's later version (arXiv 2411.10440, version 6).

Several captions, several reasonings from the best of them, and back to the captions as long as too few
reasonings are good enough. The paper and its published script differ; both are here. Knows no concrete judge.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import partial

from llava_cot.core.question import Question
from llava_cot.core.stages import StageFormat
from llava_cot.core.trace import Trace
from llava_cot.models.base import Model, Sampling
from llava_cot.search.calibration import Calibration, cut_off
from llava_cot.search.judges.base import Judge
from llava_cot.search.search import OnEvent, Recorder
from llava_cot.search.tree import Node, grow, ranked, select, weigh


@dataclass(frozen=True)
class Plan:
    """The numbers beside N, the captions of a round, of which the better half are kept (paper and script: 2
    of 4). The search goes on once `passing` reasonings of all rounds are above the cut-off."""

    name: str
    returns: int  # to the captions, at most
    sent: int  # reasonings from each of which there is a conclusion
    each: int = 2  # reasonings from a kept caption; paper: 4 in all, script: 2 from each of 2
    # Script, and the paper's appendix, where the numbers are; its text is content with one.
    passing: int = 2


PAPER = Plan("swires", returns=3, sent=2)  # version 6
# inference/VLMEvalKit/swires.py: up to 5 rounds, conclusions from 3.
SCRIPT = Plan("swires-script", returns=4, sent=3)


async def search(
    plan: Plan,
    question: Question,
    model: Model,
    judge: Judge | None,
    *,
    n: int,
    sampling: Sampling,
    rng: random.Random,
    fmt: StageFormat,
    calibration: Calibration | None = None,
    on_event: OnEvent | None = None,
) -> Trace:
    """Search the final stage and the two before it; each candidate has at most `sampling.max_tokens`.

    Of what comes before these, there is one sample. Whatever the model skips or ends early is graded as it
    stands, beside candidates that go on. Stages after the final one are not asked for. Raises ValueError if
    the format has fewer than three stages up to the final one, or nothing tells the judge's cut-off.
    """
    if judge is None:
        raise ValueError("a judge is needed to choose among several candidates")
    final = fmt.names.index(fmt.final)
    reasoning, caption = final - 1, final - 2
    if caption < 0:
        raise ValueError(
            f"{plan.name} searches the final stage and two before it, and the format has only "
            f"{', '.join(fmt.names[: final + 1])}; choose another method"
        )
    enough = cut_off(judge, calibration)
    record = Recorder(plan.name, question, model, judge, n, sampling, fmt, on_event)
    base = Node()
    while base.after < caption:
        [base] = await grow(record, model, [base], 1, base.after, sampling, rng)
    ahead = base.after > reasoning  # the model skipped all that would be searched
    found = [base] if ahead else []
    for _ in range(0 if ahead else plan.returns + 1):
        captions = await grow(record, model, [base], n, caption, sampling, rng)
        kept = await select(record, judge, captions, (n + 1) // 2, rng)
        reasonings = await grow(record, model, kept, plan.each, reasoning, sampling, rng)
        found = ranked([*found, *await weigh(record, judge, reasonings, rng)])
        if sum(node.score is not None and node.score > enough for node in found) >= plan.passing:
            break
    conclusions = await grow(record, model, found[: plan.sent], 1, final, sampling, rng)
    [best] = await select(record, judge, conclusions, 1, rng)
    assert best.candidate is not None
    record.follow(best.candidate)
    return record.finish()


swires = partial(search, PAPER)
swires_script = partial(search, SCRIPT)
