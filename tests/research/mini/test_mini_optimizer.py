"""Muon for matrices, AdamW for the rest, together and after a pause."""

import copy

import torch
from torch import nn

from research.mini.optimizer import MuonAdamW, make_optimizer, orthogonal


def test_an_update_has_singular_values_near_one() -> None:
    torch.manual_seed(0)
    for shape in ((3, 16, 40), (2, 40, 16)):
        values = torch.linalg.svdvals(orthogonal(torch.randn(shape)))
        assert values.min() > 0.6 and values.max() < 1.3


def net() -> nn.Module:
    torch.manual_seed(1)
    return nn.ModuleDict(
        {"embed": nn.Embedding(5, 8), "layer": nn.Linear(8, 8), "vision_heads": nn.Linear(8, 3)}
    )


def grads(model: nn.Module, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)


def test_all_but_the_layers_matrices_is_stepped_by_adamw() -> None:
    ours, theirs = net(), net()
    mixed = make_optimizer(ours, 0.1, 0.01)
    plain = torch.optim.AdamW(theirs.parameters(), lr=0.01, betas=(0.9, 0.98), weight_decay=0.0)
    for seed in range(3):
        for model, optimizer in ((ours, mixed), (theirs, plain)):
            grads(model, seed)
            optimizer.step()
    for (name, a), b in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        assert torch.equal(a, b) == (name != "layer.weight"), name


def test_a_matrix_is_stepped_by_its_orthogonal_gradient_after_decay() -> None:
    model = net()
    weight = model["layer"].weight
    before = weight.detach().clone()
    grads(model, 0)
    make_optimizer(model, 0.1, 0.01).step()
    step = orthogonal(weight.grad[None])[0]
    assert torch.allclose(weight, before * (1 - 0.1 * 0.2) - 0.1 * step, atol=1e-5)


def test_it_goes_on_from_its_state() -> None:
    model = net()
    optimizer = make_optimizer(model, 0.1, 0.01)
    grads(model, 0)
    optimizer.step()
    other = copy.deepcopy(model)
    again = make_optimizer(other, 0.1, 0.01)
    again.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert isinstance(again, MuonAdamW)
    for one, step in ((model, optimizer), (other, again)):
        grads(one, 1)
        step.step()
    for a, b in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)
