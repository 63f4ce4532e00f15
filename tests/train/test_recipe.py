"""A recipe is read whole or refused with its field's name; the paper's means what the paper says."""

from __future__ import annotations

from pathlib import Path

import pytest

from llava_cot.core.files import make_recipe, read_recipe
from llava_cot.errors import DataError
from llava_cot.train.recipe import TrainRecipe
from llava_cot.train.trainer import step_factor, training_arguments

RECIPES = Path(__file__).parents[2] / "recipes"
LEAST = {"model": "mini", "out": "out", "data": [{"path": "here"}]}


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"rates": 1e-5}, "rates: there is no such field"),
        ({"rate": 0}, "rate: .*greater than 0"),
        ({"data": []}, "data: .*at least 1"),
        ({"data": [{"path": "a", "weight": 2}]}, r"data\[0\]\.weight: there is no such field"),
        ({"target": "tagged"}, "target: .*'staged', 'untagged' or 'direct'"),
        ({"epochs": 1, "steps": 5}, "give either epochs or steps"),
        ({"evaluate": {"every": 5}}, "evaluate: give either path or share"),
        ({"gamma": 0.5}, "schedule: step needs a gamma, and no other schedule takes one"),
        ({"schedule": "step"}, "schedule: step needs a gamma"),
        ({"lora": {"rank": 0}}, r"lora\.rank"),
    ],
)
def test_what_is_wrong_is_named(more: dict[str, object], told: str) -> None:
    with pytest.raises(DataError, match=f"the recipe a.yaml: .*{told}"):
        make_recipe(LEAST | more, TrainRecipe, "a.yaml")


def test_a_misspelled_field_is_named_before_the_one_that_is_missing() -> None:
    fields = {name: value for name, value in LEAST.items() if name != "data"}
    with pytest.raises(DataError, match="dataset: there is no such field"):
        make_recipe(fields | {"dataset": LEAST["data"]}, TrainRecipe, "a.yaml")


@pytest.mark.parametrize(
    ("text", "told"), [("a: [", "is not YAML"), ("- a", "valid dictionary"), ("", "model: ")]
)
def test_what_is_no_recipe_is_refused(text: str, told: str, tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(text)
    with pytest.raises(DataError, match=told):
        read_recipe(file, TrainRecipe)
    with pytest.raises(DataError, match="there is no recipe"):
        read_recipe(tmp_path / "b.yaml", TrainRecipe)


def test_the_papers_recipe_is_the_papers(tmp_path: Path) -> None:
    recipe = read_recipe(RECIPES / "llava-cot-11b.yaml", TrainRecipe)
    assert (recipe.target, recipe.epochs, recipe.max_tokens) == ("staged", 3, 4096)
    assert (recipe.schedule, recipe.gamma, recipe.warmup) == ("step", 0.85, 0)
    assert recipe.lora is None and recipe.freeze == [] and not recipe.group_by_length and recipe.double_bos
    arguments = training_arguments(recipe, tmp_path, steps=9282, layers=["MllamaVisionEncoderLayer"])
    assert arguments.per_device_train_batch_size == 4
    assert arguments.gradient_accumulation_steps == 1
    assert arguments.num_train_epochs == 3
    assert arguments.learning_rate == 1e-5
    assert arguments.max_grad_norm == 0
    assert arguments.weight_decay == 0
    assert arguments.seed == 42
    assert arguments.bf16 and not arguments.fp16
    assert arguments.fsdp and arguments.fsdp_config["reshard_after_forward"] is True
    assert arguments.fsdp_config["activation_checkpointing"] is True
    assert not arguments.activation_checkpointing


def test_the_rate_falls_by_gamma_each_epoch() -> None:
    factor = step_factor(0.85, 0, lambda step: step // 100)
    assert [factor(step) for step in (0, 99, 100, 200, 299)] == pytest.approx([1, 1, 0.85, 0.7225, 0.7225])
    warmed = step_factor(1.0, 4, lambda step: 0)
    assert [warmed(step) for step in range(6)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1, 1])


def test_every_shipped_recipe_for_training_is_read() -> None:
    for name in ("llava-cot-11b.yaml", "first-run.yaml", "mini.yaml", "mini-reward.yaml"):
        read_recipe(RECIPES / name, TrainRecipe)
