"""What is recorded for ever: searches, commands and served replies, by name, in a form that is compared.

Owns the cases, and what of a result is kept. Every name of the package's inside that it needs is imported
here, at the top; the rest goes through what users have. Times, addresses, folders and the wording of
refusals are no results.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import io
import json
import os
import random
import re
import runpy
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import httpx
import yaml
from endpoint_double import Double
from made_traces import sentences, single, staged, tree
from PIL import Image
from scene_sets import write_set
from serving import Served, served
from teachers import Priced, moody, save
from teachers import staged as staged_answer

from llava_cot import ask, open_model
from llava_cot.core.question import Question, load_image
from llava_cot.core.stages import make_format
from llava_cot.core.trace import Trace
from llava_cot.models.base import Prompt, Reward, Sampling
from llava_cot.models.scripted import ScriptedModel
from llava_cot.search.calibration import Calibration
from llava_cot.search.methods import METHODS
from llava_cot.search.resources import Example, Resources
from llava_cot.search.search import (
    Began,
    CandidateAdded,
    CandidateChosen,
    Finished,
    ScoreGiven,
    StageStarted,
    TextDelta,
    VerdictGiven,
)

Case = Callable[[], Any]

ROOT = Path(__file__).parents[2]
FOLDER = Path(__file__).parent / "expected"
# How much a number may differ, as a share of it: the last digits of what mini computes depend on the machine.
TOLERANCE = {"scripted": 1e-9, "server": 1e-9, "mini": 1e-4, "commands": 1e-4}
EVENTS: dict[type, str] = {
    Began: "began",
    StageStarted: "stage",
    TextDelta: "text",
    CandidateAdded: "candidate",
    VerdictGiven: "verdict",
    ScoreGiven: "score",
    CandidateChosen: "kept",
    Finished: "finished",
}


# What is kept of a result.


def short(*parts: object) -> str:
    return hashlib.sha256("\0".join(map(str, parts)).encode()).hexdigest()[:10]


def rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {key: rounded(one) for key, one in value.items()}
    return [rounded(one) for one in value] if isinstance(value, list) else value


def wordless(value: Any, words: list[str]) -> Any:
    """Without the sentences of refusals, which go to `words`."""
    if isinstance(value, dict):
        words += [said for key, said in value.items() if key == "words"]
        return {key: wordless(one, words) for key, one in value.items() if key != "words"}
    return [wordless(one, words) for one in value] if isinstance(value, list) else value


def of_trace(trace: Trace | dict[str, Any], *models: ScriptedModel) -> dict[str, Any]:
    """A trace without times and pictures. The numbers of a scripted model's tokens depend on the order of its
    calls, which is free: that they are the text's is what counts."""
    kept = dict(trace) if isinstance(trace, dict) else trace.model_dump(mode="json")
    kept.pop("warnings", None)  # which follow from the rest
    kept["question"] = kept["question"] | {
        "images": [
            {k: v for k, v in image.items() if k != "data"} | {"data": bool(image["data"])}
            for image in kept["question"]["images"]
        ]
    }
    kept["usage"] = {k: v for k, v in kept["usage"].items() if k != "seconds"}
    kept["candidates"] = [dict(one) for one in kept["candidates"]]
    for one in kept["candidates"]:
        if not models:
            one["tokens"] = f"{len(one['tokens'])} {short(*one['tokens'])}"
        else:
            if one["tokens"] and one["text"] not in (decoded(model, one["tokens"]) for model in models):
                raise AssertionError(f"the tokens of {one} are not its text")
            one["tokens"] = len(one["tokens"])
    kept["format"] = [list(tags.values()) for tags in kept["format"]]
    return kept


def decoded(model: ScriptedModel, tokens: list[int]) -> str | None:
    with contextlib.suppress(IndexError):
        return model.decode(tokens)
    return None


def described(event: Any) -> str:
    """An event in a word or two."""
    name = EVENTS[type(event)]
    match name:
        case "stage":
            return f"stage {event.round} {event.stage}"
        case "candidate" | "kept":
            return f"{name} {event.candidate.id}"
        case "verdict":
            return f"verdict {event.verdict.a} {event.verdict.b} {event.verdict.winner}"
        case "score":
            return f"score {event.score.candidate}"
        case "text":
            return f"text {event.text}"
    return name


def whole_number(value: float) -> float:
    """As it was recorded, when options were not yet made floats."""
    return int(value) if value == int(value) else value


