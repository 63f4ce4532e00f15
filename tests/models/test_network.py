"""Which tokens the layers of each kind see."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from opening import Tiny

from llava_cot.errors import ModelError
from llava_cot.models.local.network import Network, _Window, _windows


def config(**text: Any) -> Any:
    return SimpleNamespace(model_type="made", get_text_config=lambda: SimpleNamespace(**text))


@pytest.fixture(scope="module")
def network(opened: Any) -> Network:
    tiny_model: Tiny = opened("llava")
    return Network(tiny_model.network)


@given(
    st.lists(st.integers(0, 40), min_size=1, max_size=4),
    st.integers(1, 4),
    st.integers(0, 12),
    st.booleans(),
)
def test_a_mask_is_what_its_definition_says(
    network: Network, starts: list[int], tokens: int, size: int, chunked: bool
) -> None:
    place = torch.tensor([[start + i for i in range(tokens)] for start in starts])
    columns = int(place.max()) + 1
    found = network._mask(place, columns, _Window(size, chunked)) == 0

    def sees(own: int, column: int) -> bool:
        if column > own or not size:
            return column <= own
        return column // size == own // size if chunked else own - column < size

    expected = [[[sees(int(own), c) for c in range(columns)] for own in row] for row in place]
    assert found[:, 0].tolist() == expected


def test_a_mask_is_made_only_where_something_is_masked(network: Network) -> None:
    network._windows = {"full_attention": _Window(), "sliding_attention": _Window(8), "conv": None}
    one = torch.tensor([[7], [7]])
    assert network._masks(one, 8, even=True) == {
        "full_attention": None, "sliding_attention": None, "conv": None,
    }  # fmt: skip
    masks = network._masks(one + 1, 9, even=True)
    assert masks["full_attention"] is None and (masks["sliding_attention"][:, 0, 0] == 0).sum(
        -1
    ).tolist() == [8, 8]
    assert network._masks(one, 8)["full_attention"] is not None


def test_the_kinds_of_layers_are_read_from_the_configuration() -> None:
    assert _windows(config()) == {"": _Window()}
    assert _windows(config(layer_types=["full_attention"] * 2, sliding_window=8)) == {"": _Window()}
    assert _windows(config(sliding_window=8)) == {"": _Window(8)}
    assert _windows(config(layer_types=["chunked_attention", "full_attention"], attention_chunk_size=4)) == {
        "full_attention": _Window(),
        "chunked_attention": _Window(4, chunked=True),
    }
    assert _windows(config(layer_types=["hybrid", "hybrid_sliding"], sliding_window=8)) == {
        "full_attention": _Window(),
        "sliding_attention": _Window(8),
        "linear_attention": None,
    }
    with pytest.raises(ModelError, match=r"cannot run made: it has layers of the kind echo; .*vllm:FOLDER"):
        _windows(config(layer_types=["full_attention", "echo"]))


@pytest.mark.parametrize("size", [0, -1, None])
@pytest.mark.parametrize(
    ("kind", "field"),
    [("sliding_attention", "sliding_window"), ("chunked_attention", "attention_chunk_size")],
)
def test_a_window_that_no_layer_can_have(kind: str, field: str, size: int | None) -> None:
    with pytest.raises(ModelError, match=f"layers of the kind {kind}, and its {field} is {size};"):
        _windows(config(layer_types=["full_attention", kind], **{field: size}))


def test_a_layer_of_two_kinds_needs_its_window_too() -> None:
    with pytest.raises(ModelError, match="sliding_attention, and its sliding_window is 0"):
        _windows(config(layer_types=["hybrid", "hybrid_sliding"], sliding_window=0))
    assert _windows(config(layer_types=["hybrid", "mlp"])) == {
        "full_attention": _Window(),
        "linear_attention": None,
    }
