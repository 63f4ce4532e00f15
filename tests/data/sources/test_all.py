"""What holds for every source alike, on fixtures in the layouts that their authors publish."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from llava_cot.core.images import load_image
from llava_cot.data.record import to_json
from llava_cot.data.sources import SOURCES, Source
from llava_cot.errors import DataError

FIXTURES = Path(__file__).parents[2] / "fixtures"
SPLITS = [(source, split) for source in SOURCES.values() for split in source.splits]
EACH = pytest.mark.parametrize("source", SOURCES.values(), ids=list(SOURCES))
EACH_SPLIT = pytest.mark.parametrize(("source", "split"), SPLITS, ids=[f"{s.name}-{p}" for s, p in SPLITS])

# The file of a source's questions.
QUESTIONS = {
    "sharegpt4v": "sharegpt4v/sharegpt4v_mix665k_cap23k_coco-ap9k_lcs3k_sam9k_div2k.json",
    "chartqa": "train/train_human.json",
    "aokvqa": "aokvqa/aokvqa_v1p0_train.json",
    "ai2d": "questions/2.png.json",
    "scienceqa": "problems.json",
    "docvqa": "spdocvqa_qas/train_v1.0_withQT.json",
    "pisc": "relationship_split/relation_trainidx.json",
    "clevr": "questions/CLEVR_train_questions.json",
    "clevr_math": "clevr-math-train.json",
}
IN_JSON = pytest.mark.parametrize(("name", "file"), QUESTIONS.items(), ids=list(QUESTIONS))


def copy(name: str, to: Path) -> Path:
    return Path(shutil.copytree(FIXTURES / name, to / name))


def test_the_ten_sources_of_the_paper_are_there() -> None:
    assert list(SOURCES) == [*list(QUESTIONS)[:4], "geoqa_plus", *list(QUESTIONS)[4:]]


@EACH
def test_an_empty_root_names_all_that_is_missing_and_where_to_get_it(source: Source, tmp_path: Path) -> None:
    with pytest.raises(DataError) as error:
        source.records(tmp_path)
    for need in source.needs:
        assert need.format(split="train") in str(error.value)
    assert source.home in str(error.value) and str(tmp_path) in str(error.value)
    assert "\n" not in str(error.value)


@EACH_SPLIT
def test_every_split_gives_records_twice_the_same(source: Source, split: str) -> None:
    records = list(source.records(FIXTURES / source.name, split))
    assert records == list(source.records(FIXTURES / source.name, split)) != []
    assert len({record.id for record in records}) == len(records)
    for record in records:
        assert record.id.startswith(f"{source.name}/{split}/")
        assert (record.source, record.license) == (source.name, source.license)
        assert json.loads(json.dumps(to_json(record))).get("extra", {}) == record.extra
        assert all(turn.answer and turn.question and turn.response is None for turn in record.turns)
        (picture,) = record.pictures
        assert picture.name.startswith(f"{source.name}/")
        load_image(picture.read())


@EACH
def test_no_picture_is_read_before_it_is_asked_for(source: Source, tmp_path: Path) -> None:
    root = copy(source.name, tmp_path)
    expected = list(source.records(root))
    for picture in (path for path in root.rglob("*") if path.suffix in (".png", ".jpg")):
        picture.write_text("no picture")
    assert list(source.records(root)) == expected


@IN_JSON
def test_records_come_before_the_end_is_read_and_what_is_broken_is_named(
    name: str, file: str, tmp_path: Path
) -> None:
    root = copy(name, tmp_path)
    content = (root / file).read_text()
    (root / file).write_text(content[: content.rindex("]")])
    with pytest.raises(DataError, match=r"line \d+: this is no JSON") as error:
        records = SOURCES[name].records(root)
        if name != "ai2d":  # a file a picture
            next(records)
        list(records)
    assert str(root / file) in str(error.value)


@IN_JSON
def test_an_entry_of_another_kind_is_named_with_its_place(name: str, file: str, tmp_path: Path) -> None:
    root = copy(name, tmp_path)
    content = json.loads((root / file).read_text())
    rows = content
    if isinstance(content, dict):
        rows = content.get("data") or content.get("questions") or content
    rows[0 if isinstance(rows, list) else next(iter(rows))] = ["what", "is", "this"]
    (root / file).write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"(entry 1|entry '\w+'|all of it): ") as error:
        list(SOURCES[name].records(root))
    assert str(root / file) in str(error.value)


@EACH
def test_a_picture_that_is_missing_is_noticed_when_it_is_read(source: Source, tmp_path: Path) -> None:
    root = copy(source.name, tmp_path)
    picture = next(source.records(root)).pictures[0]
    (root / picture.name.removeprefix(f"{source.name}/")).unlink()
    with pytest.raises(OSError):
        next(source.records(root)).pictures[0].read()


def test_a_picture_outside_of_the_root_is_refused(tmp_path: Path) -> None:
    root = copy("chartqa", tmp_path)
    (tmp_path / "secret.png").touch()
    (root / "train" / "train_human.json").write_text(
        '[{"imgname": "../../../secret.png", "query": "?", "label": "!"}]'
    )
    with pytest.raises(DataError, match=r"train_human.json, entry 1: the picture .* outside"):
        list(SOURCES["chartqa"].records(root))


def test_importing_the_sources_is_cheap() -> None:
    code = "import llava_cot.data.sources, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not set(done.stdout.split()) & {
        "torch",
        "transformers",
        "numpy",
        "pyarrow",
        "datasets",
        "imagehash",
    }