def calls_of(model: ScriptedModel) -> list[Any]:
    """How many calls there were, and a digest of all that they asked, in whatever order."""

    def seen(prompt: Prompt) -> tuple[object, ...]:
        messages = [(m.role, m.text, *(image.sha256 for image in m.images)) for m in prompt.messages]
        return messages, prompt.prefix, prompt.prefix_tokens is None

    samples = []
    for call in model.calls:
        how = call.sampling
        form = how.constraint and (how.constraint.kind, how.constraint.text)
        # Whole numbers were recorded as they were given: the greedy cases give integers, and no others do.
        numbers = [int(x) if x == int(x) else x for x in (how.temperature, how.top_p)]
        settings = (*numbers, how.max_tokens, how.stop, how.seed, how.first, form)
        samples.append(short(seen(call.prompt), call.n, settings))
    choices = [short(seen(prompt), options) for prompt, options in model.choices]
    return [len(samples), short(*sorted(samples)), len(choices), short(*sorted(choices))]


# Models by script: functions of what is asked and of the sample's own chance.

_WORDS = {
    "summary": ["I will count.", "I will look at each object.", "First I take away, then I count."],
    "caption": ["There are 4 cubes.", "There are 4 cubes and 2 spheres.", "A red cube is on the left."],
    "reasoning": ["4 minus 1 is 3.", "4 - 1 = 3.", "4 - 1 = 2.", "One is taken away.", "So 3 are left."],
    "conclusion": ["3", "3", "3", "2", "B", "It is 3.", "4"],
    "think": ["4 - 1 = 3.", "4 - 1 = 5.", "I count them.", "None is hidden."],
    "answer": ["3", "3", "2", "B"],
}
_TAGS = {name: (f"<{name.upper()}>", f"</{name.upper()}>") for name in list(_WORDS)[:4]}
_OTHER_TAGS = {name: (f"<{name}>", f"</{name}>") for name in ("think", "answer")}


def whole(prefix: str, rng: random.Random, tags: dict[str, tuple[str, str]]) -> str:
    """What is left of an answer that begins so, in well-formed stages."""
    final = list(tags)[-1]
    parts = []
    for name, (opening, closing) in tags.items():
        begun, ended = opening in prefix, closing in prefix
        many = 1 - begun if name == final else rng.choice((0, 0, 1, 2) if begun else (1, 1, 2, 3))
        text = "".join(f" {rng.choice(_WORDS[name])}" for _ in range(many))
        if not ended:
            parts.append(f"{text} {closing}" if begun else f"{opening}{text} {closing}")
    apart = "\n\n" if prefix and parts and not parts[0].startswith(" ") else ""
    return apart + "\n\n".join(parts)


def corrupted(text: str, rng: random.Random) -> str:
    """The same with what goes wrong."""
    match rng.randrange(8):
        case 0:
            return re.sub(r"</\w+>", "", text, count=1)
        case 1:
            return re.sub(r"<(\w+)>.*?</\1>\s*", "", text, count=1, flags=re.DOTALL)
        case 2:
            return f"Well, let me see. {text} That is all."
        case 3:
            return text.replace("\n\n", "\nHm. 2 + 2 = 5.\n", 1)
        case 4:
            return text + "\n\n<CONCLUSION> No, it is 4. </CONCLUSION>"
        case 5:
            return rng.choice(("I cannot see it. The answer is 3.", "", "3", "<REASONING> 4 - 1 = 3."))
        case 6:
            return text.lower()
    return text


def script(noisy: bool, tags: dict[str, tuple[str, str]] = _TAGS) -> Callable[[Prompt, random.Random], str]:
    def play(prompt: Prompt, rng: random.Random) -> str:
        asked = prompt.messages[-1].text
        if "I choose response" in asked:
            sure = f"Since it is, I choose response {1 + int(short(asked), 16) % 2}."
            unsure = (
                "Neither is better.",
                "",
                "I do not choose response 1.",
                "Since 2 is, I choose response 2.",
            )
            return rng.choice((sure, *unsure)) if noisy else sure
        if "Verdict:" in asked:
            said = ("It holds. Verdict: correct.", "It is wrong. Verdict: incorrect.", "I cannot say.")
            return rng.choice(said[:2] * 3 + said if noisy else said[:1] * 2 + said[:2])
        if "what is the answer?" in asked:
            return rng.choice(("3", "The answer is 3.", "B", "Answer: 2", "It is hard to say."))
        if "Describe in detail" in asked:
            return "There are 4 cubes. One is red." if rng.random() < 0.7 else whole("", rng, tags)
        if "Say in one short sentence" in asked:
            return rng.choice(("How many cubes there are.", "", "<CONCLUSION> The cubes. </CONCLUSION>"))
        thinks = "think step by step" in asked or "Think step by step" in asked or len(prompt.messages) > 1
        if thinks and rng.random() < 0.8:
            ends = ("So the answer is 3.", "\nAnswer: 2", "\nAnswer: B", "I do not know.")
            return f"4 minus 1 is 3. {rng.choice(ends)}"
        if "Answer in JSON" in asked:
            fields = {name: rng.choice(_WORDS[name]) for name in tags}
            return json.dumps(fields)[: rng.choice((1000, 1000, 60))]
        text = whole(prompt.prefix, rng, tags)
        return corrupted(text, rng) if noisy and not prompt.prefix.rstrip().endswith("</CAPTION>") else text

    return play


