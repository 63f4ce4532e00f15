"""A sample against brute force: who is drawn, who is left out and why, what is in the folder."""

import base64
import io
import json
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from llava_cot.data.overlap import LIKE, NEAR, fingerprint, normalize
from llava_cot.data.record import Record, from_json
from llava_cot.data.sampling import finding
from llava_cot.data.sampling import sample as sampling
from llava_cot.data.sampling.finding import place
from llava_cot.data.sources.entry import SourceEntry, open_source
from llava_cot.data.store import Store
from llava_cot.errors import DataError, StoreError
from llava_cot.scenes.items import make_items

QUESTIONS = ("How many objects are there?", "What color is the cube?", "Is there a ball?")


def encoded(image: Image.Image, format: str = "PNG") -> bytes:
    data = io.BytesIO()
    image.save(data, format)
    return data.getvalue()


def variants(image: Image.Image) -> list[bytes]:
    """The picture, another file with its pixels, a near one, and a relative."""
    width, height = image.size
    cropped = image.crop((4, 4, width - 4, height - 4))
    return [encoded(image), encoded(image, "BMP"), encoded(image, "JPEG"), encoded(cropped)]


PICTURES = [variants(item.picture()) for item in make_items("validation", 7, 6)]


def chat(id: str, image: str | None, question: str) -> dict[str, Any]:
    messages = [{"from": "human", "value": question}, {"from": "gpt", "value": "Yes."}]
    return {"id": id, "conversations": messages} | ({"image": image} if image else {})


def write_source(folder: Path, name: str, rng: random.Random, rows: int) -> None:
    """A source with duplicates, near copies, broken and missing-text rows, all drawn at random."""
    lines = []
    for n in range(rows):
        question = rng.choice(QUESTIONS) + rng.choice(["", " ", "\n<image>"])
        image = None
        if "<image>" in question or rng.random() < 0.9:
            image = f"{name}-{n}.bin"
            broken = rng.random() < 0.05
            (folder / image).write_bytes(b"broken" if broken else rng.choice(rng.choice(PICTURES)))
        lines.append(chat(f"{name}{n}", image, question.upper() if rng.random() < 0.3 else question))
    (folder / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def write_benchmark(folder: Path) -> None:
    rows = [(1, 0, "Why?"), (2, 1, QUESTIONS[1])]
    text = "index\tquestion\timage\n" + "".join(
        f"{index}\t{question}\t{base64.b64encode(PICTURES[picture][0]).decode()}\n"
        for index, picture, question in rows
    )
    (folder / "Bench.tsv").write_text(text)


def write_recipe(folder: Path, **recipe: Any) -> Path:
    file = folder / "recipe.yaml"
    file.write_text(yaml.safe_dump(recipe))
    return file


def silent(what: str, done: int, total: int | None = None) -> None:
    pass


def reference(folder: Path, recipe: dict[str, Any]) -> tuple[list[str], list[list[int]]]:
    """Who is drawn, and how many were left out by reason, computed as simply as possible."""
    benchmark = [
        (fingerprint(record.pictures[0].read()), normalize(record.turns[0].question))
        for record in (open_source(SourceEntry(**e).located(folder)).records() for e in recipe["exclude"])
        for record in record
    ]
    drawn: list[tuple[bytes, Record, Any]] = []
    left_out = []
    for entry in recipe["sources"]:
        label = Path(entry["path"]).stem
        counts, mine = [0, 0, 0, 0], 0
        records = list(open_source(SourceEntry(**entry).located(folder)).records())
        for record in sorted(records, key=lambda record: place(recipe["seed"], label, record)):
            if mine == entry["count"]:
                break
            text = normalize(record.turns[0].question)
            try:
                prints = [fingerprint(picture.read()) for picture in record.pictures]
            except ValueError:
                counts[3] += 1
                continue
            gaps = [
                (min(((it.phash ^ known.phash).bit_count() for it in prints), default=0), question == text)
                for known, question in benchmark
            ]
            if prints and any(gap <= NEAR for gap, _ in gaps):
                counts[1] += 1
            elif any(same and gap <= LIKE for gap, same in gaps):
                counts[2] += 1
            elif any((text, [it.sha256 for it in prints]) == other for _, _, other in drawn):
                counts[0] += 1
            else:
                drawn.append(
                    (place(recipe["seed"], label, record), record, (text, [it.sha256 for it in prints]))
                )
                mine += 1
        left_out.append(counts)
    return [record.id for _, record, _ in sorted(drawn, key=lambda it: it[0])], left_out


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "questions.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("seed", range(12))
def test_a_sample_is_what_brute_force_draws(
    tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sampling, "_SPARE", seed % 3)  # so that lines have to be made longer
    monkeypatch.setattr(finding, "_BATCH", 1 + seed)
    rng = random.Random(seed)
    write_source(tmp_path, "one", rng, 40)
    write_source(tmp_path, "two", rng, 40)
    write_benchmark(tmp_path)
    recipe = {
        "seed": seed,
        "sources": [
            {"source": "chats", "path": "one.jsonl", "count": 8},
            {"source": "chats", "path": "two.jsonl", "count": "all" if seed % 2 else 4},
        ],
        "exclude": [{"source": "tsv", "path": "Bench.tsv"}] if seed % 4 else [],
    }
    expected, left_out = reference(tmp_path, recipe)
    report = sampling.sample(write_recipe(tmp_path, **recipe), tmp_path / "out", silent)
    assert [line["id"] for line in lines(tmp_path / "out")] == expected
    assert report["drawn"] == len(expected)
    reasons = ("duplicates", "overlaps_by_picture", "overlaps_by_text", "unreadable")
    assert [[source[reason] for reason in reasons] for source in report["sources"]] == left_out
    named = {path for line in lines(tmp_path / "out") for path in [line.get("image")] if path}
    found = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out/images").rglob("*.*")}
    assert found == named, "no picture is missing, and none is left of those that were not drawn"
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "images",
        "questions.jsonl",
        "sample.json",
    ]


