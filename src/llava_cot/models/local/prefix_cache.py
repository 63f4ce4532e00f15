"""Keys and values of texts that were run before: a tree of token runs for each head, within a memory bound.

Two texts share the nodes of their common beginning, so nothing is stored twice. Keys and values are a list of
tensors [planes, heads, tokens, width] (see `kv_cache.py`). With a network that has states, a text can be
continued only where one ended: at the end of a node that has states.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from llava_cot.models.local.encoding import Head
from llava_cot.models.local.kv_cache import KV, States


@dataclass(eq=False)
class PrefixNode:
    """Tokens that follow their parent's, their keys and values, and the states after the last if known."""

    ids: tuple[int, ...]
    kv: KV
    parent: PrefixNode | None
    used: int = 0
    states: States | None = None
    children: dict[int, PrefixNode] = field(default_factory=dict)

    @property
    def nbytes(self) -> int:
        return sum(tensor.nbytes for tensor in (*self.kv, *(self.states or ())))


@dataclass(eq=False)
class PrefixRoot(PrefixNode):
    """What running a head leaves behind; empty for texts without a head.

    `cross` are keys and values of its images' features, [planes, heads, features, width], where the network
    reads images through layers of their own; `shift` is the difference of a later token's position from its
    place in the text.
    """

    head: Head | None = None
    cross: Tensor | None = None
    shift: int = 0

    @property
    def nbytes(self) -> int:
        return super().nbytes + (0 if self.cross is None else self.cross.nbytes)

    @property
    def features(self) -> int:
        """How many image features its layers attend to."""
        return 0 if self.cross is None else self.cross.shape[2]


class PrefixCache:
    """Prefix trees by head, at most `limit` bytes in all. What was used longest ago is dropped first.

    With `by_states`, texts are continued at states alone.
    """

    def __init__(self, limit: int, by_states: bool = False) -> None:
        self.limit, self.by_states = limit, by_states
        self._roots: dict[Head | None, PrefixRoot] = {}
        self._clock = 0
        self.nbytes = 0

    def root(self, head: Head | None) -> PrefixRoot | None:
        return self._roots.get(head)

    def add_root(self, root: PrefixRoot) -> None:
        self._roots[root.head] = root
        self._use(root)
        self.nbytes += root.nbytes
        self._evict()

    def match(self, root: PrefixRoot, ids: Sequence[int]) -> tuple[list[KV], States | None]:
        """Keys and values of the longest known beginning of `ids`, in pieces, and the states after it."""
        pieces: list[KV] = []
        usable, states = 0, root.states
        self._use(root)
        for node, common in _walk(root, ids):
            self._use(node)
            whole = common == len(node.ids)
            pieces.append(node.kv if whole else [t[:, :, :common] for t in node.kv])
            if whole and node.states is not None:
                usable, states = len(pieces), node.states
        return pieces[:usable] if self.by_states else pieces, states

    def add(
        self,
        root: PrefixRoot,
        ids: Sequence[int],
        read: Callable[[int, int], KV],
        read_states: Callable[[], States],
    ) -> None:
        """Store `ids` after a root that is still cached.

        `read(start, stop)` copies out the keys and values that are missing, `read_states()` the states after
        the last id.
        """
        if self._roots.get(root.head) is not root:
            return
        parent: PrefixNode = root
        at = 0
        for node, common in _walk(root, ids):
            self._use(node)
            parent = node if common == len(node.ids) else self._split(node, common)
            at += common
        if at < len(ids):
            leaf = PrefixNode(tuple(ids[at:]), read(at, len(ids)), parent)
            parent.children[ids[at]] = leaf
            self._use(leaf)
            self.nbytes += leaf.nbytes
            parent = leaf
        if self.by_states and parent.states is None and parent is not root:
            parent.states = read_states()
            self.nbytes += sum(state.nbytes for state in parent.states)
        self._evict()

    def _split(self, node: PrefixNode, at: int) -> PrefixNode:
        """Cut a node in two. Returns the first part, which becomes its parent."""
        assert node.parent is not None
        before, after = ([t[:, :, part].clone() for t in node.kv] for part in (slice(at), slice(at, None)))
        upper = PrefixNode(node.ids[:at], before, node.parent, node.used)
        node.parent.children[node.ids[0]] = upper
        node.ids, node.kv, node.parent = node.ids[at:], after, upper
        upper.children[node.ids[0]] = node
        return upper

    def _use(self, node: PrefixNode) -> None:
        self._clock += 1
        node.used = self._clock

    def _evict(self) -> None:
        """Drop nodes down to nine tenths of the limit, so that this does not run for every token."""
        if self.nbytes <= self.limit:
            return
        leaves = [(node.used, id(node), node) for root in self._roots.values() for node in _leaves(root)]
        heapq.heapify(leaves)
        while leaves and self.nbytes > 0.9 * self.limit:
            _, _, node = heapq.heappop(leaves)
            self.nbytes -= node.nbytes
            if isinstance(node, PrefixRoot):
                del self._roots[node.head]
                continue
            assert node.parent is not None
            del node.parent.children[node.ids[0]]
            if not node.parent.children:
                heapq.heappush(leaves, (node.parent.used, id(node.parent), node.parent))


def _walk(root: PrefixRoot, ids: Sequence[int]) -> Iterator[tuple[PrefixNode, int]]:
    """The nodes that `ids` begin with, and how many tokens of each. Only the last can be partial."""
    node: PrefixNode = root
    at = 0
    while at < len(ids) and (child := node.children.get(ids[at])) is not None:
        end = at + len(child.ids)
        whole = tuple(ids[at:end]) == child.ids
        yield child, len(child.ids) if whole else common_length(child.ids, ids[at:end])
        if not whole:
            return
        node, at = child, end


def common_length(a: Sequence[int], b: Sequence[int]) -> int:
    """How many tokens two texts have in common at their beginning."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def _leaves(root: PrefixRoot) -> Iterator[PrefixNode]:
    stack: list[PrefixNode] = [root]
    while stack:
        node = stack.pop()
        if node.children:
            stack += node.children.values()
        else:
            yield node