def chosen(prompt: Prompt, options: Any) -> list[float]:
    text = prompt.messages[-1].text + prompt.prefix
    return [-(int(short(text, option), 16) % 9) / 2 for option in options]


def scripted(noisy: bool = False, tags: dict[str, tuple[str, str]] = _TAGS, **more: Any) -> ScriptedModel:
    return ScriptedModel(script(noisy, tags), chosen, **more)


class Rewarder:
    """A reward model that goes by the text."""

    name = "rewarder"

    async def reward(self, prompt: Prompt, answer: str) -> Reward:
        return Reward(int(short(answer), 16) % 50 / 10 - 3, prompt_tokens=4, usd=0.25)


@cache
def pictures() -> tuple[Any, Any]:
    return tuple(load_image(ROOT / "examples" / f"{name}.png", name=name) for name in ("scene", "spheres"))


def question(seed: int) -> Question:
    """Without options, with them, and with two pictures."""
    scene, spheres = pictures()
    return (
        Question("One is taken away. How many are left?", (scene,), "q0", (), "3"),
        Question("How many are left?", (scene,), "q1", ("2", "3", "4"), "B"),
        Question("What is 4 - 1?", (scene, spheres), None, (), "3"),
    )[seed % 3]


def examples() -> tuple[Example, ...]:
    scene, spheres = pictures()
    return (
        Example(Question("How many?", (spheres,)), "I see one. The answer is 1."),
        Example(Question("Which?", (scene,), options=("left", "right")), "It is left. The answer is A."),
    )


def resources_of(method: str, judge: str | None, noisy: bool = False, **more: Any) -> Resources:
    """What the method and the judge want."""
    kind = METHODS[method]
    given = {
        "reasoner": scripted(noisy) if "reasoner" in kind.requires else None,
        "examples": examples() if "examples" in kind.requires else (),
        "calibration": Calibration("likelihood", -5.0, 1.0) if judge == "likelihood" else None,
        "judge_model": Rewarder() if judge == "reward" else None,
    }
    return Resources(**given | more)


def chosen_options(options: dict[str, Any]) -> dict[str, Any]:
    """The arguments of `ask` for these options, those of sampling together."""
    names = ("temperature", "top_p", "max_tokens", "seed")
    sampling = Sampling(**{name: options[name] for name in names if name in options})
    return {name: one for name, one in options.items() if name not in names} | {"sampling": sampling}


def search(
    model: ScriptedModel, asked: Question, method: str, judge: str | None, given: Resources, **settings: Any
) -> Any:
    """What a scripted search comes to. A refusal is one, whatever it says."""
    heard: list[str] = []
    try:
        trace = asyncio.run(
            ask(
                model, None, asked, method=method, judge=judge, resources=given,
                on_event=lambda event: heard.append(described(event)), **chosen_options(settings),
            )
        )  # fmt: skip
    except ValueError as error:
        return {"refused": True, "words": str(error)}
    events = re.sub(r"(text [^\x1f]*\x1f)+", lambda m: f"text {short(m[0])}\x1f", "\x1f".join(heard) + "\x1f")
    models = {"asked": model, "reasoner": given.reasoner, "judge_model": given.judge_model}
    scripts = {name: one for name, one in models.items() if isinstance(one, ScriptedModel)}
    found = {"trace": of_trace(trace, *scripts.values()), "events": events.rstrip("\x1f").split("\x1f")}
    return found | {name: calls_of(one) for name, one in scripts.items()}