@pytest.fixture
def source(tmp_path: Path) -> Iterator[Path]:
    for n in range(6):
        (tmp_path / f"{n}.png").write_bytes(PICTURES[n][0])
    rows = [chat(str(n), f"{n}.png", QUESTIONS[0]) for n in range(6)]
    (tmp_path / "s.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    yield tmp_path


def recipe_of(folder: Path, count: Any = 3, **more: Any) -> Path:
    return write_recipe(folder, sources=[{"source": "chats", "path": "s.jsonl", "count": count}], **more)


def test_the_folder_can_be_read_as_a_source_and_pictures_are_linked(source: Path) -> None:
    sampling.sample(recipe_of(source), source / "out", silent)
    opened = open_source(SourceEntry(source="records", root=source / "out", split="questions"))
    records = list(opened.records())
    assert [from_json(line, source / "out") for line in lines(source / "out")] == records
    assert len(records) == 3
    for record in records:
        assert record.source == "s" and record.turns[0].answer == "Yes."
        file = record.pictures[0].file
        assert file is not None and file.samefile(source / f"{record.id.split('-')[0]}.png")


def test_pictures_are_copied_where_they_cannot_be_linked(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr("os.link", refuse)
    sampling.sample(recipe_of(source), source / "out", silent)
    for line in lines(source / "out"):
        assert (source / "out" / line["image"]).read_bytes() == (
            source / Path(line["image"]).name
        ).read_bytes()


def test_the_same_sample_in_another_folder_and_from_shuffled_files(source: Path) -> None:
    first = sampling.sample(recipe_of(source), source / "a", silent)
    rows = (source / "s.jsonl").read_text().splitlines(keepends=True)
    (source / "s.jsonl").write_text("".join(reversed(rows)))
    assert sampling.sample(recipe_of(source), source / "b", silent) == first
    assert (source / "a/questions.jsonl").read_bytes() == (source / "b/questions.jsonl").read_bytes()
    assert sampling.sample(recipe_of(source, seed=5), source / "c", silent) != first


def test_a_whole_sample_is_left_as_it_is(source: Path) -> None:
    first = sampling.sample(recipe_of(source), source / "out", silent)
    (source / "s.jsonl").unlink()
    assert sampling.sample(recipe_of(source), source / "out", silent) == first
    with pytest.raises(DataError, match="sample of another recipe"):
        sampling.sample(recipe_of(source, 2), source / "out", silent)


def test_a_folder_that_holds_something_else_is_refused_and_left_alone(source: Path) -> None:
    for name, words in [("s.jsonl", "is a file"), (".", "holds other files")]:
        before = sorted(source.iterdir())
        with pytest.raises(DataError, match=words):
            sampling.sample(recipe_of(source), source / name, silent)
        assert sorted(set(source.iterdir()) - {source / "recipe.yaml"}) == sorted(
            set(before) - {source / "recipe.yaml"}
        )


def test_examined_records_are_not_examined_again(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finding, "_BATCH", 1)
    looked: list[str] = []
    real = finding.examine_pictures

    def examine(records: list[Record], *arguments: Any, **options: Any) -> Any:
        if len(looked) == 3:
            raise KeyboardInterrupt
        looked.extend(record.id for record in records)
        return real(records, *arguments, **options)

    monkeypatch.setattr(finding, "examine_pictures", examine)
    with pytest.raises(KeyboardInterrupt):
        sampling.sample(recipe_of(source, 6), source / "out", silent)
    assert not (source / "out/questions.jsonl").exists()
    with pytest.raises(DataError, match="unfinished sample of another recipe"):
        sampling.sample(recipe_of(source, 6, seed=1), source / "out", silent)
    before = list(looked)
    looked[:] = ["", "", "", ""]
    report = sampling.sample(recipe_of(source, 6), source / "out", silent)
    assert sorted([*before, *looked[4:]]) == sorted(line["id"] for line in lines(source / "out"))
    assert report["drawn"] == 6


def test_a_picture_that_is_removed_meanwhile_is_missed(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr(sampling, "_write", fail)
        with pytest.raises(KeyboardInterrupt):
            sampling.sample(recipe_of(source, 6), source / "out", silent)
    next((source / "out/images").rglob("*.png")).unlink()
    with pytest.raises(DataError, match=r"the picture images/s/\d.png is missing from"):
        sampling.sample(recipe_of(source, 6), source / "out", silent)
    assert not (source / "out/questions.jsonl").exists()


def test_text_of_any_kind_is_written_so_that_it_can_be_read(source: Path) -> None:
    rows = [chat("1", None, "多少个? \u2028 \ud800")]
    (source / "s.jsonl").write_text(json.dumps(rows[0]))
    sampling.sample(recipe_of(source, 1), source / "out", silent)
    opened = open_source(SourceEntry(source="records", root=source / "out", split="questions"))
    assert [record.turns[0].question for record in opened.records()] == ["多少个? \u2028 \ud800"]


def test_too_few_is_reported_before_any_picture_and_after_what_is_left_out(source: Path) -> None:
    with pytest.raises(
        DataError, match=r"s has 6 records to draw \(6 in all\), and the recipe's `count` is 7"
    ):
        sampling.sample(recipe_of(source, 7), source / "out", silent)
    assert not (source / "out").exists()
    (source / "0.png").write_bytes(b"broken")
    (source / "1.png").write_bytes(PICTURES[2][1])
    with pytest.raises(DataError, match=r"4 records to draw \(6 in all, 1 duplicates, 1 with a picture that"):
        sampling.sample(recipe_of(source, 6), source / "out", silent)
    assert sampling.sample(recipe_of(source, 4), source / "out", silent)["drawn"] == 4, (
        "and goes on with fewer"
    )
    assert sampling.sample(recipe_of(source, "all"), source / "all", silent)["drawn"] == 4


def test_names_that_two_sources_share(source: Path) -> None:
    other = source / "other"
    other.mkdir()
    (other / "images/s").mkdir(parents=True)
    sampling.sample(recipe_of(source, 2), source / "out", silent)
    entries: list[dict[str, Any]] = [
        {"source": "chats", "path": "s.jsonl", "count": 6},
        {"source": "records", "root": "other", "split": "questions", "count": "all"},
    ]
    line = dict(lines(source / "out")[0])
    line["questions"][0]["question"] = line["conversations"][0]["value"] = "Another?"
    (other / "questions.jsonl").write_text(json.dumps(line) + "\n")
    name = Path(line["image"]).name
    (other / "images/s" / name).write_bytes((source / name).read_bytes())
    sampling.sample(write_recipe(source, sources=entries), source / "both", silent)
    ids = [line["id"] for line in lines(source / "both")]
    assert len(set(ids)) == 7 and {line["id"], f"{line['id']}-2"} < set(ids)
    (other / "images/s" / name).write_bytes(PICTURES[0][2])
    with pytest.raises(
        DataError, match=f"different pictures called .*{name}; give one of the sources a `name`"
    ):
        sampling.sample(write_recipe(source, sources=entries), source / "clash", silent)
    entries[1]["name"] = "mine"
    report = sampling.sample(write_recipe(source, sources=entries), source / "named", silent)
    assert report["drawn"] == 7


def test_repeated_rows_and_repeated_ids_are_told_apart(source: Path) -> None:
    same = chat("7", "0.png", "Why?")
    rows = [same, same, chat("7", "1.png", "Why?"), chat("7", "2.png", "Why?"), chat("7", "2.png", "How?")]
    folder = source / "set"
    folder.mkdir()
    for n in range(3):
        (folder / f"{n}.png").write_bytes(PICTURES[n][0])
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    entry = {"source": "llava_cot_100k", "root": "set"}
    file = write_recipe(source, sources=[entry | {"count": "all"}])
    report = sampling.sample(file, source / "out", silent)
    assert sorted(line["id"] for line in lines(source / "out")) == ["7", "7-2", "7-3", "7-4"]
    assert (report["drawn"], report["sources"][0]["duplicates"]) == (4, 1)
    with pytest.raises(DataError, match=r"has 4 records to draw \(5 in all, 1 duplicates\)"):
        sampling.sample(write_recipe(source, sources=[entry | {"count": 5}]), source / "five", silent)


def test_a_picture_of_too_many_bytes_is_not_read(source: Path) -> None:
    with (source / "0.png").open("r+b") as file:
        file.truncate(21_000_000)
    report = sampling.sample(recipe_of(source, "all"), source / "out", silent)
    assert (report["drawn"], report["sources"][0]["unreadable"]) == (5, 1)


@pytest.mark.parametrize("missing", ["imagehash", "pyarrow", "datasets"])
def test_a_library_that_is_missing_is_named_with_its_extra(
    source: Path, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    (source / "s.parquet").write_bytes(b"")
    entry: dict[str, dict[str, Any]] = {
        "imagehash": {"source": "chats", "path": "s.jsonl"},
        "pyarrow": {"source": "chats", "path": "s.parquet"},
        "datasets": {"source": "hf", "path": "."},
    }
    file = write_recipe(
        source,
        sources=[entry[missing] | {"count": 1}],
        exclude=[{"source": "scenes", "size": 1}],
    )
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(
        DataError,
        match=rf"needs {missing}, which is .*: pip install -c constraints.txt -e '.\[data\]'",
    ):
        sampling.sample(file, source / "out", silent)


def test_a_benchmark_that_cannot_be_read_cannot_be_excluded(source: Path) -> None:
    (source / "0.png").write_bytes(b"broken")
    with pytest.raises(DataError, match=r"benchmark s cannot be excluded: .*0\.png"):
        sampling.sample(
            recipe_of(source, exclude=[{"source": "chats", "path": "s.jsonl"}]), source / "out", silent
        )


def test_a_damaged_file_of_what_is_known(source: Path) -> None:
    (source / "out").mkdir()
    (source / "out" / sampling.STORE_FILE).write_bytes(b"nonsense" * 1000)
    with pytest.raises(StoreError, match=r"store\.db is damaged .* or name another folder"):
        sampling.sample(recipe_of(source), source / "out", silent)


def test_the_store_of_other_work_is_left_alone(source: Path) -> None:
    with Store(source / "out") as store:
        store.match_settings({"purpose": "annotating", "teacher": "t"})
    with pytest.raises(StoreError, match=r"begun with purpose 'annotating', and not 'sampling'"):
        sampling.sample(recipe_of(source), source / "out", silent)
    assert [file.name for file in (source / "out").iterdir()] == ["store.db"]
