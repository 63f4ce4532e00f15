"""What has been computed once: keys and values of heads and of the tokens after them.

Owns the memory bound and what is forgotten first. Knows no network. Each head has a tree of token runs;
two texts share the runs of their common beginning, so nothing is kept twice. Keys and values come as a
list of tensors [planes, heads, tokens, width] (see `lanes.py`).
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from llava_cot.models.local.encoding import Head

KV = list[Tensor]


@dataclass(eq=False)
class PrefixNode:
    """Tokens that follow their parent's, and their keys and values."""

    ids: tuple[int, ...]
    kv: KV
    parent: PrefixNode | None
    used: int = 0
    children: dict[int, PrefixNode] = field(default_factory=dict)

    @property
    def nbytes(self) -> int:
        return sum(tensor.nbytes for tensor in self.kv)


@dataclass(eq=False)
class PrefixRoot(PrefixNode):
    """What a head leaves behind; without a head, nothing.

    `cross` are the keys and values of its images' features, [planes, heads, features, width], where the
    network reads images through layers of their own; `shift` is what the position of a later token
    differs by from its place in the text.
    """

    head: Head | None = None
    cross: Tensor | None = None
    shift: int = 0

    @property
    def nbytes(self) -> int:
        return super().nbytes + (0 if self.cross is None else self.cross.nbytes)


class PrefixCache:
    """Trees of runs by head, at most `limit` bytes in all; what was used longest ago goes first."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._roots: dict[Head | None, PrefixRoot] = {}
        self._clock = 0
        self.nbytes = 0

    def root(self, head: Head | None) -> PrefixRoot | None:
        return self._roots.get(head)

    def add_root(self, root: PrefixRoot) -> None:
        self._roots[root.head] = root
        self._use(root)
        self.nbytes += root.nbytes
        self._forget()

    def match(self, root: PrefixRoot, ids: Sequence[int]) -> list[KV]:
        """Keys and values of the longest known beginning of `ids`, in pieces."""
        pieces = []
        self._use(root)
        for run, common in _walk(root, ids):
            self._use(run)
            pieces.append(run.kv if common == len(run.ids) else [t[:, :, :common] for t in run.kv])
        return pieces

    def add(self, root: PrefixRoot, ids: Sequence[int], read: Callable[[int, int], KV]) -> None:
        """Keep `ids` after a root, if that is still known; `read(start, stop)` copies out what is missing."""
        if self._roots.get(root.head) is not root:
            return
        node: PrefixNode = root
        at = 0
        for run, common in _walk(root, ids):
            self._use(run)
            node = run if common == len(run.ids) else self._split(run, common)
            at += common
        if at < len(ids):
            leaf = PrefixNode(tuple(ids[at:]), read(at, len(ids)), node)
            node.children[ids[at]] = leaf
            self._use(leaf)
            self.nbytes += leaf.nbytes
        self._forget()

    def _split(self, run: PrefixNode, at: int) -> PrefixNode:
        """Cut a run in two, and give back the first part, which is its parent from then on."""
        assert run.parent is not None
        upper = PrefixNode(run.ids[:at], [t[:, :, :at].clone() for t in run.kv], run.parent, run.used)
        run.parent.children[run.ids[0]] = upper
        run.ids, run.kv, run.parent = run.ids[at:], [t[:, :, at:].clone() for t in run.kv], upper
        upper.children[run.ids[0]] = run
        return upper

    def _use(self, run: PrefixNode) -> None:
        self._clock += 1
        run.used = self._clock

    def _forget(self) -> None:
        """Down to nine tenths of the limit, so that it is not done for every token."""
        if self.nbytes <= self._limit:
            return
        leaves = [(run.used, id(run), run) for root in self._roots.values() for run in _leaves(root)]
        heapq.heapify(leaves)
        while leaves and self.nbytes > 0.9 * self._limit:
            _, _, run = heapq.heappop(leaves)
            self.nbytes -= run.nbytes
            if isinstance(run, PrefixRoot):
                del self._roots[run.head]
                continue
            assert run.parent is not None
            del run.parent.children[run.ids[0]]
            if not run.parent.children:
                heapq.heappush(leaves, (run.parent.used, id(run.parent), run.parent))


def _walk(root: PrefixNode, ids: Sequence[int]) -> Iterator[tuple[PrefixNode, int]]:
    """The runs that `ids` begin with, and how much of each; only the last can be a part, and be split."""
    node, at = root, 0
    while at < len(ids) and (child := node.children.get(ids[at])) is not None:
        end = at + len(child.ids)
        whole = tuple(ids[at:end]) == child.ids
        yield child, len(child.ids) if whole else _common(child.ids, ids, at)
        if not whole:
            return
        node, at = child, end


def _common(run: Sequence[int], ids: Sequence[int], start: int) -> int:
    length = min(len(run), len(ids) - start)
    return next((i for i in range(length) if run[i] != ids[start + i]), length)


def _leaves(root: PrefixRoot) -> Iterator[PrefixNode]:
    waiting: list[PrefixNode] = [root]
    while waiting:
        run = waiting.pop()
        if run.children:
            waiting += run.children.values()
        else:
            yield run