def scripted_cases() -> dict[str, Case]:
    cases: dict[str, Case] = {}

    def add(name: str, method: str, judge: str | None, seed: int, model: ScriptedModel, **how: Any) -> None:
        noisy = how.pop("noisy", False)
        given = resources_of(method, judge or METHODS[method].judge, noisy, **how.pop("extras", {}))
        how = {"seed": seed} | how
        cases[name] = lambda: search(model, question(seed), method, judge, given, **how)

    for method, kind in METHODS.items():
        for seed in range(3):
            third = ("likelihood", "rules", "verifier")[seed]
            judges = [None] if kind.judge is None else ["self", "logits", third]
            for judge in judges:
                for noisy in (False, True):
                    name = f"{method}@{judge} {seed} {'noisy' if noisy else 'clean'}"
                    n = None if kind.single or not seed else 3 + seed
                    add(name, method, judge, seed, scripted(noisy), n=n, noisy=noisy)
        for noisy in (False, True):
            kinds = "noisy" if noisy else "clean"
            add(f"{method} short {kinds}", method, None, 1, scripted(noisy), max_tokens=12, noisy=noisy)
            add(f"{method} no ids {kinds}", method, None, 2, scripted(noisy, ids=False), noisy=noisy)
        formatted = scripted(False, _OTHER_TAGS)
        add(f"{method} other format", method, None, 1, formatted, fmt=make_format("think,answer"))
        greedy = scripted(True)
        add(f"{method} greedy", method, None, 0, greedy, temperature=0, top_p=1, noisy=True)
        if kind.judge is not None:
            add(f"{method} reward", method, "reward", 1, scripted(True), n=4, noisy=True)
            other = {"judge_model": scripted()}
            add(f"{method} judge model", method, "logits", 2, scripted(True), n=4, extras=other, noisy=True)
        if "calibration" in kind.accepts:
            for mean in (0.1, 0.9):
                known = {"calibration": Calibration("logits", mean, 0.1)}
                add(f"{method} calibrated {mean}", method, "logits", 1, scripted(), extras=known)
        if kind.budgeted:
            for budget in (1, 60, 200, 1000):
                for judge in (None,) if kind.judge is None else ("self", "logits"):
                    name = f"{method}@{judge} within {budget}"
                    add(name, method, judge, budget, scripted(True), n=6, budget=budget, noisy=True)
        if kind.scores is False and kind.single is False:
            add(f"{method} of 1", method, None, 1, scripted(), n=1)
    add("msg json", "msg", None, 1, scripted(constraints=("json",)))
    add("msg json cut", "msg", None, 0, scripted(constraints=("json",)), max_tokens=9)
    add("msg without forms", "msg", None, 1, scripted(constraints=()))
    add("refused budget", "single", None, 0, scripted(), budget=10)
    add("refused judge", "majority", "self", 0, scripted())
    add("refused method", "single", None, 0, scripted(), n=2)
    return cases


# The built-in model.

_ABOUT = "Remove all blue rubber objects. Remove all rubber cubes. How many objects are left now?"


@cache
def mini() -> Any:
    return open_model("mini")


def mini_cases() -> dict[str, Case]:
    cases: dict[str, Case] = {}

    def add(name: str, picture: str, method: str, judge: str | None, **how: Any) -> None:
        def run() -> Any:
            kind, order = METHODS[method], []
            given = Resources(
                reasoner=mini() if "reasoner" in kind.requires else None,
                examples=examples()[:1] if "examples" in kind.requires else (),
            )
            trace = asyncio.run(
                ask(
                    mini(), ROOT / "examples" / f"{picture}.png", _ABOUT, method=method, judge=judge,
                    resources=given, on_event=lambda event: order.append(EVENTS[type(event)]),
                    **chosen_options(how),
                )
            )  # fmt: skip
            counts = {kind: order.count(kind) for kind in dict.fromkeys(order) if kind != "text"}
            found = of_trace(trace)
            found["question"]["images"][0]["name"] = picture
            return rounded({"trace": found, "events": counts})

        cases[name] = run

    for picture in ("scene", "spheres"):
        for method, kind in METHODS.items():
            n = None if kind.single else 3
            add(f"{method} {picture}", picture, method, None, n=n, seed=1, max_tokens=200)
        for method in ("stage-beam", "best-of-n"):
            for judge in ("self", "logits", "likelihood", "rules"):
                how: dict[str, Any] = {"n": 3, "seed": 2, "temperature": 1.0}
                add(f"{method}@{judge} {picture}", picture, method, judge, **how)
            add(f"{method} {picture} greedy", picture, method, None, temperature=0)
        add(f"single {picture} greedy", picture, "single", None, temperature=0)
        add(f"single {picture} short", picture, "single", None, max_tokens=9)
    return cases


# The command line, in this process.


