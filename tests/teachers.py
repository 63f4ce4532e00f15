"""Records, and a teacher that plays a script: what tests of annotating are made of."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from llava_cot.data.record import Picture, Record, Turn, to_json
from llava_cot.models.base import Continuation, OnText, Prompt, Sampling
from llava_cot.models.scripted import ScriptedModel

CORRECT, INCORRECT = "It fits. Verdict: correct.", "It does not fit. Verdict: incorrect."


def staged(conclusion: str, reasoning: str = "It is so.") -> str:
    return (
        "<SUMMARY> I will look. </SUMMARY>\n\n<CAPTION> There is a number. </CAPTION>\n\n"
        f"<REASONING> {reasoning} </REASONING>\n\n<CONCLUSION> {conclusion} </CONCLUSION>"
    )


def asked(prompt: Prompt) -> str:
    """The last question of a prompt, of either kind."""
    found = re.search(r"Question:\n(.*?)\n\n", prompt.messages[-1].text, re.DOTALL)
    assert found is not None
    return found[1]


def judging(prompt: Prompt) -> bool:
    return "Given answer:" in prompt.messages[-1].text


class Priced(ScriptedModel):
    """A scripted model that asks a cent for each call."""

    def price(self, prompt_tokens: int, completion_tokens: int) -> float:
        return 0.01

    async def sample(
        self, prompt: Prompt, n: int, sampling: Sampling, on_text: OnText | None = None
    ) -> list[Continuation]:
        samples = await super().sample(prompt, n, sampling, on_text)
        return [
            Continuation(s.text, (), None, s.finish, s.prompt_tokens, s.completion_tokens, 0.01)
            for s in samples
        ]


def moody(prompt: Prompt, rng: random.Random) -> str:
    """Replies of every kind, by the seed alone."""
    if judging(prompt):
        return rng.choice((CORRECT, CORRECT, INCORRECT, "I cannot say."))
    number = re.search(r"\d+", asked(prompt))
    assert number is not None
    return rng.choice(
        (staged(number[0]), staged(f"It is {number[0]}."), staged("I will not say."), "No.",
         staged(number[0], "The standard answer is given."))
    )  # fmt: skip


def questions(count: int, turns: int = 1, root: Path | None = None) -> list[Record]:
    """Records of so many turns each; with a folder, each has a picture there."""
    records = []
    for i in range(count):
        pictures: tuple[Picture, ...] = ()
        if root is not None:
            name = f"images/{i}.png"
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (4, 4), (i % 256, 0, 0)).save(root / name)
            pictures = (Picture(name, root / name),)
        turns_of = tuple(Turn(f"Which number is {i}.{j}?", str(i)) for j in range(turns))
        records.append(Record(f"q/{i}", turns_of, pictures, "made up", "CC0-1.0"))
    return records


def replying(by_question: Callable[[str, bool, int], str]) -> ScriptedModel:
    """A teacher whose reply depends on question, kind of call, and how often that came before."""
    times: dict[tuple[str, bool], int] = {}

    def script(prompt: Prompt, rng: random.Random) -> str:
        what = asked(prompt), judging(prompt)
        times[what] = times.get(what, 0) + 1
        return by_question(*what, times[what])

    return Priced(script)


def save(folder: Path, count: int) -> Path:
    """Such questions as a set in a folder."""
    lines = [json.dumps(to_json(record)) for record in questions(count, root=folder)]
    (folder / "questions.jsonl").write_text("\n".join(lines) + "\n")
    return folder
