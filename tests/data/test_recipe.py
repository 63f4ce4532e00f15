"""Recipes: the paper's own, and one sentence for what is wrong with others."""

from pathlib import Path

import pytest

from llava_cot.core.files import read_recipe
from llava_cot.data.sources import SOURCES
from llava_cot.data.sources.entry import DataRecipe
from llava_cot.errors import DataError

RECIPES = Path(__file__).parents[2] / "recipes"


def test_the_papers_recipe() -> None:
    recipe = read_recipe(RECIPES / "llava-cot-100k.yaml", DataRecipe)
    counts = {entry.source: entry.count for entry in recipe.sources}
    assert set(counts) == set(SOURCES)
    assert sum(count for count in counts.values() if isinstance(count, int)) == 99_000
    assert counts["sharegpt4v"] == 31_300 and counts["clevr_math"] == 500


def test_the_papers_benchmarks_can_be_kept_out(tmp_path: Path) -> None:
    text = (RECIPES / "llava-cot-100k.yaml").read_text()
    head, mark, rest = text.partition("# exclude:")
    (tmp_path / "r.yaml").write_text(head + (mark + rest).replace("\n# ", "\n").removeprefix("# "))
    recipe = read_recipe(tmp_path / "r.yaml", DataRecipe)
    assert [entry.label for entry in recipe.exclude][:2] == ["MMStar", "MMBench_TEST_EN_V11"]
    assert len(recipe.exclude) == 6


def test_the_recipe_of_scenes() -> None:
    (entry,) = read_recipe(RECIPES / "scenes.yaml", DataRecipe).sources
    assert (entry.source, entry.split, entry.count) == ("scenes", "train", 1000)


def test_the_place_of_the_recipe_is_where_its_paths_begin(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text("sources: [{source: clevr, root: CLEVR_v1.0, count: all}]")
    recipe = read_recipe(tmp_path / "r.yaml", DataRecipe)
    assert recipe.located(tmp_path).sources[0].root == tmp_path / "CLEVR_v1.0"
    assert recipe.sources[0].root == Path("CLEVR_v1.0")


SCENES = "{source: scenes, count: 1}"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "sources: Field required"),
        ("[", "not YAML"),
        ("\0", "not YAML"),
        ("3", "valid dictionary"),
        ("sources: []", "sources"),
        (f"sources: [{SCENES}]\nsource: x", "source: there is no such field"),
        (
            "sources: [{source: scenes, count: 1, colour: red}]",
            r"sources\[0\].colour: there is no such field",
        ),
        (f"sources: [{SCENES}, {{source: chartqb}}]", r"sources\[1\]: there is no source 'chartqb'; choose"),
        ("sources: [{source: clevr, count: 1}]", r"sources\[0\]: the source clevr needs `root`"),
        ("sources: [{source: clevr, root: x}]", r"sources\[0\] \(clevr\) needs `count`"),
        ("sources: [{source: scenes, count: many}]", r"sources\[0\].count"),
        ("sources: [{source: scenes, count: -1}]", r"sources\[0\].count"),
        (f"sources: [{SCENES}, {SCENES}]", "two sources are called 'scenes'; give one of them a `name`"),
        (f"seed: x\nsources: [{SCENES}]", "seed: "),
        (f"sources: [{SCENES}]\nexclude: [{{source: tsv}}]", r"exclude\[0\]: the source tsv needs `path`"),
        (
            f"sources: [{SCENES}]\nexclude: [{{source: tsv, path: x, count: 1}}]",
            r"exclude\[0\] \(x\) takes no `count`",
        ),
    ],
)
def test_a_wrong_recipe_is_refused_in_a_sentence_with_its_name(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "r.yaml").write_text(text)
    with pytest.raises(DataError, match=words) as error:
        read_recipe(tmp_path / "r.yaml", DataRecipe)
    assert str(tmp_path / "r.yaml") in str(error.value) and "\n" not in str(error.value)


def test_a_recipe_that_is_not_there_or_no_text(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no recipe"):
        read_recipe(tmp_path / "r.yaml", DataRecipe)
    with pytest.raises(DataError, match="cannot be read"):
        read_recipe(tmp_path, DataRecipe)
    (tmp_path / "r.yaml").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(DataError, match="cannot be read"):
        read_recipe(tmp_path / "r.yaml", DataRecipe)