@dataclass
class Ran:
    status: int
    out: str
    err: str


def command(*arguments: object, stdin: bytes = b"") -> Ran:
    """`llava-cot` with these arguments, in the folder of the repository, without a terminal or a network."""
    out, err = io.TextIOWrapper(io.BytesIO(), "utf-8"), io.TextIOWrapper(io.BytesIO(), "utf-8")
    argv = ["llava-cot", *map(str, arguments)]
    status = 0
    with (
        contextlib.chdir(ROOT),
        mock.patch.object(sys, "argv", argv),
        mock.patch.object(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin))),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            runpy.run_module("llava_cot", run_name="__main__")
        except SystemExit as end:
            status = int(end.code or 0)
    out.flush(), err.flush()
    return Ran(status, out.buffer.getvalue().decode(), err.buffer.getvalue().decode())


def well(*arguments: object, **more: Any) -> Ran:
    ran = command(*arguments, **more)
    assert ran.status in (0, 1), ran.err
    return ran


def place_free(value: Any, folder: Path) -> Any:
    """Without the folder's name and addresses on this machine."""
    text = json.dumps(value).replace(str(folder), "OUT")
    return json.loads(re.sub(r"127\.0\.0\.1:\d+", "HOST", text))


def lines(file: Path) -> list[Any]:
    return [json.loads(line) for line in file.read_text().splitlines()]


_TIMES = {"seconds", "wall"}


def untimed(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: untimed(one) for key, one in value.items() if key not in _TIMES}
    return [untimed(one) for one in value] if isinstance(value, list) else value


def tables(text: str) -> list[list[str]]:
    """The figures of a report in Markdown: its tables' rows, without what was measured in seconds."""
    found: list[list[str]] = []
    dropped: set[int] = set()
    before = False
    for line in text.splitlines():
        row = [cell.strip() for cell in line.strip("|").split("|")] if line.startswith("|") else []
        if row and not before:
            dropped = {i for i, cell in enumerate(row) if re.search("second|time", cell)}
        if row:
            found.append([cell for i, cell in enumerate(row) if i not in dropped])
        before = bool(row)
    return found


def replies(*arguments: object, **more: Any) -> Any:
    found = json.loads(well(*arguments, **more).out)
    found.pop("warnings", None)
    return untimed(found)


def unsure(prompt: Prompt, rng: random.Random) -> str:
    """Answers to `teachers.questions`, of which some are wrong; judges, too."""
    asked = prompt.messages[-1].text
    if "I choose response" in asked or "Verdict:" in asked:
        return script(False)(prompt, rng)
    number = (re.findall(r"\d+", asked) or ["0"])[0]
    return staged_answer(rng.choice((number, number, "none")))[len(prompt.prefix) :]


