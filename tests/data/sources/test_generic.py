"""VLMEvalKit's files, Hugging Face data sets, our own folders and scenes; and an entry that names one."""

import base64
import io
import json
from importlib.metadata import EntryPoint
from pathlib import Path

import datasets
import pytest
from PIL import Image
from pydantic import ValidationError

from llava_cot.core.question import PLACE
from llava_cot.data.record import Picture, Record, Turn, to_json
from llava_cot.data.sources import SOURCES
from llava_cot.data.sources.entry import SourceEntry, expanded, open_source
from llava_cot.data.sources.hf import _answer, read_hf
from llava_cot.data.sources.tsv import read_tsv, tsv_rows
from llava_cot.errors import DataError
from llava_cot.scenes.items import make_item

FIXTURES = Path(__file__).parents[2] / "fixtures"
TSV = FIXTURES / "vlmevalkit"
JPEG = (TSV / "pictures/1.jpg").read_bytes()


def test_a_benchmark_of_vlmevalkit() -> None:
    left, turned, count = read_tsv(TSV / "Tiny_DEV.tsv")
    assert (left.id, turned.id) == ("Tiny_DEV/0", "Tiny_DEV/1000000")
    assert left.turns == (Turn("Which is\nleft?", "A", ("a cube", 'a "ball"'), "Look left."),)
    assert left.extra == {"category": "position", "l2-category": "relation", "split": "dev"}
    assert left.pictures[0].name == turned.pictures[0].name == "Tiny_DEV/0.jpg"
    assert left.pictures[0].read() == turned.pictures[0].read()
    assert Image.open(io.BytesIO(left.pictures[0].read())).size == (24, 24)
    assert count.turns == (Turn("How many objects are there?", "5"),)
    assert [picture.name for picture in count.pictures] == ["Tiny_DEV/2-0.jpg", "Tiny_DEV/2-1.jpg"]
    assert len({picture.read() for picture in count.pictures}) == 2


def test_a_benchmark_with_paths() -> None:
    one, two = read_tsv(TSV / "Paths.tsv")
    assert one.pictures == (Picture("Paths/pictures/1.jpg", TSV / "pictures/1.jpg"),)
    assert len(two.pictures) == 2


def test_a_letter_without_an_option_is_skipped_as_by_vlmevalkit(tmp_path: Path) -> None:
    rows = ["1\tWhich?\tC\t\tTwo\tOne\tNone", "2\tWhich?\tA\tx\t\ty\t", "3\tWhich?\ty\t\t\t\t"]
    (tmp_path / "x.tsv").write_text("index\tquestion\tanswer\tA\tB\tC\tD\n" + "\n".join(rows) + "\n")
    first, second, free = read_tsv(tmp_path / "x.tsv")
    assert first.turns[0].text == "Which?\nB. Two\nC. One\nD. None"
    assert second.turns[0].text == "Which?\nA. x\nC. y"
    assert (free.turns[0].options, free.turns[0].text) == ((), "Which?")


def test_a_picture_may_be_a_data_url(tmp_path: Path) -> None:
    url = f"data:image/jpeg;base64,{base64.b64encode(JPEG).decode()}"
    (tmp_path / "x.tsv").write_text(f"index\tquestion\timage\n1\tWhich?\t{url}\n2\tAnd?\t{['x', url]}\n")
    one, two = read_tsv(tmp_path / "x.tsv")
    assert one.pictures[0].read() == JPEG == two.pictures[1].read()
    with pytest.raises(DataError, match=r"the picture x/2-0\.jpg: its base64 is damaged"):
        two.pictures[0].read()


def test_pictures_longer_than_the_csv_module_allows(tmp_path: Path) -> None:
    lines = (TSV / "Tiny_DEV.tsv").read_text().replace("\n0\t", "\n0\t", 1)
    header, rest = lines.split("\n", 1)
    (tmp_path / "Big.tsv").write_text(f"{header}\n7\tBig?" + "\t" * 8 + "A" * 400_000 + "\t\t\n" + rest)
    assert next(read_tsv(tmp_path / "Big.tsv")).pictures[0].read() == b"\0" * 300_000


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("index\timage\n1\tx\n", "no column question"),
        ("index\tquestion\timage\n1\tWhich?\t5\n", "line 2.*row '5'"),
        ("index\tquestion\timage_path\n1\tWhich?\t../x.png\n", "line 2.*outside"),
        ("index\tquestion\timage_path\n1\tWhich?\t[x]\n", "line 2.*no list"),
        ("index\tquestion\n1\n", "line 2"),
    ],
)
def test_a_broken_benchmark(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "x.tsv").write_text(text)
    with pytest.raises(DataError, match=words):
        list(read_tsv(tmp_path / "x.tsv"))


