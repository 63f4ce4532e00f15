"""Records what VLMEvalKit makes of predictions, for test_as_vlmevalkit.py to compare ours with.

It wants VLMEvalKit's own code: in an environment of its own with pandas<3, pillow, tqdm, tabulate, validators
and filelock,

    pip download --no-deps ms-vlmeval==0.0.20 && unzip -d vlmeval ms_vlmeval-0.0.20-py3-none-any.whl
    python tests/evaluation/record_vlmeval.py vlmeval

writes `vlmevalkit.json` to tests/fixtures/eval, the same each time. VLMEvalKit asks for a hundred packages
more when it is imported as a whole; only the modules that score are imported here, and what they import of
huggingface_hub and sty, and never use, is replaced by nothing.
"""

from __future__ import annotations

import ast
import csv
import json
import os
import random
import sys
import tempfile
import types
from collections import defaultdict, deque
from collections.abc import Iterator
from pathlib import Path
from string import ascii_uppercase
from typing import Any
from unittest.mock import MagicMock

import pandas as pd

FIXTURES = Path(__file__).parents[1] / "fixtures/eval"

OPTIONS = (
    ("a cube", "a ball"),
    ("red", "dark red", "blue", "green"),
    ("3", "13", "30", "4"),
    ("on the left", "on the right", "behind the tree", "nowhere"),
    ("A and B", "only C", "none", "all of them"),
    ("A cat", "a dog", "The A train", "Z"),
    ("红色", "蓝色", "绿色"),
    ("yes", "no"),
    ("İstanbul", "Straße", "naïve café", "ß"),
    ("one", "two", "three", "four", "five", "six"),
    ("It is held in a hand, and used to cut bread.", "It is a tool for writing letters.", "It is a chair"),
)
# L and T are one option's letter and text, M and U another's.
TEMPLATES = (
    "{L}", "{L}.", "({L})", "{L})", "[{L}]", "{L}:", "{L}. {T}", "({L}) {T}", "{L} {T}", "{L}, {T}",
    "{L}-{T}", "The answer is {L}.", "The answer is: {L}", "The correct option is ({L}) {T}.", "Answer: {L}",
    "answer is {L}!", "Option {L}", "option_{L}", "Option{L}", "<{L}>", "`{L}`", "'{L}'", '"{L}"', "**{L}**",
    "*{L}*", "# {L}", "{L}?", "\\boxed{{{L}}}", "${L}$", "{L}/{M}", "{L};{M}", "{L} or {M}",
    "Both {L} and {M}.", "Not {L} but {M}", "{L}{M}", "{L}\n", "\n{L}\n\n",
    "{L}\nBecause {T} is what the picture shows on the left.", "{L} {L} {L}", "{l}", "({l})", "{T}", "{T}.",
    "{TU}", "I think it is {T}.", "It is {T}, not {U}.", "{T} {U}", "The picture shows {T}",
    "A picture of {T}", "A {T} can be seen here in the picture", "It is A", "I see a thing", "{T}s",
    "{L} is the answer, since nothing else in the picture would fit it as well", "Answer {L} it is then",
    "First one, then {L} it is here", "First one, then {L} it is over here", "so {L}, one two three four",
    "答案是{L}。", "答案是 {L}。", "答案是 {L} 。", "选{L}", "选 {L}", "{L}。", "{L}，{T}", "{L}、{T}",
    "选项 {L}，因为。", "（{L}）", "Z", "Z.", "Z, none of them", "None of the options {L} and Z",
    "none of them", "None", "nan", "", " ", "?", "...", "Cannot determine the answer",
    "Cannot determine the answer, perhaps {L}", "I can't process this file.",
    "Sorry, I can't help with images of people yet.",
    "I'm sorry, but without the image provided I cannot say {L}", "I'm sorry, but I can't tell.",
    "Failed to obtain answer via API", "Failed to obtain answer via API. {L}",
    "Failed to obtain answer via API {T}", "The answer is {T}. " * 6, "{T} " * 3,
)  # fmt: skip
YES_NO = (
    "Yes", "No", "yes.", "no.", "YES", "NO!", "Yes, it is.", "No, it is not.", "yes and no", "Yes/No",
    "yes-no", "no/yes?", "**Yes**", "*no*", "`yes`", '"Yes"', "'Yes'", "(yes)", "[No]", "{no}", "<yes>",
    "Yes;No", "yes,no", "yes, no", "Yes。", "是", "不是", "Yes，它是", "不, no", "Answer: Yes", "Answer:Yes",
    "answer=yes", "answer_yes", "a-yes", "The answer is yes", "Yes it does not", "There is no doubt: yes",
    "nope", "yesterday", "know", "not", "none", "", " ", "Unknown", "unknown.", "I cannot tell.",
    "It is 3.5 m, so yes.", "It is 1,000 m/yes", "1,000,yes", "1,000 no", "It is 1,000 m (yes)", "Yes\nNo",
    "Yes\tindeed", "Yes.No", "Yes.no.", "3.no", "no.3", "yes.5", ".yes", "..yes..", "e.g. yes", "y.e.s",
    "yes" * 3, "yes " * 3, "YES?!", "yes?no", "yes? no", "yes@home", "no @ yes", "yes\\no", "a+yes", "yes=",
    "= yes", "yes>", "> yes", "_yes_", "_ yes", "No - it is not", "No— it is not", "No–yes",
    "." * 31 + " yes.", "." * 32 + " yes.", ". " * 31 + "yes.", ". " * 32 + "yes.", ". " * 40 + "no.",
    "yes" + "." * 33, "Yes, line 1 is longer than line 2.", "Line 1 is longer.", "No. Line 2 is longer, yes",
    "true", "false", "ＹＥＳ", "yes…", "yes!", "¡no!", "no:", "no: it is", "yes:no", "yes'", "no's",
    "yes&no", "yes%", "yes#", "yes$", "yes~no",
)  # fmt: skip


