"""What each benchmark asks, where its file is looked for, and what is told when there is none."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from llava_cot.core.question import Question, question_text
from llava_cot.data.record import Picture, Record, Turn, to_json
from llava_cot.errors import DataError
from llava_cot.evaluation.benchmarks import BENCHMARKS, open_benchmark
from llava_cot.evaluation.types import AnswerScore, BenchmarkItem, ScoredItem
from llava_cot.scenes.filters import VALUES
from llava_cot.scenes.items import make_item, write_scenes
from llava_cot.scenes.questions import HARD_TYPES, TYPES

FIXTURES = Path(__file__).parents[1] / "fixtures/eval"
ROOT = FIXTURES / "LMUData"


def items(name: str, root: Path | None = ROOT, rule: str | None = None) -> list[BenchmarkItem]:
    opened = open_benchmark(name, root, rule)
    found = list(opened.items())
    assert found == list(opened.items()), "the same at each call"
    assert len({item.id for item in found}) == len(found)
    assert all(json.loads(json.dumps(dict(item.extra))) == item.extra for item in found)
    return found


def test_a_question_is_asked_with_its_hint_before_it_and_its_options_below() -> None:
    first, second = items("mmbench")[:2]
    asked = first.question()
    assert question_text(asked) == (
        "Hint: It is held in a hand.\nWhat is it for?\nA. cutting\nB. writing\nC. cooking\nD. sitting"
    )
    assert (asked.id, asked.reference, asked.images[0].pil.size) == ("MMBench_DEV_EN_V11/1", "B", (8, 8))
    assert first.extra["question"] == "What is it for?" and second.text == "Is it a street?"


def test_mmstar_has_its_six_skills() -> None:
    assert len({item.skill for item in items("mmstar")}) == 6


def test_rotations_follow_their_question_whether_the_file_holds_them_or_not() -> None:
    found, made = items("mmbench-circular"), items("mmbench-circular", FIXTURES / "unrotated")
    assert [item.id for item in found] == [item.id for item in made]
    assert [item.id.split("/")[1] for item in found[:5]] == ["1", "1000001", "2000001", "3000001", "12"]
    for one, other in zip(found, made, strict=True):
        assert (one.options, one.answer, one.text) == (other.options, other.answer, other.text)
        assert (one.extra["group"], one.extra["rotations"]) == (
            other.extra["group"],
            other.extra["rotations"],
        )
        assert one.pictures[0].read() == other.pictures[0].read()
        assert one.extra["cluster"] == other.extra["cluster"]
    groups: dict[str, set[str]] = {}
    for item in found:
        groups.setdefault(item.extra["group"], set()).add(item.options["ABCD".index(item.answer or "")])
    assert all(len(right) == 1 for right in groups.values()), "the right answer is the same text in each"


def test_groups_that_the_file_names_itself(tmp_path: Path) -> None:
    header = "index\tg_index\tquestion\tA\tB\tanswer\tcategory\tl2-category\timage_path\n"
    rows = ["5\t5\tWhich?\tx\ty\tA", "9\t5\tWhich?\ty\tx\tB", "8\t7\tLost?\ty\tx\tB"]
    lines = "".join(f"{row}\tfine\tcoarse\tp.png\n" for row in rows)
    (tmp_path / "MMBench_DEV_EN_V11.tsv").write_text(header + lines)
    found = items("mmbench-circular", tmp_path)
    assert [(item.id.split("/")[1], item.extra["rotations"]) for item in found] == [("5", 2), ("9", 2)]
    assert [item.id.split("/")[1] for item in items("mmbench", tmp_path)] == ["5"]


def test_pictures_longer_than_the_csv_module_allows(tmp_path: Path) -> None:
    (tmp_path / "MMBench_DEV_EN_V11.tsv").write_text(
        f"index\tquestion\tanswer\timage\n7\tBig?\tA\t{'A' * 400_000}\n"
    )
    code = (
        "import sys, pathlib; from llava_cot.evaluation.benchmarks import open_benchmark; "
        "print(len(list(open_benchmark('mmbench', pathlib.Path(sys.argv[1])).items())))"
    )  # in a process of its own, for the limit is the process's
    done = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("1\n", "")


def test_questions_about_one_picture_are_one_cluster() -> None:
    clusters = Counter(item.extra["cluster"] for item in items("ai2d"))
    assert sorted(clusters.values()) == [1, 1, 1, 2, 2, 2]


def test_hallusion_asks_only_what_has_a_picture_as_vlmevalkit_does() -> None:
    found = items("hallusion")
    assert len(found) == 24 and all(item.pictures for item in found)
    assert {item.extra["figure"] for item in found} > {"illusion_0_2", "ocr_1_0"}
    clusters: dict[str, set[str]] = {}
    for item in found:
        for key in ("figure", "asked"):
            clusters.setdefault(f"{key} {item.extra[key]}", set()).add(item.extra["cluster"])
    assert all(len(names) == 1 for names in clusters.values()), "no group reaches beyond a cluster"


def test_mathvista_gives_its_rule_what_that_needs() -> None:
    number, length, chosen = items("mathvista")
    assert chosen.text.startswith("Hint: Give") and chosen.options == () and chosen.skill == "x"
    assert chosen.extra["choices"] == ["3/11", "8/11"] and chosen.extra["answer_option"] == "B"
    rule = open_benchmark("mathvista", ROOT).rule
    scores = [rule.match(item, said) for item, said in ((number, "14"), (length, "1.5"), (chosen, "(B)"))]
    assert [score and score.value for score in scores] == [1, 1, 1]
    figures = rule.metrics(
        [ScoredItem(number, AnswerScore(1.0, "match")), ScoredItem(chosen, AnswerScore(0.0, "match"))]
    )
    assert {"overall", "figure question answering", "geometry reasoning"} < {
        metric.name for metric in figures
    }


def test_mmvet_gives_its_rule_what_that_needs() -> None:
    several = items("mmvet")[1]
    assert (several.skill, several.answer) == ("ocr,math", "14")
    figures = open_benchmark("mmvet", ROOT).rule.metrics([ScoredItem(several, AnswerScore(0.5, "scorer"))])
    assert [metric.name for metric in figures] == ["overall", "ocr", "math", "ocr_math"]


def test_both_editions_of_ai2d_say_which_they_are() -> None:
    masked, plain = (open_benchmark(name, ROOT) for name in ("ai2d", "ai2d-no-mask"))
    assert masked.note.startswith("AI2D_TEST:") and plain.note.startswith("AI2D_TEST_NO_MASK:")
    assert "mistake" in masked.note and "mistake" in plain.note


@pytest.mark.parametrize("variable", ["LMUData", "LMUDataRoot"])
def test_files_are_looked_for_where_the_environment_says(
    monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.delenv("LMUData", raising=False)
    monkeypatch.setenv(variable, str(ROOT))
    assert items("mmstar", None) == items("mmstar") == items("mmstar", ROOT / "MMStar.tsv")
    assert open_benchmark(str(ROOT / "AI2D_TEST.tsv")).name == "ai2d"


def test_the_error_for_a_missing_file_has_its_folder_and_url(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LMUData", str(tmp_path))
    for name in set(BENCHMARKS) - {"scenes", "scenes-hard", "easy-vqa"}:
        with pytest.raises(DataError, match=r"no \w+\.tsv.* https://opencompass\S+/\w+\.tsv") as told:
            open_benchmark(name)
        assert str(tmp_path) in str(told.value) and "\n" not in str(told.value)


@pytest.mark.parametrize("name", ["mmbench", "mmbench-circular"])
def test_the_public_test_split_of_mmbench_has_no_answers(name: str) -> None:
    with pytest.raises(DataError, match=r"without answers.*MMBench_DEV_EN_V11"):
        open_benchmark(name, FIXTURES / "public")


@pytest.mark.parametrize(
    ("name", "rule", "words"),
    [
        ("mmsatr", None, "no benchmark 'mmsatr'; choose one of mmstar"),
        ("mmstar", "words", "authors' scoring rule"),
        ("scenes", "exact", "authors' scoring rule"),
        ("scenes:train", None, "scenes has no split 'train'"),
        ("scenes-hard:train", None, "scenes-hard has no split 'train'"),
        (str(FIXTURES), None, r"no questions\.jsonl"),
        (str(ROOT / "MMStar.tsv"), "exactly", "no scoring rule 'exactly'; choose one of choice"),
    ],
)
def test_unknown_benchmarks_and_rules_are_refused(name: str, rule: str | None, words: str) -> None:
    with pytest.raises(DataError, match=words) as told:
        open_benchmark(name, ROOT, rule)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("name", ["scenes", "scenes:validation", "scenes-hard", "scenes-hard:validation"])
def test_scenes_are_those_of_the_generator_and_every_other_answer_is_wrong(name: str) -> None:
    opened = open_benchmark(name)
    found = [item for item, _ in zip(opened.items(), range(300), strict=False)]
    hard = "hard" in name
    assert opened.name == name and {item.skill for item in found} == set(HARD_TYPES if hard else TYPES)
    said = {*(value for values in VALUES.values() for value in values), *map(str, range(41)), "yes", "no"}
    split, difficulty = "validation" if "val" in name else "test", "hard" if hard else "standard"
    first = make_item(split, 0, 0, difficulty)
    for number, item in enumerate(found):
        made = make_item(split, 0, number, difficulty)
        assert (item.text, item.answer, item.skill) == (made.question.text, made.answer, made.question.type)
        assert item.extra["depth"] == made.question.depth
        kind = set("ABCD"[: len(item.options)]) or set(item.extra.get("answers", said))
        if not item.extra.get("answers"):
            kind = {"yes", "no"} if item.answer in ("yes", "no") else kind
            kind = {other for other in kind if other.isdigit() or not str(item.answer).isdigit()}
        for other in kind:
            score = opened.rule.match(item, other)
            assert score is not None and score.value == float(other == item.answer), (item, other)
        sentence = opened.rule.match(item, f"The answer is {item.answer}.")
        assert sentence is not None and sentence.value == 1.0
    assert found[0].question().images[0].pil.tobytes() == first.picture().tobytes()


def test_easy_vqa_is_read_from_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = tmp_path / "easy_vqa/data"
    (data / "test/images").mkdir(parents=True)
    (tmp_path / "easy_vqa/__init__.py").write_text("raise RuntimeError('it need not be imported')")
    (data / "answers.txt").write_text("circle\nred\nteal\nyes\nno\ntriangle\n")
    asked = [
        ["what is the red shape?", "triangle", 3],
        ["is there a circle?", "no", 3],
        ["what color?", "teal", 4],
    ]
    (data / "test/questions.json").write_text(json.dumps(asked))
    Image.new("RGB", (64, 64), "red").save(data / "test/images/3.png")
    monkeypatch.syspath_prepend(str(tmp_path))
    found = items("easy-vqa")
    assert [(item.skill, item.answer) for item in found] == [
        ("shape", "triangle"), ("presence", "no"), ("color", "teal")
    ]  # fmt: skip
    assert found[0].extra["cluster"] == found[1].extra["cluster"] != found[2].extra["cluster"]
    assert found[0].question().images[0].pil.size == (64, 64)
    rule = open_benchmark("easy-vqa").rule
    told = ("triangle", "A triangle.", "The red shape is a triangle", "circle", "It is a circle", "a hexagon")
    scores = [rule.match(found[0], text) for text in told]
    assert [score and score.value for score in scores] == [1, 1, 1, 0, 0, None]


def test_easy_vqa_as_it_is_installed() -> None:
    found = items("easy-vqa")
    assert len(found) == 9673
    assert {item.skill for item in found} == {"presence", "color", "shape"}
    rule = open_benchmark("easy-vqa").rule
    assert all((score := rule.match(item, item.answer or "")) and score.value == 1 for item in found)
    assert found[0].question().images[0].pil.size == (64, 64)


def test_easy_vqa_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(DataError, match=r"in the clone, run: pip install -c constraints.txt -e '\.\[eval\]'"):
        open_benchmark("easy-vqa")


@pytest.mark.parametrize("difficulty", ["standard", "hard"])
def test_a_folder_of_scenes_is_the_same_as_scenes(tmp_path: Path, difficulty: str) -> None:
    write_scenes(tmp_path / "mine", count=20, difficulty=difficulty)
    benchmark = open_benchmark("scenes" if difficulty == "standard" else "scenes-hard")
    found = items(str(tmp_path / "mine"))
    assert open_benchmark(str(tmp_path / "mine")).name == "mine"
    for item, known in zip(found, benchmark.items(), strict=False):
        assert (item.text, item.options, item.answer, item.skill, item.extra["depth"]) == (
            known.text, known.options, known.answer, known.skill, known.extra["depth"]
        )  # fmt: skip
        assert item.question().images[0].sha256 == known.question().images[0].sha256


def test_a_folder_of_records_and_its_answers_as_letters(tmp_path: Path) -> None:
    picture = Picture("p.png", tmp_path / "p.png")
    Image.new("RGB", (9, 9)).save(tmp_path / "p.png")
    first = Turn("Which?", "ball", ("cube", "ball"), hints="never shown")
    record = Record("a", (first, Turn("And then?", "no")), (picture,), "mine", extra={"skill": "look"})
    (tmp_path / "questions.jsonl").write_text(json.dumps(to_json(record)) + "\n")
    (item,) = items(str(tmp_path))
    assert (item.text, item.answer, item.skill) == ("Which?", "B", "look")
    assert question_text(item.question()) == question_text(Question("Which?", options=("cube", "ball")))
    assert items(str(tmp_path / "questions.jsonl")) == [item]


def test_an_own_tsv() -> None:
    name = str(FIXTURES.parent / "vlmevalkit/Tiny_DEV.tsv")
    found = items(name)
    assert [item.answer for item in found] == ["A", "B", "5"] and found[0].text.startswith("Hint: Look left.")
    assert open_benchmark(name).name == "Tiny_DEV" and found[0].skill == "position"
    with pytest.raises(DataError, match=r"Tiny_DEV\.tsv, question Tiny_DEV/2: it has no options"):
        items(name, rule="choice")
    with pytest.raises(DataError, match="Tiny_DEV/0: its answer 'A' is not a number"):
        items(name, rule="number")
    with pytest.raises(DataError, match="Tiny_DEV/0: its answer 'A' is neither yes nor no"):
        items(name, rule="yes-no")
    paths = str(FIXTURES.parent / "vlmevalkit/Paths.tsv")
    assert [item.answer for item in items(paths, rule="yes-no")] == ["yes", "no"]
    with pytest.raises(DataError, match="it has no answer"):
        items(str(FIXTURES / "public/MMBench_TEST_EN_V11.tsv"), rule="choice")


def test_benchmarks_are_opened_without_slow_imports() -> None:
    code = "import llava_cot.evaluation.benchmarks, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "transformers", "pandas", "datasets"} & set(done.stdout.split())


def test_of_a_conversation_only_the_pictures_of_the_first_question_are_shown(tmp_path: Path) -> None:
    talk = [("human", "<image>What is it?"), ("gpt", "cat"), ("human", "<image>And this?"), ("gpt", "dog")]
    line = {"id": "1", "images": ["a.png", "b.png"]}
    line["conversations"] = [{"from": who, "value": value} for who, value in talk]  # type: ignore[assignment]
    (tmp_path / "own.jsonl").write_text(json.dumps(line) + "\n")
    [item] = open_benchmark(str(tmp_path / "own.jsonl")).items()
    assert [picture.name for picture in item.pictures] == ["a.png"]
    (tmp_path / "own.csv").write_text("question,answer,A,B,C\nWhich?,C,red,,blue\n")
    [item] = open_benchmark(str(tmp_path / "own.csv")).items()
    assert (item.options, item.answer) == (("red", "", "blue"), "C")
    (tmp_path / "own.csv").write_text("question,answer,A,B,C\nWhich?,B,red,,blue\n")
    with pytest.raises(DataError, match="its answer 'B' is not among its options red, blue"):
        list(open_benchmark(str(tmp_path / "own.csv")).items())
