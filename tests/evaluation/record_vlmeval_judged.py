"""Records what VLMEvalKit makes of answers to made-up questions of MathVista's and MM-Vet's kinds.

    pip download --no-deps ms-vlmeval==0.0.20
    python tests/evaluation/record_vlmeval_judged.py ms_vlmeval-0.0.20-py3-none-any.whl

writes `mathvista.json` and `mmvet.json` to tests/fixtures/eval, which the tests compare our rules with. Needs
pandas. The functions are VLMEvalKit's own, out of the wheel; only what it imports beside them (logging, file
formats, models) is left out.
"""

from __future__ import annotations

import ast
import json
import random
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd

FOLDER = Path(__file__).parents[1] / "fixtures" / "eval"
Question = dict[str, Any]


def vlmeval(wheel: Path) -> tuple[ModuleType, ModuleType]:
    """VLMEvalKit's modules for MathVista and MM-Vet."""

    class Log:
        def __getattr__(self, name: str) -> Any:
            return lambda *args, **keywords: None

    def package(name: str, path: str | None, **contents: Any) -> ModuleType:
        module = ModuleType(name)
        module.__path__ = [] if path is None else [f"{wheel}/{path}"]
        vars(module).update(contents)
        sys.modules[name] = module
        return module

    def as_it_is(data: Any) -> Any:
        return data

    package("vlmeval", "vlmeval")
    package("vlmeval.smp", None, load=as_it_is)
    package("vlmeval.smp.file", None, load=as_it_is)
    package("vlmeval.smp.log", None, get_logger=lambda name: Log())
    utils = package("vlmeval.utils", "vlmeval/utils")
    utils.can_infer = import_module("vlmeval.utils.matching_util").can_infer  # type: ignore[attr-defined]
    package("vlmeval.dataset", "vlmeval/dataset")
    package("vlmeval.dataset.utils", "vlmeval/dataset/utils")
    return import_module("vlmeval.dataset.utils.mathvista"), import_module("vlmeval.dataset.utils.mmvet")


def choice(index: int, options: list[Any], letter: str, task: str, skills: str) -> Question:
    answer = str(options[ord(letter) - ord("A")])
    return {
        "index": str(index), "question_type": "multi_choice", "answer_type": "text", "choices": str(options),
        "answer_option": letter, "answer": answer, "task": task, "skills": skills,
    }  # fmt: skip


def free(index: int, kind: str, answer: str, task: str, skills: str) -> Question:
    return {
        "index": str(index), "question_type": "free_form", "answer_type": kind, "choices": "[]",
        "answer_option": "", "answer": answer, "task": task, "skills": skills,
    }  # fmt: skip


TASKS = ("geometry problem solving", "figure question answering", "math word problem")
SKILLS = (
    "['geometry reasoning', 'algebraic reasoning']",
    "['statistical reasoning']",
    "['arithmetic reasoning', 'numeric commonsense', 'statistical reasoning']",
    "logical reasoning",
    "['scientific reasoning']",
)
LISTS: tuple[tuple[list[Any], str], ...] = (
    (["35°", "55°", "70°", "110°"], "C"),
    (["Yes", "No"], "B"),
    (["larger than", "equal to", "smaller than"], "A"),
    ([3, 5, 7, 9, 11], "D"),
    (["a cube", "a red cube", "a sphere", "Atlas", "zinc"], "B"),
    (["2:3", "3:2", "it's none", "cannot be told"], "D"),
    (["A", "B", "C"], "C"),
    (["", "wet", "dry"], "B"),
)
# No "None" among the texts: VLMEvalKit takes any answer to be right there, but its files cannot hold one.
FREE = (
    ("integer", "14"), ("integer", "0"), ("integer", "-3"), ("integer", "2008"), ("integer", "1000"),
    ("integer", "7.5"), ("float", "0.6"), ("float", "1.45"), ("float", "0"), ("float", "-2.50"),
    ("float", "12"), ("list", "[2007, 2008]"), ("list", "[0.2, 0.4]"), ("text", "blue"),
)  # fmt: skip
SAID_OF_CHOICES = (
    "{L}", "({L})", "{L}.", "**{L}**", "{L}: {w}", "({L}) {w}", "{w}", "{w}.", "The answer is {L}.",
    "The answer is {w}.", "The correct answer is ({L}) {w}", "{l}", "Option {L}", "{L} or {M}",
    "{w} or {v}", "A triangle, so {L}", "{L} is right because the line is longer than all of the others",
    "It is {w}, not {v}.", "Z", "I cannot tell", "None", "", " ", "Cannot determine the answer",
    "I'm sorry, but without the image provided", "nan", "[{L}]", "{L}\n", "{W}", "{L},{M}", "{{{L}}}",
    "{L}#", "{L}-{w}", "'{L}'", "Answer:{L}", "Answer: {L} {w} {w} {w} {w} {w}",
    "Sorry, I can't help with images of people yet.", "{L} {L}", "Neither {L} nor {M}; so {N}",
)  # fmt: skip
SAID_FREELY = (
    "{a}", " {a}\n", "{a}.", "{a}.0", "+{a}", "The answer is {a}.", "{a} cm", "${a}", "{a}%", "0", "0.0",
    "-0", "1", "14.0", "1e3", "1_000", "1,000", "inf", "nan", "-inf", "None", "", "Z", "blue", "'{a}'",
    "[{a}]", "0.60", ".6", "0x10", "１４", "7", "7.5", "1.450", "-3.0", "2008 and 2009", "-2.5", "True",
    "fourteen", "[2007,2008]", "12.0", "1/2", "0.6000000000000001",
)  # fmt: skip