def test_broken_base64_is_told_with_the_pictures_name(tmp_path: Path) -> None:
    (tmp_path / "x.tsv").write_text(f"index\tquestion\timage\n1\tWhich?\t{'A' * 101}\n")
    (record,) = read_tsv(tmp_path / "x.tsv")
    with pytest.raises(DataError, match=r"x/1\.jpg"):
        record.pictures[0].read()


def saved(folder: Path, splits: bool = False) -> Path:
    features = datasets.Features(
        {
            "query": datasets.Value("string"),
            "label": datasets.Sequence(datasets.Value("string")),
            "image": datasets.Image(),
        }
    )
    rows = {"query": ["Is it red?", "How many?"], "label": [["yes"], ["3", "three"]], "image": [JPEG, None]}
    rows["image"] = [{"bytes": JPEG, "path": "1.jpg"}, None]
    data = datasets.Dataset.from_dict(rows, features=features)
    (datasets.DatasetDict({"val": data}) if splits else data).save_to_disk(folder)
    return folder


@pytest.mark.parametrize("splits", [False, True])
def test_a_saved_data_set(tmp_path: Path, splits: bool) -> None:
    first, second = read_hf(str(saved(tmp_path / "set", splits)), "val", name="charts")
    assert (first.turns, second.turns) == ((Turn("Is it red?", "yes"),), (Turn("How many?", "3"),))
    assert first.pictures[0].read() == JPEG and first.pictures[0].name == f"charts/{first.id}-0.jpg"
    assert second.pictures == ()
    if splits:
        with pytest.raises(DataError, match="no split 'train'; it has val"):
            list(read_hf(str(tmp_path / "set")))


def test_a_folder_of_files_with_columns_of_its_own(tmp_path: Path) -> None:
    rows = [
        {"q": "Which?", "choices": ["cube", "ball"], "answer": 1, "hint": "Look.", "nr": 5},
        {"q": "Which?", "choices": ["cube", "ball"], "answer": 0, "hint": None, "nr": 6},
        {"q": "Which?", "choices": None, "answer": None, "hint": None, "nr": 7},
    ]  # fmt: skip
    pytest.importorskip("pyarrow")
    datasets.Dataset.from_list(rows).to_parquet(tmp_path / "train.parquet")
    columns = {"question": "q", "id": "nr"}
    one, two, three = read_hf(str(tmp_path), columns=columns)
    assert one.id.startswith("5-") and one.turns == (Turn("Which?", "B", ("cube", "ball"), "Look."),)
    assert two.turns == (Turn("Which?", "A", ("cube", "ball")),)
    assert three.turns == (Turn("Which?"),)
    with pytest.raises(DataError, match=r"row 1: there is no question; add `columns.*q, choices"):
        list(read_hf(str(tmp_path)))
    with pytest.raises(DataError, match="no column 'Q' for the question"):
        list(read_hf(str(tmp_path), columns={"question": "Q"}))


def test_null_among_options_and_marks_in_them(tmp_path: Path) -> None:
    rows = [
        {"id": 1, "question": "<image>Which?", "choices": ["a", None, "c"], "image": "1.jpg"},
        {"id": 2, "question": "Which?", "choices": ["<image>", None, "<image>"], "image": ["1.jpg", "2.jpg"]},
    ]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[1:]))
    (two,) = read_hf(str(tmp_path))
    assert two.turns[0].text == f"Which?\nA. {PLACE}\nC. {PLACE}"
    (tmp_path / "train.jsonl").write_text(json.dumps(rows[0]) + "\n")
    (one,) = read_hf(str(tmp_path))
    assert one.turns[0].text == "Which?\nA. a\nC. c"