def command_cases() -> dict[str, Callable[[Path], Any]]:
    scene, spheres = "examples/scene.png", "examples/spheres.png"
    short_one = ("--max-tokens", "200")

    def asking(folder: Path) -> Any:
        def full(*arguments: object, **more: Any) -> Any:
            found = replies("ask", *arguments, "--json", "--trace", folder / "t.json", **more)
            assert found["trace"] == untimed(json.loads((folder / "t.json").read_text()))
            return found | {"trace": of_trace(found["trace"] | {"usage": found["usage"]})}

        (folder / "examples.yaml").write_text(
            yaml.safe_dump([{"question": "How many?", "answer": "I see one. The answer is 1."}])
        )
        fields = {"judge": "likelihood", "mean": -0.5, "deviation": 0.1}
        (folder / "calibration.json").write_text(json.dumps(fields))
        return {
            "plain": well("ask", scene, _ABOUT, *short_one, "-q").out,
            "json": replies("ask", scene, _ABOUT, *short_one, "--json"),
            "trace": full(scene, _ABOUT, "-n", "3", "--judge", "logits", *short_one),
            "stdin": full("-", _ABOUT, "--method", "single", stdin=(ROOT / scene).read_bytes()),
            "two pictures": replies("ask", scene, _ABOUT, "--image", spheres, "--json", "--method", "single"),
            "no picture": replies("ask", "none", _ABOUT, "--json", "--method", "single", *short_one),
            "format": full(scene, _ABOUT, "--format", "think,answer", "--method", "best-of-n", *short_one),
            "budget": full(scene, _ABOUT, "--budget", "150", "-n", "4"),
            "reasoner": full(scene, _ABOUT, "--method", "prism", "--reasoner", "mini", *short_one),
            "examples": full(
                scene, _ABOUT, "--method", "cot-few-shot", "--examples", folder / "examples.yaml", *short_one
            ),
            "calibration": full(
                scene, _ABOUT, "--method", "swires", "--judge", "likelihood", "--calibration",
                folder / "calibration.json", *short_one,
            ),
            "judge model": full(scene, _ABOUT, "--judge", "logits", "--judge-model", "mini", *short_one),
            "refused": [
                (ran.status, ran.out, ran.err.count("\n"))
                for ran in (
                    command("ask", scene, _ABOUT, "--method", "guess"),
                    command("ask", scene, _ABOUT, "-n", "0"),
                    command("ask", scene, _ABOUT, "--method", "prism"),
                    command("ask", scene, _ABOUT, "--budget", "5", "--method", "single"),
                    command("ask", scene, " "),
                    command("ask", "nowhere.png", _ABOUT),
                    command("ask", scene),
                    command("ask", scene, _ABOUT, "--model", "nowhere"),
                )
            ],
        }  # fmt: skip

    def scenes(folder: Path) -> Any:
        well("scenes", folder / "s", "--count", "6", "--seed", "3", "--split", "train")
        pixels = {
            path.name: hashlib.sha256(Image.open(path).tobytes()).hexdigest()[:10]
            for path in sorted((folder / "s").rglob("*.png"))
        }
        return {"questions": lines(folder / "s/questions.jsonl"), "pixels": pixels}

    def data(folder: Path) -> Any:
        told = [{"source": "scenes", "split": "train", "count": 8, "size": 40}]
        excluded = [{"source": "scenes", "split": "train", "size": 15, "name": "kept-out"}]
        (folder / "recipe.yaml").write_text(yaml.safe_dump({"sources": told, "exclude": excluded}))
        well("data", "sample", folder / "recipe.yaml", "--out", folder / "sample")
        well("data", "annotate", folder / "sample", "--teacher", "scenes", "--out", folder / "taught", "-q")

        def spoil(given: Any) -> None:
            given[0]["image"] = "images/nowhere.png"
            given.insert(1, "{")

        write_set(folder / "spoilt", 5, spoil)
        checks = []
        for name in ("taught", "spoilt"):
            ran = well("data", "check", folder / name, "--json")
            report = json.loads(ran.out)
            found = [(one["line"], one["kind"], one.get("id")) for one in report.pop("findings")]
            checks.append([ran.status, report, found])
        return {
            "sample": lines(folder / "sample/questions.jsonl"),
            "sample.json": json.loads((folder / "sample/sample.json").read_text()),
            "taught": lines(folder / "taught/train.jsonl"),
            "rejects": lines(folder / "taught/rejects.jsonl"),
            "checks": checks,
        }

    def sources(folder: Path) -> Any:
        told = yaml.safe_load((ROOT / "recipes/llava-cot-100k.yaml").read_text())
        # GeoQA+ is read from another release than it was (see CHANGELOG.md), and so is not compared.
        told["sources"] = [entry for entry in told["sources"] if entry["source"] != "geoqa_plus"]
        for entry in told["sources"]:
            entry["count"] = "all"
        (folder / "recipe.yaml").write_text(yaml.safe_dump(told))
        with mock.patch.dict(os.environ, {"LLAVA_COT_DATA": str(ROOT / "tests/fixtures")}):
            well("data", "sample", folder / "recipe.yaml", "--out", folder / "out")
        return lines(folder / "out/questions.jsonl")

    def teacher(folder: Path) -> Any:
        save(folder / "in", 16)
        with Double(Priced(moody), models=("tutor",), owner="vllm") as double:
            ran = well(
                "data", "annotate", folder / "in", "--teacher", double.url, "--out", folder / "out",
                "--at-once", "1", "-q",
            )  # fmt: skip
        found = {name: lines(folder / f"out/{name}.jsonl") for name in ("train", "rejects")}
        return found | {"status": ran.status}

    def preferences(folder: Path) -> Any:
        (folder / "traces").mkdir()
        for name, trace in {"a": staged(4), "b": single(), "c": sentences(3), "d": tree()}.items():
            trace.save(folder / f"traces/{name}.json")
        more = ("--method", "stage-beam", "--trace", folder / "traces/e.json", "--temperature", "1")
        well("ask", scene, _ABOUT, "-n", "4", *more, *short_one, "-q")
        found = {}
        for name, option in {"right": (), "wrong": ("--keep-wrong",)}.items():
            well("data", "preferences", folder / "traces", "--out", folder / name, *option)
            files = sorted((folder / name).rglob("*.jsonl"))
            found[name] = {str(file.relative_to(folder / name)): lines(file) for file in files}
        return found

    def duels(folder: Path) -> Any:
        well("scenes", folder / "s", "--count", "3", "--split", "validation")
        given = ("--model", "mini", "--rollouts", "2", "--seed", "4", "--limit", "2", "-q")
        well("data", "duels", folder / "s", *given, "--out", folder / "out")
        known = json.loads((folder / "out/duels.json").read_text())
        return {"train": lines(folder / "out/train.jsonl"), "duels.json": known}

    def calibrations(folder: Path) -> Any:
        def calibrate(name: str, judge: str, *more: object) -> Any:
            well("judge", "calibrate", "--judge", judge, "--out", folder / f"{name}.json", *more)
            return json.loads((folder / f"{name}.json").read_text())

        traced = folder / "trace.json"
        well("ask", scene, _ABOUT, "--method", "stage-wise-beam", "--trace", traced, *short_one, "-q")
        return {
            "logits": calibrate("a", "logits", "--limit", "5", *short_one),
            "likelihood": calibrate("b", "likelihood", "--limit", "5", "--stage", "caption", *short_one),
            "traces": calibrate("c", "logits", "--from", traced),
        }

    def evaluated(folder: Path, *arguments: object) -> Any:
        ran = well("eval", *arguments, "--out", folder / "runs", "--json", "-q")
        well("report", folder / "runs", "--out", folder / "report", "--paper")
        plots = sorted(path.name for path in (folder / "report/plots").iterdir())
        return {
            "status": ran.status,
            "results": untimed(json.loads(ran.out)["results"]),
            "tables": tables((folder / "report/report.md").read_text()),
            "plots": plots,
        }

    def eval_mini(folder: Path) -> Any:
        methods = ("single", "greedy", "best-of-2@logits", "stage-beam-2")
        options = [word for method in methods for word in ("--method", method)]
        return evaluated(
            folder, "scenes", "--model", "mini", *options, "--limit", "5", "--seeds", "2", *short_one
        )

    def eval_served(folder: Path) -> Any:
        source = save(folder / "in", 8)
        methods = ("single", "majority-3", "best-of-3", "stage-beam-2-within-300", "sentence-beam-2", "cot")
        options = [word for method in methods for word in ("--method", method)]
        with Double(ScriptedModel(unsure), models=("someone",), owner="vllm") as double:
            return evaluated(
                folder, source, "--rule", "exact", "--model", f"someone={double.url}", *options,
                "--seeds", "2", "--at-once", "1",
            )  # fmt: skip

    return {
        "ask": asking,
        "scenes": scenes,
        "data": data,
        "data sources": sources,
        "data annotate by a server": teacher,
        "data preferences": preferences,
        "data duels": duels,
        "judge calibrate": calibrations,
        "eval mini": eval_mini,
        "eval a server": eval_served,
    }