def load_vlmeval(wheel: Path) -> None:
    """Make what scores importable, without what it drags in."""
    sys.path.insert(0, str(wheel))
    for name in ("vlmeval", "vlmeval.dataset", "vlmeval.dataset.utils"):
        package = types.ModuleType(name)
        package.__path__ = [str(wheel.joinpath(*name.split(".")))]
        sys.modules[name] = package
    sys.modules["vlmeval.dataset.utils"].__dict__.update(DEBUG_MESSAGE="", build_judge=None)
    for name in ("huggingface_hub", "huggingface_hub.utils", "huggingface_hub.utils._cache_manager", "sty"):
        sys.modules[name] = MagicMock()


def texts(letter: str, other: str, options: tuple[str, ...]) -> Iterator[str]:
    text, another = (options[ascii_uppercase.index(name)] for name in (letter, other))
    for template in TEMPLATES:
        yield template.format(L=letter, M=other, l=letter.lower(), T=text, TU=text.upper(), U=another)


def choices() -> list[dict[str, Any]]:
    from vlmeval.utils import can_infer

    found = []
    for options in OPTIONS:
        letters = ascii_uppercase[: len(options)]
        wanted = [*texts(letters[0], letters[-1], options), *texts(letters[-1], letters[0], options)]
        verdicts = {
            text: can_infer(text, dict(zip(letters, options, strict=True))) or None
            for text in dict.fromkeys(wanted)
        }
        found.append({"options": options, "verdicts": verdicts})
    return found


def predicted(row: dict[str, str], chance: random.Random) -> str:
    """A prediction that is right more often than not, in one of many forms."""
    if row["answer"] in ("Yes", "No"):
        said = row["answer"] if chance.random() < 0.7 else {"Yes": "No", "No": "Yes"}[row["answer"]]
        forms = (
            "{}",
            "{}.",
            "{}, it is.",
            "The answer is {}",
            "**{}**",
            "{} no yes",
            "I cannot tell",
            "{}/it is",
        )
        return chance.choice(forms).format(said)
    letters = [letter for letter in "ABCDEF" if row.get(letter)]
    said = row["answer"] if chance.random() < 0.8 else chance.choice(letters)
    forms = (
        "{L}",
        "{L}.",
        "{L}. {T}",
        "{T}",
        "The answer is ({L}).",
        "{L} or {M}",
        "Z",
        "**{L}**",
        "答案是 {L}。",
    )
    weights = (9, 5, 5, 5, 5, 1, 1, 3, 1)
    other = next(letter for letter in letters if letter != said)
    return chance.choices(forms, weights)[0].format(L=said, M=other, T=row[said])