def test_a_folder_of_pictures_with_metadata(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    (tmp_path / "train/1.jpg").write_bytes(JPEG)
    (tmp_path / "train/metadata.jsonl").write_text(
        json.dumps({"file_name": "1.jpg", "question": "Is it red?", "answer": "yes"}) + "\n"
    )
    (record,) = read_hf(str(tmp_path))
    assert record.turns == (Turn("Is it red?", "yes"),) and record.pictures[0].read() == JPEG


def test_conversations_in_a_data_set(tmp_path: Path) -> None:
    rows = [{"conversations": [{"from": "human", "value": "Hi?"}, {"from": "gpt", "value": "Yes."}]}]
    datasets.Dataset.from_list(rows).save_to_disk(tmp_path / "set")
    (record,) = read_hf(str(tmp_path / "set"))
    assert record.turns == (Turn("Hi?", "Yes."),)


def test_a_data_set_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read") as error:
        list(read_hf(str(tmp_path / "nowhere")))
    assert "\n" not in str(error.value)


def test_our_own_folder(tmp_path: Path) -> None:
    record = Record(
        "a/1", (Turn("Is it red?", "yes"),), (Picture("images/a/1.jpg", tmp_path / "images/a/1.jpg"),)
    )
    (tmp_path / "questions.jsonl").write_text(json.dumps(to_json(record)) + "\n")
    opened = open_source(SourceEntry(source="records", root=tmp_path, split="questions"))
    assert list(opened.records()) == [record] == list(opened.records())
    with pytest.raises(DataError, match=r"no train\.jsonl"):
        open_source(SourceEntry(source="records", root=tmp_path))
    named = open_source(SourceEntry(source="records", root=tmp_path, split="questions", name="mine"))
    (other,) = named.records()
    assert (other.id, other.pictures[0].name) == ("mine/a/1", "mine/images/a/1.jpg")


def test_scenes_are_drawn_when_they_are_read() -> None:
    opened = open_source(SourceEntry(source="scenes", split="train", seed=3, count=4))
    records = list(opened.records())
    item = make_item("train", 3, 2)
    assert [record.id for record in records] == [f"scenes/train-3-{n}" for n in range(4)]
    assert records[2].turns == (Turn(item.question.text, item.answer, item.question.options),)
    assert records[2].extra == {"type": item.question.type, "depth": item.question.depth}
    picture = records[2].pictures[0]
    assert picture.name == "scenes/train-3-2.png" and picture.data is None
    assert Image.open(io.BytesIO(picture.read())).tobytes() == item.picture().tobytes()
    assert records == list(opened.records())
    named = open_source(SourceEntry(source="scenes", split="train", seed=3, count=4, name="mine"))
    assert named.name == "mine" and list(named.records()) == records, "a scene is known by its id"
    with pytest.raises(ValueError, match="nowhere"):
        next(open_source(SourceEntry(source="scenes", split="nowhere", count=1)).records())


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"source": "chartqb"}, "no source 'chartqb'; choose one of .*llava_cot_100k"),
        ({"source": "tsv"}, "tsv needs `path`"),
        ({"source": "records"}, "records needs `root`"),
        ({"source": "tsv", "path": "x", "seed": 1}, "tsv takes no `seed`"),
        ({"source": "scenes"}, "needs `size`"),
        ({"source": "scenes", "count": "all"}, "needs `size`"),
        ({"source": "scenes", "count": 0}, "count"),
        ({"source": "scenes", "count": 1, "name": "../x"}, "name"),
        ({"source": "scenes", "count": 1, "colour": 1}, "colour"),
        ({"source": "hf", "path": "x", "columns": {"picture": "x"}}, "columns"),
    ],
)
def test_an_entry_that_cannot_be(fields: dict[str, object], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        SourceEntry.model_validate(fields)


def test_places_are_relative_to_the_document_and_variables_stand_for_places(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATA", "/data")
    monkeypatch.setenv("HOME", "/home/me")
    assert [expanded(path) for path in ("${DATA}/x", "$DATA/x", "~/x", "x")] == ["/data/x"] * 2 + [
        "/home/me/x",
        "x",
    ]
    with pytest.raises(DataError, match="variable NOWHERE, which is not set"):
        expanded("${NOWHERE}/x")
    (tmp_path / "local").mkdir()
    for fields, field, place in [
        ({"source": "records", "root": "a"}, "root", tmp_path / "a"),
        ({"source": "records", "root": "$DATA"}, "root", Path("/data")),
        ({"source": "tsv", "path": "a.tsv"}, "path", str(tmp_path / "a.tsv")),
        ({"source": "hf", "path": "local"}, "path", str(tmp_path / "local")),
        ({"source": "hf", "path": "HuggingFaceM4/ChartQA"}, "path", "HuggingFaceM4/ChartQA"),
    ]:
        assert getattr(SourceEntry.model_validate(fields).located(tmp_path), field) == place


def test_what_is_missing_is_told_when_the_source_is_opened(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no folder .*huggingface.co/datasets/Xkev"):
        open_source(SourceEntry(source="llava_cot_100k", root=tmp_path / "x"))
    with pytest.raises(DataError, match=r"no train\.jsonl"):
        open_source(SourceEntry(source="llava_cot_100k", root=tmp_path))
    with pytest.raises(DataError, match="no conversation to read"):
        open_source(SourceEntry(source="chats", path=str(tmp_path)))
    with pytest.raises(DataError, match=r"no file .*x\.tsv"):
        open_source(SourceEntry(source="tsv", path=str(tmp_path / "x.tsv")))


@pytest.mark.parametrize(
    ("value", "options", "answer"),
    [
        ("cube", ("ball", "cube"), "B"),
        ("B", ("ball", "cube"), "B"),
        (0, ("ball", "cube"), "A"),
        (0, (), "0"),
        (True, ("ball", "cube"), "True"),
        (["3", "three"], (), "3"),
        ([], (), None),
        ("", (), None),
        (2.5, (), "2.5"),
    ],
)
def test_an_answer_is_a_letter_where_there_are_options(
    value: object, options: tuple[str, ...], answer: str | None
) -> None:
    assert _answer(value, options) == answer


def test_a_source_of_another_package_works_in_a_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "their_package.py").write_text(
        "from llava_cot.data.record import Record, Turn\n"
        "from llava_cot.data.sources import Source\n"
        "def read(root, split):\n"
        "    yield Record(f'theirs/{split}/1', (Turn('How many?', '2'),), source='theirs')\n"
        "SOURCE = Source('theirs', 'Theirs', 'https://x.example', 'MIT', ('a.txt',), read)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    point = EntryPoint("theirs", "their_package:SOURCE", "llava_cot.sources")
    monkeypatch.setattr(SOURCES, "_entry_points", {"theirs": point})
    monkeypatch.setattr(SOURCES, "_entries", dict(SOURCES._entries))
    assert list(SOURCES)[-1] == "theirs"
    entry = SourceEntry(source="theirs", root=tmp_path, count=1)
    with pytest.raises(DataError, match=r"Theirs is incomplete under .*: there is no a\.txt"):
        open_source(entry)
    (tmp_path / "a.txt").touch()
    assert [record.id for record in open_source(entry).records()] == ["theirs/train/1"]
    with pytest.raises(ValueError, match=r"there is no source 'ours'; choose one of .*, theirs, tsv"):
        SourceEntry(source="ours", root=tmp_path, count=1)


def test_tsv_rows_come_with_their_places(tmp_path: Path) -> None:
    file = tmp_path / "a.tsv"
    file.write_text('id\ttext\n1\t"two\nlines"\n2\n')
    rows = tsv_rows(file, ("id", "text"))
    assert next(rows) == ("line 3", {"id": "1", "text": "two\nlines"})
    with pytest.raises(DataError, match=r"a.tsv, line 4: the row is not as long"):
        next(rows)
    with pytest.raises(DataError, match=r"a.tsv, line 1: there is no column answer among"):
        list(tsv_rows(file, ("answer",)))


OUTSIDE = [
    "../x.csv",
    "/etc/passwd",
    "http://127.0.0.1:9/x.csv",
    "zip://a::http://127.0.0.1:9/x",
    "a/../../x",
]


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_data_card_that_names_other_files(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    (tmp_path / "x.csv").write_text("question\nWhat?\n")
    card = {"configs": [{"config_name": "default", "data_files": [{"split": "train", "path": [name]}]}]}
    (folder / "README.md").write_text(f"---\n{json.dumps(card)}\n---\n# A set\n")
    with pytest.raises(DataError, match=r"README\.md names .*which is no file of the data set"):
        list(read_hf(str(folder)))


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_saved_data_set_that_names_other_files(tmp_path: Path, name: str) -> None:
    folder = saved(tmp_path / "set", True)
    (folder / "val/state.json").write_text(
        json.dumps(
            json.loads((folder / "val/state.json").read_text()) | {"_data_files": [{"filename": name}]}
        )
    )
    with pytest.raises(DataError, match=r"state\.json names .*which is no file of the data set"):
        list(read_hf(str(folder), "val"))


@pytest.mark.parametrize("front", ["a: [", "a: &a [*a]", "[" * 5000, "a: .inf"])
def test_a_data_card_that_cannot_be_read(tmp_path: Path, front: str) -> None:
    (tmp_path / "README.md").write_text(f"---\n{front}\n---\n")
    (tmp_path / "train.jsonl").write_text('{"question": "What?"}\n')
    with pytest.raises(DataError, match=r"README\.md cannot be read"):
        list(read_hf(str(tmp_path)))


def test_a_data_card_with_files_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text(
        "---\nconfigs:\n- config_name: default\n  data_files: part/*.jsonl\n---\n"
    )
    (tmp_path / "part").mkdir()
    (tmp_path / "part/1.jsonl").write_text('{"question": "What?"}\n')
    (record,) = read_hf(str(tmp_path))
    assert record.turns == (Turn("What?"),)
