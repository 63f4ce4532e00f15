from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from llava_cot.models.local.encoding import Head
from llava_cot.models.local.prefix_cache import KV, PrefixCache, PrefixRoot

BYTES = 2 * 3 * 4 * 4  # a token's, below


def computed(ids: list[int]) -> KV:
    """What a network would compute: each token's keys depend on all up to it."""
    values = [hash(tuple(ids[: i + 1])) % 1000 for i in range(len(ids))]
    return [torch.tensor(values, dtype=torch.float32)[None, None, :, None].expand(2, 3, -1, 4)]


def add(store: PrefixCache, root: PrefixRoot, ids: list[int]) -> int:
    """Add and tell how many tokens had to be copied."""
    copied = 0

    def read(start: int, stop: int) -> KV:
        nonlocal copied
        copied += stop - start
        return [tensor[:, :, start:stop].clone() for tensor in computed(ids)]

    store.add(root, ids, read, lambda: [torch.tensor(ids)])
    return copied


def known(store: PrefixCache, root: PrefixRoot, ids: list[int]) -> int:
    """How many of the ids are known; what is known must be what was computed."""
    pieces, _ = store.match(root, ids)
    length = sum(piece[0].shape[2] for piece in pieces)
    if pieces:
        assert torch.equal(torch.cat([piece[0] for piece in pieces], 2), computed(ids[:length])[0])
    return length


def test_the_longest_known_beginning_is_found_and_nothing_is_kept_twice() -> None:
    store, root = PrefixCache(10**6), PrefixRoot((), [], None)
    store.add_root(root)
    assert known(store, root, [1, 2]) == 0
    assert add(store, root, [1, 2, 3, 4]) == 4
    assert add(store, root, [1, 2, 3, 4]) == 0
    assert add(store, root, [1, 2]) == 0
    assert add(store, root, [1, 2, 5]) == 1
    assert add(store, root, [1, 2, 3, 4, 6]) == 1
    assert store.nbytes == 6 * BYTES
    assert [known(store, root, ids) for ids in ([1, 2, 3, 4, 6, 7], [1, 2, 5, 9], [1, 2, 3], [7])] == [
        5,
        3,
        3,
        0,
    ]


def test_with_states_a_text_is_continued_where_one_ended() -> None:
    """A text of states [t] ends after the tokens t: states cannot be cut as keys and values can."""
    store, root = PrefixCache(10**6, by_states=True), PrefixRoot((), [], None)
    store.add_root(root)
    add(store, root, [1, 2, 3, 4])
    assert known(store, root, [1, 2, 3]) == 0
    assert store.match(root, [1, 2, 3])[1] is None
    assert known(store, root, [1, 2, 3, 4, 5]) == 4
    add(store, root, [1, 2, 7])  # splits the node before its end
    assert known(store, root, [1, 2, 3, 4, 5]) == 4
    assert known(store, root, [1, 2, 8]) == 0
    add(store, root, [1, 2])  # what a split left without states gets them
    pieces, states = store.match(root, [1, 2, 8])
    assert len(pieces) == 1 and states is not None and states[0].tolist() == [1, 2]
    ends = [[1, 2, 3, 4], [1, 2, 7], [1, 2]]
    assert store.nbytes == 5 * BYTES + sum(torch.tensor(end).nbytes for end in ends)


def test_heads_are_kept_apart() -> None:
    store = PrefixCache(10**6)
    roots = [PrefixRoot((9,), computed([9]), None, head=Head((9,), (image,))) for image in ("a", "b")]
    for root in roots:
        store.add_root(root)
    add(store, roots[0], [1, 2])
    assert known(store, roots[0], [1, 2]) == 2
    assert known(store, roots[1], [1, 2]) == 0
    assert store.root(Head((9,), ("b",))) is roots[1]
    assert store.root(Head((9,), ("c",))) is None


def test_what_was_used_longest_ago_is_forgotten_first() -> None:
    store, root = PrefixCache(10 * BYTES), PrefixRoot((), [], None)
    store.add_root(root)
    add(store, root, [1, 1, 1])
    add(store, root, [2, 2, 2])
    add(store, root, [3, 3, 3])
    known(store, root, [1, 1, 1])
    add(store, root, [4, 4, 4])
    assert [known(store, root, [i, i, i]) for i in (1, 2, 3, 4)] == [3, 0, 3, 3]


def test_what_is_larger_than_the_limit_is_not_kept() -> None:
    store = PrefixCache(2 * BYTES)
    root = PrefixRoot((7, 8, 9), computed([7, 8, 9]), None, head=Head((7, 8, 9), ("a",)))
    store.add_root(root)
    assert store.nbytes == 0
    assert store.root(root.head) is None
    assert add(store, root, [1]) == 0, "a root that was forgotten keeps nothing more"


runs = st.lists(st.lists(st.integers(0, 2), max_size=6), max_size=20)


@given(runs, st.integers(0, 40))
def test_any_order_of_additions_stays_right_and_within_the_limit(
    sequences: list[list[int]], limit: int
) -> None:
    store, root = PrefixCache(limit * BYTES), PrefixRoot((), [], None)
    for ids in sequences:
        if store.root(None) is None:
            root = PrefixRoot((), [], None)
            store.add_root(root)
        add(store, root, ids)
        assert store.nbytes <= limit * BYTES
        assert known(store, root, [*ids, 0]) <= len(ids) + 1
    if limit == 40 and sequences:
        beginnings = {tuple(ids[: i + 1]) for ids in sequences for i in range(len(ids))}
        if len(beginnings) <= 40:
            assert store.nbytes == len(beginnings) * BYTES