def run(name: str, number: int) -> dict[str, Any]:
    """One run over a table: its predictions, VLMEvalKit's verdict on each question, and its reports."""
    from vlmeval.dataset.image_mcq import ImageMCQDataset
    from vlmeval.dataset.image_yorn import ImageYORNDataset

    kind = ImageYORNDataset if name == "HallusionBench" else ImageMCQDataset
    kind.DATASET_MD5 = {}  # the tables are ours
    data = kind(name).data
    with (FIXTURES / f"LMUData/{name}.tsv").open(encoding="utf-8", newline="") as lines:
        rows = {row["index"]: row for row in csv.DictReader(lines, delimiter="\t")}
    chance = random.Random(f"{name}/{number}")
    predictions = {str(index): predicted(rows[str(index)], chance) for index in data["index"]}
    with tempfile.TemporaryDirectory() as folder:
        file = f"{folder}/mine_{name}.pkl"
        data.assign(prediction=list(predictions.values())).drop(columns="image").to_pickle(file)
        report = kind(name).evaluate(file, model="exact_matching", nproc=1)
        reports = {"report": report.sort_values("split")}  # its order is a set's
        for written in Path(folder).glob("*_acc_all.csv"):
            reports["all"] = pd.read_csv(written)
        (judged,) = [
            path
            for path in Path(folder).glob("*")
            if path.stem.endswith("_auxmatch")
            or (path.stem.endswith("matching_result") and path.suffix != ".pkl")
        ]
        verdicts = read(judged)
    told = "score" if "score" in verdicts else "hit"
    return {
        "predictions": predictions,
        "verdicts": {str(i): int(v) for i, v in zip(verdicts["index"], verdicts[told], strict=True)},
        "reports": {key: json.loads(frame.to_json(orient="records")) for key, frame in reports.items()},
    }


def read(file: Path) -> pd.DataFrame:
    from vlmeval.smp import load

    return load(str(file))


def circular(wheel: Path) -> list[list[Any]]:
    """What `vlmutil circular` makes of a table without rotations: index, options and answer of every row."""
    source = ast.parse((wheel / "vlmeval/tools.py").read_text(encoding="utf-8"))
    function = next(node for node in source.body if getattr(node, "name", "") == "CIRCULAR")
    import string
    import warnings

    from vlmeval.smp import dump, load, md5

    names: dict[str, Any] = {
        "string": string, "warnings": warnings, "pd": pd, "deque": deque, "defaultdict": defaultdict,
        "load": load, "dump": dump, "md5": md5, "osp": os.path,
    }  # fmt: skip
    exec(compile(ast.Module([function], []), "tools.py", "exec"), names)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "Table.tsv"
        file.write_bytes((FIXTURES / "unrotated/MMBench_DEV_EN_V11.tsv").read_bytes())
        names["CIRCULAR"](str(file))
        made = pd.read_csv(Path(folder) / "Table_circular.tsv", sep="\t", dtype=str, keep_default_na=False)
    return [
        [row["index"], [row[letter] for letter in "ABCD" if row[letter]], row["answer"]]
        for row in made.to_dict("records")
    ]


def main() -> None:
    wheel = Path(sys.argv[1]).resolve()
    os.environ.update(LMUData=str(FIXTURES / "LMUData"), PRINT_VANILLA="1", PRED_FORMAT="tsv")
    load_vlmeval(wheel)
    from vlmeval.dataset.utils.yorn import YOrN_Extraction

    tables = ("MMStar", "MMBench_DEV_EN_V11", "AI2D_TEST", "AI2D_TEST_NO_MASK", "HallusionBench")
    found = {
        "choices": choices(),
        "yes_no": {text: YOrN_Extraction(text) for text in YES_NO},
        "circular": circular(wheel),
        "runs": {name: [run(name, number) for number in range(3)] for name in tables},
    }
    text = json.dumps(found, ensure_ascii=False, indent=0)
    (FIXTURES / "vlmevalkit.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
