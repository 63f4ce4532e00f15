"""Particle filtering over stages (arXiv 2502.01618): the model proposes, the judge's scores are weights.

A beam keeps the best scored candidates, and with them the judge's mistakes; a particle filter draws what it
keeps, so that a candidate of a lower score has a share of what follows, too.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

from llava_cot.search.methods.base import method
from llava_cot.search.methods.weighted import softmax
from llava_cot.search.search import Search
from llava_cot.search.tree import Node, grow, score

_LEAST = 1e-7  # a probability is taken to be this far from 0 and from 1, as in its authors' code


@method("particle-filter", n=4, judge="logits", scores=True)
async def particle_filter(search: Search) -> None:
    """Extend n particles by one stage, draw n of them by their scores, and so on; keep the best at the end.

    A particle that the model ended, or that is stages ahead, stands as it is until the others are there.
    """
    stages = len(search.fmt.stages)
    particles = [Node()]
    for at in range(stages):
        if all(particle.after > at for particle in particles):
            continue
        particles = await grow(search, particles, search.n // len(particles), at)
        if search.n == 1:
            continue
        particles = await score(search, particles)
        if any(particle.after < stages for particle in particles):
            particles = [particles[i] for i in resample(weights(search, particles), search.rng)]
    search.follow(particles[0].leaf)


def weights(search: Search, particles: Sequence[Node]) -> list[float]:
    """The share of each scored particle: a softmax of the scores, or of their log-odds if they are
    probabilities."""
    scores = [particle.score or 0.0 for particle in particles]
    if search.judge.probability and all(0 <= value <= 1 for value in scores):
        scores = [log_odds(value) for value in scores]
    return softmax(scores)


def log_odds(probability: float) -> float:
    """log(p / (1 - p)), finite."""
    p = min(max(probability, _LEAST), 1 - _LEAST)
    return math.log(p / (1 - p))


def resample(weights: Sequence[float], rng: random.Random) -> list[int]:
    """Systematic resampling: as many indices as there are weights, in order.

    One draw places as many evenly spaced points on the weights laid end to end. An index is drawn n times its
    weight on average, rounded up or down; the greatest weight is always drawn.
    """
    n, place, at = len(weights), rng.random(), 0
    reached = weights[0] * n
    drawn = []
    for point in range(n):
        while reached <= point + place and at < n - 1:
            at += 1
            reached += weights[at] * n
        drawn.append(at)
    return drawn