def in_a_folder(run: Callable[[Path], Any]) -> Case:
    def case() -> Any:
        folder = Path(tempfile.mkdtemp())
        try:
            known = {"XDG_CACHE_HOME": str(folder / "cache"), "HF_HUB_OFFLINE": "1"}
            with mock.patch.dict(os.environ, known):
                return rounded(place_free(run(folder), folder))
        finally:
            shutil.rmtree(folder)

    return case


# The server.


def url_of(file: str) -> str:
    return "data:image/png;base64," + base64.b64encode((ROOT / file).read_bytes()).decode()


def body(text: str = "How many are left?", **more: Any) -> dict[str, Any]:
    return {"model": "scripted", "messages": [{"role": "user", "content": text}], "seed": 1} | more


def pictured(**more: Any) -> dict[str, Any]:
    part = {"type": "image_url", "image_url": {"url": url_of("examples/scene.png")}}
    content = [part, {"type": "text", "text": "How many are left?"}]
    return body(**more) | {"messages": [{"role": "user", "content": content}]}


def stripped(reply: Any) -> Any:
    """Without what differs from reply to reply."""
    reply = {key: value for key, value in reply.items() if key not in ("id", "created")}
    for choice in reply.get("choices", ()):
        choice.pop("warnings", None)
        if choice.get("trace"):
            choice["trace"] = of_trace(choice["trace"])
            for one in choice["trace"]["candidates"]:
                one["tokens"] = int(one["tokens"].split()[0])
    return reply


