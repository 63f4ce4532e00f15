"""Writes the small tables under tests/fixtures/eval, in the columns of VLMEvalKit's files.

After a change here, run `python tests/evaluation/eval_tables.py` from the repository's root, and then
`record_vlmeval.py`. The questions are made up; only names, columns and forms of indices are theirs.
"""

from __future__ import annotations

import base64
import csv
import io
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

FIXTURES = Path(__file__).parents[1] / "fixtures/eval"
Row = dict[str, str]

SKILLS = {
    "coarse perception": "image scene and topic",
    "fine-grained perception": "localization",
    "instance reasoning": "single-instance reasoning",
    "logical reasoning": "diagram reasoning",
    "math": "geometry",
    "science & technology": "natural science",
}
MMBENCH = (
    ("attribute_reasoning", "function_reasoning"),
    ("coarse_perception", "image_scene"),
    ("finegrained_perception (instance-level)", "ocr"),
    ("logic_reasoning", "future_prediction"),
)


def picture(shade: int) -> str:
    data = io.BytesIO()
    Image.new("RGB", (8, 8), (shade % 256, 90, 120)).save(data, "PNG")
    return base64.b64encode(data.getvalue()).decode()


def options(*texts: str) -> Row:
    return dict(zip("ABCDEF", texts, strict=False))


def mmstar() -> Iterator[Row]:
    asked = (
        ("Which colour has the lamp?", options("red", "dark red", "blue", "green"), "B"),
        ("How many chairs are there?", options("3", "13", "30", "4"), "A"),
        (
            "Where does the dog stand?",
            options("on the left", "on the right", "behind the tree", "nowhere"),
            "C",
        ),
    )
    for number in range(18):
        question, choices, answer = asked[number % 3]
        skill = list(SKILLS)[number // 3]
        row = {"index": str(number), "question": question, "image": picture(number), "answer": answer}
        yield row | choices | {"category": skill, "l2-category": SKILLS[skill]}


def unrotated() -> Iterator[Row]:
    asked = (
        (
            "What is it for?",
            options("cutting", "writing", "cooking", "sitting"),
            "B",
            "It is held in a hand.",
        ),
        ("Is it a street?", options("yes", "no"), "A", ""),
        ("What does the sign say?", options("STOP", "GO", "WAIT"), "C", ""),
        ("Which of these is right?", options("A and B", "only C", "none"), "C", ""),
        (
            "What happens next?",
            options("it falls", "it flies", "it stays", "it burns"),
            "D",
            "It was let go.",
        ),
        ("Which letter is on the door?", options("A", "X", "Y"), "B", ""),
    )
    for number, (question, choices, answer, hint) in enumerate(asked):
        broad, fine = MMBENCH[number % len(MMBENCH)]
        row = {"index": str(11 * number + 1), "question": question, "hint": hint, "answer": answer}
        yield row | choices | {
            "category": fine, "image": picture(60 + number), "l2-category": broad, "split": "dev"
        }  # fmt: skip


def mmbench() -> list[Row]:
    """The questions, and after them all rotations, whose pictures are those of the questions by index."""
    first = list(unrotated())
    rotated = []
    for turn in range(1, 4):
        for row in first:
            texts = [row[letter] for letter in "ABCD" if letter in row]
            if turn < len(texts) and row["question"] not in (
                "Which of these is right?",
                first[5]["question"],
            ):
                right = texts["ABCD".index(row["answer"])]
                texts = texts[turn:] + texts[:turn]
                rotated.append(
                    row | options(*texts) | {
                        "index": str(int(row["index"]) + turn * 1_000_000),
                        "answer": "ABCD"[texts.index(right)],
                        "image": row["index"],
                    }
                )  # fmt: skip
    return first + rotated


def ai2d() -> Iterator[Row]:
    kinds = ("foodChainsWebs", "lifeCycles", "moonPhaseEquinox")
    for number in range(9):
        shared = str(number - 1) if number % 3 == 2 else picture(120 + number)
        choices = options("the owl", "the grass", "label C", "the snake and the owl")
        row = {"index": str(number), "image": shared, "question": f"What is eaten in step {number}?"}
        yield row | choices | {"answer": "ABCD"[number % 4], "category": kinds[number // 3]}


def hallusion() -> Iterator[Row]:
    """Two figures with two questions each a set; a set of VS and one of VD share kind and number."""
    for category, kind, number in (
        ("VD", "illusion", 0), ("VD", "ocr", 1), ("VS", "ocr", 1), ("VS", "chart", 0), ("VS", "chart", 2),
    ):  # fmt: skip
        for figure in (0, 1, 2):
            for asked in (0, 1):
                answer = "Yes" if (figure + asked) % 2 else "No"
                yield {
                    "index": f"{category}_{kind}_{int(figure > 0)}_{number}_{figure}_{asked}",
                    "category": category,
                    "l2-category": kind,
                    "question": f"Is line {asked} longer than line {asked + 1}?",
                    "answer": answer,
                    "image": "" if category == "VS" and figure == 0 else picture(180 + figure),
                }


def mmvet() -> Iterator[Row]:
    for number, (answer, capability) in enumerate(
        (
            ("pears <AND> plums", "rec"),
            ("14", "ocr,math"),
            ("It rains.", "rec,know,gen"),
            ("left", "ocr,spat"),
        )
    ):
        row = {"index": str(number), "question": "What is to be seen?", "image": picture(number)}
        yield row | {"answer": answer, "category": capability}


def mathvista() -> Iterator[Row]:
    hint = "Hint: Give the final value at the end.\nQuestion: "
    asked = (
        ("How many?", "free_form", "integer", "14", "", "", "figure question answering"),
        ("How long?", "free_form", "float", "1.5", "", "", "geometry problem solving"),
        (
            "Which?\nChoices:\n(A) 3/11\n(B) 8/11",
            "multi_choice",
            "text",
            "8/11",
            "B",
            "['3/11', '8/11']",
            "x",
        ),
    )
    for number, (question, kind, form, answer, letter, choices, task) in enumerate(asked):
        yield {
            "index": str(number),
            "question": hint + question,
            "image": picture(number),
            "answer": answer,
            "question_type": kind,
            "answer_type": form,
            "answer_option": letter,
            "choices": choices,
            "task": task,
            "skills": "['arithmetic reasoning', 'geometry reasoning']",
        }


def write(file: Path, rows: list[Row]) -> None:
    columns = list(dict.fromkeys(key for row in rows for key in row))
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", encoding="utf-8", newline="") as lines:
        table = csv.DictWriter(lines, columns, restval="", delimiter="\t", lineterminator="\n")
        table.writeheader()
        table.writerows(rows)


def main() -> None:
    root = FIXTURES / "LMUData"
    write(root / "MMStar.tsv", list(mmstar()))
    write(root / "MMBench_DEV_EN_V11.tsv", mmbench())
    write(root / "AI2D_TEST.tsv", list(ai2d()))
    write(root / "AI2D_TEST_NO_MASK.tsv", list(ai2d()))
    write(root / "HallusionBench.tsv", list(hallusion()))
    write(root / "MMVet.tsv", list(mmvet()))
    write(root / "MathVista_MINI.tsv", list(mathvista()))
    write(FIXTURES / "unrotated/MMBench_DEV_EN_V11.tsv", list(unrotated()))
    public = [{key: value for key, value in row.items() if key != "answer"} for row in unrotated()]
    write(FIXTURES / "public/MMBench_TEST_EN_V11.tsv", public)


if __name__ == "__main__":
    main()
