"""The losses of log-ratios are those of their formulas and of TRL, and pairs are drawn evenly."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from trl import DPOTrainer

from llava_cot.train.encode import IGNORE
from llava_cot.train.labeled_rows import RowLabel
from llava_cot.train.objectives import (
    Comparison,
    dpo_losses,
    outcome_losses,
    pairs_ordered,
    sequence_logprobs,
)
from llava_cot.train.pairing import alike_units, pair_units


def test_a_sequences_logprob_is_the_sum_over_its_labeled_tokens_whatever_is_padded() -> None:
    torch.manual_seed(0)
    rows = [(7, 3), (5, 2), (9, 7)]  # length, labeled tokens at the end
    ids = [torch.randint(0, 11, (length,)) for length, _ in rows]
    logits = [torch.randn(length, 11) for length, _ in rows]
    expected = []
    for (length, learned), one, scores in zip(rows, ids, logits, strict=True):
        probabilities = torch.softmax(scores.double(), -1)
        expected.append(sum(
            math.log(probabilities[i - 1, one[i]]) for i in range(length - learned, length)
        ))  # fmt: skip
    for width in (9, 12):
        labels = torch.full((3, width), IGNORE)
        padded = torch.randn(3, width, 11)
        for row, ((length, learned), one, scores) in enumerate(zip(rows, ids, logits, strict=True)):
            labels[row, length - learned : length] = one[length - learned :]
            padded[row, :length] = scores
        found = sequence_logprobs(padded, labels, width)
        assert found.tolist() == pytest.approx(expected, abs=1e-5)
        kept = sequence_logprobs(
            padded[:, -width + 1 :], labels, width - 1
        )  # no first token has a label, nor a second one
        assert kept.tolist() == pytest.approx(expected, abs=1e-5)


def of_trl(
    right: torch.Tensor, wrong: torch.Tensor, types: list[str], weights: list[float], beta: float
) -> float:
    """TRL's loss of pairs of log-ratios: of a model that gives each text's one token this one."""
    rows = torch.cat([right, wrong])[:, None]
    outputs = SimpleNamespace(
        log_probs=rows,
        entropy=rows * 0,
        mean_logits=rows * 0,
        is_top1=torch.zeros(rows.shape, dtype=torch.bool),
    )

    def model(**_: Any) -> SimpleNamespace:
        return outputs

    trainer: Any = object.__new__(DPOTrainer)
    trainer.model = SimpleNamespace(training=False)
    trainer.accelerator = SimpleNamespace(device="cpu", gather=lambda x: x, gather_for_metrics=lambda x: x)
    trainer.aux_loss_enabled = trainer.use_weighting = False
    trainer.ld_alpha, trainer.precompute_ref_logps, trainer.f_divergence_type = None, True, "reverse_kl"
    trainer.loss_types, trainer.loss_weights, trainer.beta = types, weights, beta
    trainer.label_smoothing, trainer._metrics, trainer._total_train_tokens = (
        0.0,
        {"eval": defaultdict(list)},
        0,
    )
    zeros = torch.zeros(len(right))
    two = torch.ones(len(rows), 2, dtype=torch.long)
    inputs = {
        "input_ids": two, "attention_mask": two, "completion_mask": torch.tensor([[0, 1]] * len(rows)),
        "ref_chosen_logps": zeros, "ref_rejected_logps": zeros,
    }  # fmt: skip
    return float(trainer._compute_loss(model, inputs, return_outputs=False))


def test_the_losses_are_their_formulas_and_those_of_trl() -> None:
    torch.manual_seed(1)
    right, wrong = torch.randn(6) * 5, torch.randn(6) * 5
    by_hand = [
        math.log(1 + math.exp(-0.3 * (a - b))) for a, b in zip(right.tolist(), wrong.tolist(), strict=True)
    ]
    assert dpo_losses(right, wrong, 0.3).tolist() == pytest.approx(by_hand, rel=1e-5)
    assert dpo_losses(right, wrong, 0.3).mean().item() == pytest.approx(
        of_trl(right, wrong, ["sigmoid"], [1.0], 0.3)
    )

    is_right = torch.tensor([True] * 6 + [False] * 6)
    found = outcome_losses(torch.cat([right, wrong]), is_right, 0.3, 0.7).tolist()
    chances = [1 / (1 + math.exp(-(0.3 * one + 0.7))) for one in [*right.tolist(), *wrong.tolist()]]
    by_hand = [-math.log(p if good else 1 - p) for p, good in zip(chances, is_right.tolist(), strict=True)]
    assert found == pytest.approx(by_hand, rel=1e-4)
    # TRL's loss of pairs that sorts each answer by itself, which has no bias.
    both = outcome_losses(torch.cat([right, wrong]), is_right, 0.3, 0.0).sum().item() / 6
    assert both == pytest.approx(of_trl(right, wrong, ["bco_pair"], [1.0], 0.3), rel=1e-5)


def test_a_sum_of_losses_is_that_of_trl() -> None:
    torch.manual_seed(2)
    right, wrong = torch.randn(5) * 3, torch.randn(5) * 3
    mpo = Comparison(0.3, dpo=0.8, bco=0.2, sft=1.0)
    rows = torch.stack([right, wrong], 1).flatten()  # pairs, the right one first
    found = mpo.losses(rows, torch.tensor([True, False] * 5), 0.0).mean() - mpo.sft * right.mean()
    expected = of_trl(right, wrong, ["sigmoid", "bco_pair", "sft"], [0.8, 0.2, 1.0], 0.3)
    assert float(found) == pytest.approx(expected, rel=1e-5)


def test_the_bias_goes_along_its_gradient() -> None:
    torch.manual_seed(3)
    ratios, right, bias = torch.randn(9), torch.rand(9) > 0.4, torch.tensor(0.3, requires_grad=True)
    compare = Comparison(0.5, alone=True)
    outcome = torch.nn.functional.binary_cross_entropy_with_logits(0.5 * ratios + bias, right.float())
    (expected,) = torch.autograd.grad(outcome * 9, bias)
    assert float(compare.bias_gradient(ratios, right, 0.3)) == pytest.approx(float(expected), rel=1e-5)


def test_only_pairs_of_one_question_count_as_ordered() -> None:
    scores = [3.0, 1.0, 2.0, 2.0, 9.0, -5.0, -6.0]
    questions = ["a", "a", "a", "a", "b", "c", "c"]
    right = [True, False, False, True, False, True, False]
    # a: 3 > 1, 3 > 2, 2 > 1, 2 = 2; b has no right one; c: -5 > -6
    assert pairs_ordered(scores, questions, right) == pytest.approx((3 + 0.5 + 1) / 5)
    assert math.isnan(pairs_ordered([1.0], ["a"], [True]))


@given(
    st.lists(st.tuples(st.integers(0, 4), st.booleans()), max_size=40), st.integers(1, 9), st.integers(0, 3)
)
def test_pairs_are_of_one_question_and_use_its_answers_evenly(
    drawn: list[tuple[int, bool]], most: int, seed: int
) -> None:
    labels = [RowLabel(str(question), right) for question, right in drawn]
    units = pair_units(labels, most, seed)
    assert len(set(units)) == len(units)
    for question in {label.question for label in labels}:
        mine = [unit for unit in units if labels[unit[0]].question == question]
        by_outcome = [
            [i for i, label in enumerate(labels) if label == RowLabel(question, r)] for r in (True, False)
        ]
        assert len(mine) == min(most, len(by_outcome[0]) * len(by_outcome[1]))
        for side, rows in enumerate(by_outcome):
            counts = Counter(dict.fromkeys(rows, 0)) if mine else Counter[int]()
            counts.update(unit[side] for unit in mine)
            assert set(counts) <= set(rows)
            assert not counts or max(counts.values()) - min(counts.values()) <= 1
        alike = [unit for unit in alike_units(labels, seed) if labels[unit[0]].question == question]
        assert bool(alike) != all(by_outcome)
        assert {labels[i].question for unit in alike for i in unit} <= {question}
    assert units == pair_units(labels, most, seed)


def test_pairs_are_drawn_at_random() -> None:
    labels = [RowLabel("a", right) for right in [True] * 8 + [False] * 8]
    found = {pair_units(labels, 1, seed)[0] for seed in range(200)}
    assert len(found) > 40