def post(server: Served, given: Any) -> Any:
    content = given if isinstance(given, bytes) else json.dumps(given).encode()
    headers = {"Content-Type": "application/json"}
    reply = httpx.post(f"{server.url}/chat/completions", content=content, headers=headers, timeout=120)
    if reply.status_code != 200:
        error = reply.json()["error"]
        return {"status": reply.status_code, "words": error.pop("message")} | error
    if not given.get("stream"):
        return stripped(reply.json())
    events = [line.removeprefix("data: ") for line in reply.text.splitlines() if line]
    assert events.pop() == "[DONE]"
    chunks = [stripped(json.loads(event)) for event in events]
    # How the chunks of two choices take turns is free.
    return sorted(chunks, key=lambda chunk: chunk["choices"][0]["index"] if chunk["choices"] else 99)


REQUESTS: dict[str, Any] = {
    "default": body(),
    "traced": body(include_trace=True),
    "picture": pictured(include_trace=True, model="scripted:single"),
    **{
        name: body(model=f"scripted:{name}")
        for name in (
            "single", "greedy", "majority-3", "best-of-3@logits", "best-of-2", "stage-beam-3",
            "sentence-beam-2", "adaptive-majority-4", "weighted-majority-3", "stage-wise-beam-3", "swires-3",
            "stage-beam-3@likelihood", "best-of-4-within-200", "staged-prompt", "msg", "cot", "prism",
            "prism-query", "best-of-2@reward",
        )
    },
    "search": body(
        search={"method": "best-of-n", "n": 3, "judge": "rules", "budget": 300}, include_trace=True
    ),
    "search n": body(search={"n": 3}),
    "choices": body(n=3, model="scripted:single"),
    "raw": body(raw=True),
    "stop": body(stop=["3", "B"], raw=True),
    "short": body(max_tokens=7, model="scripted:single"),
    "cold": body(temperature=0, top_p=0.5),
    "system": body() | {"messages": [{"role": "system", "content": "Be brief."}, *body()["messages"]]},
    "streamed": body(stream=True, stream_options={"include_usage": True}),
    "streamed single": body(stream=True, model="scripted:single"),
    "streamed raw": body(stream=True, raw=True, model="scripted:single", stop="</CAPTION>"),
    "streamed trace": body(stream=True, include_trace=True, model="scripted:best-of-3"),
    "streamed choices": body(stream=True, n=2, model="scripted:staged-prompt"),
    "streamed prism": body(stream=True, model="scripted:prism"),
    "no json": b"{",
    "no model": {"messages": []},
    "another model": body(model="gpt-4o"),
    "no messages": body(messages=[]),
    "empty": body(" "),
    "no method": body(search={"method": "magic"}),
    "no judge": body(search={"judge": "coin"}),
    "two methods": body(model="scripted:best-of-4", search={"n": 2}),
    "too many": body(model="scripted:stage-beam-999999"),
    "budget of single": body(search={"method": "single", "budget": 6}),
    "wants": body(model="scripted:cot-few-shot"),
    "tools": body(tools=[{"type": "function"}]),
    "temperature": body(temperature=-1),
    "width": body(search={"width": 2}),
    "turns": body(messages=[{"role": role, "content": "How?"} for role in ("user", "assistant", "user")]),
    "file": body(
        messages=[
            {
                "role": "user",
                "content": [
                    {"type": "image_url", "image_url": {"url": "/etc/passwd"}},
                    {"type": "text", "text": "How many?"},
                ],
            }
        ]
    ),
}  # fmt: skip


@contextlib.contextmanager
def server() -> Iterator[Served]:
    given = Resources(reasoner=scripted(), judge_model=Rewarder())
    with served(scripted(), None, given) as running:
        yield running


def server_cases(running: Served) -> dict[str, Case]:
    def get(path: str) -> Any:
        reply = httpx.get(f"{running.url}/{path}", timeout=120)
        if reply.status_code != 200:
            return reply.status_code
        return [one["id"] for one in reply.json()["data"]] if path == "models" else reply.json()["id"]

    cases: dict[str, Case] = {
        f"GET {path}": (lambda path=path: get(path))
        for path in ("models", "models/scripted:best-of-7", "models/gpt-4o", "models/scripted:cot-few-shot")
    }
    return cases | {name: (lambda given=given: post(running, given)) for name, given in REQUESTS.items()}


@contextlib.contextmanager
def groups() -> Iterator[dict[str, dict[str, Case]]]:
    """All cases, by the file that they are kept in."""
    with server() as running:
        yield {
            "scripted": scripted_cases(),
            "mini": mini_cases(),
            "commands": {name: in_a_folder(run) for name, run in command_cases().items()},
            "server": server_cases(running),
        }
