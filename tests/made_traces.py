"""Traces made by hand, for the tests of what shows them."""

import base64
import io

from PIL import Image, ImageDraw

from llava_cot.core.trace import (
    Candidate,
    Check,
    ImageRecord,
    QuestionRecord,
    Score,
    StageTags,
    Trace,
    Usage,
    Verdict,
)

STAGES = ("summary", "caption", "reasoning", "conclusion")
TAGS = tuple(StageTags(name=s, open=f"<{s.upper()}>", close=f"</{s.upper()}>") for s in STAGES)
WORDS = {
    "summary": "I will find every object, take away the ones that are named, and count what is left.",
    "caption": (
        "The picture shows a small grey metal cube, a large purple rubber sphere behind it, two small "
        "yellow metal spheres on the left and a large cyan rubber cylinder on the right."
    ),
    "reasoning": (
        "There are 5 objects at the start. Two of them are small metal spheres, so 3 are left. One of "
        "those is purple, the large sphere, so 2 are left: the grey cube and the cyan cylinder."
    ),
    "conclusion": "2",
}


def picture() -> ImageRecord:
    image = Image.new("RGB", (320, 240), (196, 198, 202))
    draw = ImageDraw.Draw(image)
    draw.rectangle((60, 120, 130, 190), fill=(120, 122, 128))
    draw.ellipse((150, 60, 250, 160), fill=(125, 60, 160))
    draw.ellipse((30, 80, 60, 110), fill=(220, 190, 40))
    file = io.BytesIO()
    image.save(file, "PNG")
    data = "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
    return ImageRecord(name="scene.png", sha256="0" * 64, width=320, height=240, data=data)


def staged(n: int = 4, words: dict[str, str] = WORDS) -> Trace:
    """A stage-beam trace with `n` candidates a stage; candidate `stage * n` is kept each time."""
    candidates: list[Candidate] = []
    verdicts: list[Verdict] = []
    chosen: list[int] = []
    for number, stage in enumerate(STAGES):
        parent = chosen[-1] if chosen else None
        for i in range(n):
            inner = words[stage] if i == 0 else f"Try {i}. {words[stage]}"
            text = f"<{stage.upper()}> {inner} </{stage.upper()}>"
            candidates.append(
                Candidate(
                    id=number * n + i, parent=parent, round=number, stage=stage, text=text,
                    logprob=-3.5 - i, completion_tokens=20 + i, finish="length" if i == 3 else "stop",
                )
            )  # fmt: skip
        chosen.append(number * n)
        for i in range(1, n):
            found = Check(
                candidate=number * n + i, correct=False, reply="The count is wrong. Verdict: incorrect."
            )
            checked = stage == "reasoning" and i == 1
            verdicts.append(
                Verdict(
                    a=number * n + i, b=number * n, winner=number * n, round=number, stage=stage,
                    judge="self",
                    decided_by="check" if checked else "seed" if i == 2 else "choice",
                    reply="" if checked else "Since response 2 names every object, I choose response 2.",
                    checks=(found,) if checked else (),
                    scores=(0.25, 0.75) if i == 3 else None,
                )
            )  # fmt: skip
    return _trace(candidates, verdicts, chosen, words, method="stage-beam", n=n)


def sentences(rounds: int, n: int = 3) -> Trace:
    """A sentence-beam trace of many rounds."""
    candidates: list[Candidate] = []
    verdicts: list[Verdict] = []
    chosen: list[int] = []
    for number in range(rounds):
        first = number * n
        parent = chosen[-1] if chosen else None
        candidates += [
            Candidate(id=first + i, parent=parent, round=number, stage="sentence", completion_tokens=12,
                      text=f"Sentence {number} in its wording {i}, about one object of the picture.")
            for i in range(n)
        ]  # fmt: skip
        verdicts += [
            Verdict(a=first + i, b=first, winner=first, round=number, stage="sentence", judge="logits",
                    decided_by="choice", scores=(0.3, 0.7))
            for i in range(1, n)
        ]  # fmt: skip
        chosen.append(first)
    return _trace(candidates, verdicts, chosen, WORDS, method="sentence-beam", n=n)


def single(words: dict[str, str] = WORDS) -> Trace:
    text = "\n\n".join(f"<{s.upper()}> {words[s]} </{s.upper()}>" for s in STAGES)
    candidates = [
        Candidate(id=0, parent=None, round=0, stage="answer", text=text, completion_tokens=90, finish="eos")
    ]
    return _trace(candidates, [], [0], words, method="single", n=1)


def _trace(
    candidates: list[Candidate],
    verdicts: list[Verdict],
    chosen: list[int],
    words: dict[str, str],
    method: str,
    n: int,
) -> Trace:
    return Trace(
        question=QuestionRecord(
            text="Subtract all small metal spheres. Subtract all purple objects. How many objects are left?",
            options=("1", "2"),
            images=(picture(),),
            reference="2",
        ),
        model="mini",
        method=method,
        judge="self" if verdicts else None,
        n=n,
        seed=0,
        temperature=0.6,
        top_p=0.9,
        max_tokens=2048,
        format=TAGS,
        candidates=tuple(candidates),
        verdicts=tuple(verdicts),
        chosen=tuple(chosen),
        text="".join(candidates[i].text for i in chosen),
        stages=dict(words),
        answer=words["conclusion"],
        usage=Usage(prompt_tokens=4321, completion_tokens=987, model_calls=31, seconds=2.34),
    )


def tree() -> Trace:
    """A search with scores that goes on from several candidates, and returns to the captions once."""
    told: list[tuple[int | None, int, str, str, float | None]] = [  # parent, round, stage, text, score
        (None, 0, "summary", WORDS["summary"], None),
        *((0, 1, "caption", f"Caption {i}.", 0.1 * i) for i in range(3)),  # 1 to 3
        (3, 2, "reasoning", "Reasoning a.", -1.5),
        (2, 2, "reasoning", "Reasoning b.", -2.25),
        *((0, 3, "caption", f"Caption {i}.", 0.1 * i) for i in (4, 5)),  # 6 and 7
        (7, 4, "reasoning", WORDS["reasoning"], 2.0),
        (6, 4, "reasoning", "Reasoning c.", 0.5),
        (8, 5, "conclusion", "2", 3.0),
        (4, 5, "conclusion", "1", -3.0),
    ]
    candidates = [
        Candidate(
            id=id, parent=parent, round=number, stage=stage, completion_tokens=5,
            text=f"<{stage.upper()}> {text} </{stage.upper()}>",
        )
        for id, (parent, number, stage, text, _) in enumerate(told)
    ]  # fmt: skip
    scores = tuple(
        Score(
            candidate=id, value=value, round=number, stage=stage, judge="critic",
            reply="Every step holds." if value == 2.0 else "",
        )
        for id, (_, number, stage, _, value) in enumerate(told)
        if value is not None
    )  # fmt: skip
    words = WORDS | {"caption": "Caption 5."}
    trace = _trace(candidates, [], [0, 7, 8, 10], words, method="tree", n=4)
    return trace.model_copy(update={"scores": scores, "judge": "critic", "budget": 600})