WORDS = ("so", "the", "answer", "is", "not", "and", "angle", "of", "I", "think", "or", "line", "it", "option")
MARKS = ("", "", "", "", ".", ",", ":", ")", ";", "!", "?", "*", "-", "'s")


def mathvista(kit: ModuleType, rng: random.Random) -> dict[str, Any]:
    """What is made of each text as a prediction and as an extracted answer, and tables of whole runs.

    A row: the question's index, the text, whether the prefetch takes it, what is then made of it, and what is
    made of it as the scorer's reply.
    """
    questions = [
        choice(i, options, letter, TASKS[i % 3], SKILLS[i % 5]) for i, (options, letter) in enumerate(LISTS)
    ]
    questions += [
        free(100 + i, kind, answer, TASKS[i % 3], SKILLS[i % 4]) for i, (kind, answer) in enumerate(FREE)
    ]
    rows = []
    for question in questions:
        for text in said(question, rng):
            taken = kit.post_check(question | {"prediction": text}, prefetch=True)
            made = kit.post_check(question | {"res": taken}) if taken else None
            extracted = kit.post_check(question | {"res": text})
            rows.append([question["index"], text, bool(taken), made, extracted])
    runs = []
    for _ in range(4):
        replies = [rng.choice(said(question, rng)) for question in questions]
        lines = [q | {"res": res, "log": ""} for q, res in zip(questions, replies, strict=True)]
        table = kit.MathVista_acc(pd.DataFrame(lines, dtype=object))
        runs.append({"replies": replies, "table": columns(table, "Task&Skill", "tot", "hit", "acc")})
    return {"questions": questions, "rows": rows, "runs": runs}


def columns(table: pd.DataFrame, *names: str) -> list[list[Any]]:
    return [list(row) for row in zip(*(table[name].tolist() for name in names), strict=True)]


def said(question: Question, rng: random.Random) -> list[str]:
    """What may be said in answer to a question."""
    if question["question_type"] == "free_form":
        return [form.format(a=question["answer"]) for form in SAID_FREELY]
    options = [str(option) for option in ast.literal_eval(question["choices"])]
    letters = [chr(ord("A") + i) for i in range(len(options))]
    right = letters.index(question["answer_option"])
    texts = []
    for form in SAID_OF_CHOICES * 2:
        i = rng.choice((right, rng.randrange(len(options))))
        j, k = rng.randrange(len(options)), rng.randrange(len(options))
        named = {"L": letters[i], "M": letters[j], "N": letters[k], "l": letters[i].lower()}
        texts.append(form.format(**named, w=options[i], v=options[j], W=options[i].upper()))
    for _ in range(20):
        words = rng.choices((*WORDS, *WORDS, *letters, *options), k=rng.randint(1, 12))
        texts.append(" ".join(word + rng.choice(MARKS) for word in words))
    return list(dict.fromkeys(texts))


COMBINATIONS = (
    "rec", "ocr", "rec,know,gen", "ocr,spat", "ocr,spat,math", "rec,spat", "ocr,math",
    "rec,ocr,know,gen,spat", "rec,ocr", "know", "gen,rec",
)  # fmt: skip
REPLIES = (
    "0.8", "1", "0", "1.0", " 0.5\n", "0.0", ".3", "1.", "1.1", "-0.1", "-0", "2", "1e-1", "inf", "nan", "",
    " ", "0,5", "50%", "0.5.", "fine", "Grade: 0.4", "0.4 of 1", "[0.7]", "1_0", "0.1_5", "０.５", "None",
    "+0.9", "1.0000000001",
)  # fmt: skip


def mmvet(kit: ModuleType, rng: random.Random) -> dict[str, Any]:
    """How replies are read (None where they cannot be), and tables of whole runs."""

    class Scorer:
        def __init__(self, reply: str) -> None:
            self.reply = reply

        def generate(self, prompt: str, temperature: float) -> str:
            return self.reply

    line = {"question": "What is it?", "answer": "a cat", "prediction": "a dog"}
    replies = []
    for reply in REPLIES:
        graded = kit.MMVet_auxeval(Scorer(reply), line)
        grade = graded["score"] if graded["log"].endswith("Succeed") else None
        replies.append([reply, "nan" if grade != grade else grade])  # JSON has no nan
    runs = []
    for count in (40, 150):
        named = [*COMBINATIONS, *rng.choices(COMBINATIONS, k=count)]
        rows = [[name, rng.randrange(11) / 10] for name in named]
        tables = kit.MMVet_acc(pd.DataFrame(rows, columns=["category", "score"]))
        table = [row for one in tables for row in columns(one, "Category", "tot", "acc")]
        runs.append({"rows": rows, "table": table})
    return {"replies": replies, "runs": runs}


def write(name: str, made: dict[str, list[Any]]) -> None:
    """A row a line."""
    lists = []
    for key, rows in made.items():
        lines = ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
        lists.append(f"{json.dumps(key)}: [\n{lines}\n]")
    text = "{\n" + ",\n".join(lists) + "\n}\n"
    (FOLDER / f"{name}.json").write_text(text, encoding="utf-8")


def main() -> None:
    of_mathvista, of_mmvet = vlmeval(Path(sys.argv[1]).resolve())
    FOLDER.mkdir(parents=True, exist_ok=True)
    write("mathvista", mathvista(of_mathvista, random.Random(1)))
    write("mmvet", mmvet(of_mmvet, random.Random(2)))


if __name__ == "__main__":
    main()
