"""Results of runs that a scripted model made, for the tests of what reports on them."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from PIL import Image, ImageDraw

from llava_cot import ask_sync
from llava_cot.core.images import LoadedImage, load_image
from llava_cot.core.question import Question
from llava_cot.core.stages import StageFormat, parse, validate
from llava_cot.core.trace import Trace, Usage
from llava_cot.evaluation.results import QuestionResult
from llava_cot.evaluation.types import AnswerScore, BenchmarkItem, Metric, RunKey, Unit
from llava_cot.models.base import Prompt, Sampling
from llava_cot.models.scripted import ScriptedModel
from llava_cot.search.request import parse_spec

SKILLS = ("counting", "coarse perception", "logical reasoning")
METHODS = ("single", "stage-beam-2", "stage-beam-4", "best-of-4@logits", "majority-4")
HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)> `|`"


def items(benchmark: str, count: int) -> list[BenchmarkItem]:
    """Questions with options, of three skills; the first is hostile."""
    found = []
    for number in range(count):
        text = f"How many objects are left in picture {number} once all the cubes are taken away?"
        options = ("one", "two", "three", "four")
        found.append(
            BenchmarkItem(
                f"{benchmark}/{number}",
                HOSTILE + text if number == 0 else text,
                options,
                "ABCD"[number % 4],
                skill=SKILLS[number % 3],
            )
        )
    return found


def picture(number: int) -> LoadedImage:
    image = Image.new("RGB", (192, 144), (228, 230, 234))
    draw, rng = ImageDraw.Draw(image), random.Random(number)
    for _ in range(5):
        x, y, size = rng.randint(0, 150), rng.randint(0, 110), rng.randint(16, 40)
        colour = tuple(rng.randint(40, 210) for _ in range(3))
        draw.ellipse((x, y, x + size, y + size), fill=colour)
    return load_image(image)


def model(item: BenchmarkItem, skilled: float) -> ScriptedModel:
    """One that is right with about this chance, and now and then leaves a stage out."""

    def script(prompt: Prompt, rng: random.Random) -> str:
        asked = prompt.messages[-1].text
        if "choose response" in asked:
            return f"It names every object, so I choose response {rng.choice('12')}."
        said = item.answer if rng.random() < skilled else rng.choice("ABCD")
        stages = {
            "SUMMARY": "I will count what is left.",
            "CAPTION": f"There are {rng.randint(3, 7)} objects <b>in colours</b> before a grey wall.",
            "REASONING": "I take the cubes away. " * rng.randint(1, 4),
            "CONCLUSION": said,
        }
        if rng.random() < 0.1 and not prompt.prefix:
            del stages["CAPTION"]
        whole = "\n\n".join(f"<{name}> {text} </{name}>" for name, text in stages.items())
        done = [name for name in stages if f"</{name}>" in prompt.prefix]
        left = whole
        for name in done:
            left = left.partition(f"</{name}>")[2]
        return left

    made = ScriptedModel(script, choose=lambda prompt, options: [-0.1 * len(o) for o in options])
    made.name = "scripted"
    return made


@dataclass
class MadeResults:
    """`RunResults` in memory. The last question of each setting has failed."""

    questions: dict[str, list[BenchmarkItem]]
    traces: dict[tuple[RunKey, str], Trace] = field(default_factory=dict)
    runs: list[RunKey] = field(default_factory=list)
    headlines: tuple[str, ...] = ("accuracy",)

    def results(self, setting: RunKey) -> Sequence[QuestionResult]:
        return [self._result(setting, item) for item in self.questions[setting.benchmark]]

    def metrics(self, setting: RunKey) -> Sequence[Metric]:
        units = tuple(
            Unit(result.item, result.score.value, result.skill, result.item)
            for result in self.results(setting)
        )
        return [Metric(name, units) for name in self.headlines]

    def headline(self, benchmark: str) -> tuple[str, ...]:
        return self.headlines

    def resources(self, setting: RunKey) -> Mapping[str, str]:
        return {}

    def note(self, benchmark: str) -> str:
        return f"Made up for tests: {benchmark} <b>."

    def item(self, benchmark: str, id: str) -> BenchmarkItem:
        return next(item for item in self.questions[benchmark] if item.id == id)

    def trace(self, setting: RunKey, item: str) -> Trace | None:
        return self.traces.get((setting, item))

    def score_text(self, setting: RunKey, item: str, text: str, fmt: StageFormat) -> float | None:
        return float(parse(text, fmt).answer == self.item(setting.benchmark, item).answer)

    def _result(self, setting: RunKey, item: BenchmarkItem) -> QuestionResult:
        trace = self.traces.get((setting, item.id))
        if trace is None:
            why = "the server said 500 <i>"
            return QuestionResult(
                item.id,
                item.skill,
                AnswerScore(0, "failed", reason=why),
                None,
                False,
                (),
                {},
                Usage(),
                failure=why,
            )
        if trace.answer is None:
            score = AnswerScore(0, "absent")
        else:
            score = AnswerScore(float(trace.answer == item.answer), "match", trace.answer)
        whole = trace.method in ("best-of-n", "majority") and trace.n > 1
        answers = [f"<CONCLUSION> {item.answer} </CONCLUSION>" in one.text for one in trace.candidates]
        return QuestionResult(
            item=item.id,
            skill=item.skill,
            score=score,
            conclusion=trace.answer,
            valid_format=not validate(trace.text),
            absent_stages=tuple(name for name, text in trace.stages.items() if text is None),
            stage_lengths={name: len(text) for name, text in trace.stages.items() if text is not None},
            usage=trace.usage,
            wall=trace.usage.completion_tokens / 1000,
            oracle=float(any(answers)) if whole else None,
        )


def made(
    benchmarks: Iterable[str] = ("made-up",),
    models: Iterable[tuple[str, float]] = (("scripted", 0.4),),
    methods: Iterable[str] = METHODS,
    seeds: Iterable[int] = (0, 1),
    count: int = 12,
) -> MadeResults:
    """Every setting over so many questions; a model is a name and how often it is right."""
    results = MadeResults({name: items(name, count) for name in benchmarks})
    pictures = [picture(number) for number in range(count)]
    for benchmark, asked in results.questions.items():
        for name, skilled in models:
            for method in methods:
                for seed in seeds:
                    setting = RunKey(benchmark, name, method, seed)
                    results.runs.append(setting)
                    for number, item in enumerate(asked[:-1]):
                        trace = _ask(item, pictures[number], skilled, method, seed * 1000 + number)
                        results.traces[setting, item.id] = trace.model_copy(update={"model": name})
    return results


def _ask(item: BenchmarkItem, image: LoadedImage, skilled: float, method: str, seed: int) -> Trace:
    spec = parse_spec(method)
    question = Question(item.text, (image,), item.id, item.options, item.answer)
    chance = skilled + 0.05 * spec.n * (spec.method == "stage-beam")
    return ask_sync(
        model(item, chance),
        None,
        question,
        method=spec.method,
        n=spec.n,
        judge=spec.judge,
        sampling=Sampling(seed=seed),
    )
