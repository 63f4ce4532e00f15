"""What is to be run before a token can be drawn: ids, once for all the jobs that begin with them.

Owns what they have in common and which of them share a pass. Knows no network and no rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from llava_cot.models.local.jobs import Job, Sample
from llava_cot.models.local.kv_cache import KV, Root

# How many tokens a common beginning must save to be worth a pass of its own.
_WORTH = 64


@dataclass(eq=False)
class Fill:
    """Ids to be run after a root; the first `known` of them were before, and left `pieces` behind."""

    root: Root
    ids: list[int]
    jobs: list[Job] = field(default_factory=list)
    pieces: list[KV] = field(default_factory=list)
    known: int = 0

    @property
    def keep(self) -> int:
        return max((job.keep for job in self.jobs), default=1)

    @property
    def todo(self) -> Sequence[int]:
        return self.ids[self.known :]

    @property
    def samples(self) -> list[Sample]:
        return [job for job in self.jobs if isinstance(job, Sample)]


def stems(fills: Sequence[Fill]) -> list[Fill]:
    """Common beginnings of new ids that are worth running once, before the ids themselves."""
    found: list[Fill] = []
    ordered = sorted(fills, key=lambda fill: (id(fill.root), fill.ids))
    at = 0
    while at < len(ordered):
        first, count, common = ordered[at], 1, len(ordered[at].ids)
        for other in ordered[at + 1 :]:
            shared = _common(first.ids, other.ids) if other.root is first.root else 0
            if min(shared, common) - first.known < _WORTH:
                break
            common, count = min(shared, common, len(other.ids) - other.keep), count + 1
        if count > 1 and common > first.known:
            found.append(Fill(first.root, first.ids[:common]))
        at += count
    return found


def chunks(fills: Sequence[Fill], tokens: int) -> list[list[Fill]]:
    """Fills of one lane and of similar length: little padding, and not more than so many tokens."""
    found: list[list[Fill]] = []
    for fill in sorted(fills, key=lambda f: (features(f.root), len(f.todo))):
        last = found[-1] if found else None
        if (
            last is not None
            and features(last[0].root) == features(fill.root)
            and len(fill.todo) <= 2 * len(last[0].todo) + 16
            and len(fill.todo) * (len(last) + 1) <= tokens
        ):
            last.append(fill)
        else:
            found.append([fill])
    return found


def features(root: Root) -> int:
    """How many image features its layers attend to."""
    return 0 if root.cross is None else root.cross.shape[2]


def _common(a: Sequence[int], b: Sequence[int]) -> int:
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
