"""Between stages 2 and 3 of mini: it samples, and the teacher says which of its own samples is better.

    python scripts/mini/duels.py --run RUN --name answers --captions 5000 --answers 1500

Writes RUN/duels.jsonl: duels between captions and between whole answers, and checks of its reasonings given
its own captions, each in the self-judge's prompt. Goes on after the last whole batch if it is started again.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

import torch
from aids import MENTION
from build import build_model, build_processor
from common import Pool, load_weights
from comparing import caption_verdict
from rows import Rows

import examples
from examples import question_text
from llava_cot.scenes.questions import SceneQuestion, ask_about
from llava_cot.scenes.teacher import ORDINALS, describe
from llava_cot.scenes.world import Object, Scene
from llava_cot.stages import LLAVA_COT, Answer, parse

SAMPLES = 4
TEMPERATURE = 0.8  # a little above that of the searches, where its doubts show
PICTURES = 48  # in a batch


def described(caption: str | None) -> list[str] | None:
    """The objects of a caption, from left to right; None if it is not as the teacher would write it."""
    found = [" ".join(match.groups()[1:]) for match in MENTION.finditer(caption or "")]
    listed = ", ".join(f"{ORDINALS[i]} a {what}" for i, what in enumerate(found[: len(ORDINALS)]))
    return found if caption == f"There are {len(found)} objects. From left to right: {listed}." else None


def seen_scene(names: list[str], scene: Scene) -> Scene:
    objects = [Object(*name.split(" "), x=0.0, y=0.0, turn=0.0) for name in names]
    return Scene(tuple(objects), scene.light)


def duels(scene: Scene, question: SceneQuestion, samples: list[str], rng: random.Random) -> Iterator[dict]:
    """Up to two caption duels, two answer duels and one check from the samples for one question."""
    truth = [describe(item) for item in scene.objects]
    answers = [parse(text) for text in samples]
    pairs = list(combinations(answers, 2))
    rng.shuffle(pairs)
    given = {"captions": 0, "answers": 0}
    for pair in pairs:
        a, b = pair if rng.random() < 0.5 else pair[::-1]
        seen = described(a.stages["caption"]), described(b.stages["caption"])
        if seen[0] is None or seen[1] is None:
            continue
        verdict = caption_verdict(seen[0], seen[1], truth)
        if verdict is None:
            continue
        if given["captions"] < 2:
            given["captions"] += 1
            texts = [side.stages["caption"] or "" for side in (a, b)]
            yield line("duels", examples.duel("caption", question, {}, *texts, verdict, direct=False))
        right = [side.stages["conclusion"] == question.conclusion for side in (a, b)]
        whole = all(side.stages["conclusion"] is not None for side in (a, b))
        agrees = right[0] == right[1] or verdict[0] == (1 if right[0] else 2)
        if whole and agrees and given["answers"] < 2:
            given["answers"] += 1
            yield line("duels", examples.duel("answer", question, {}, a.text, b.text, verdict, direct=False))
    for answer in answers:
        yield from checks(scene, question, answer)


def checks(scene: Scene, question: SceneQuestion, answer: Answer) -> Iterator[dict]:
    names, said = described(answer.stages["caption"]), answer.stages["reasoning"]
    if not names or not said:
        return
    asked = examples.seen_answer(scene, seen_scene(names, scene).objects, question)
    if asked is not None:
        yield line("checks", examples.check_example(asked[0], asked[1], said))


def line(kind: str, example: examples.Example) -> dict:
    return {"kind": kind, "prompt": example.prompt, "reply": example.reply}


@torch.no_grad()
def sample(
    model: torch.nn.Module,
    rows: Rows,
    pool: Pool,
    indices: list[int],
    questions: list[SceneQuestion],
    whole: bool,
) -> list[list[str]]:
    """SAMPLES texts for each picture: whole answers, or up to the end of the caption."""
    encode = rows.tokenizer
    prompts = [
        [*rows.start, rows.image, *encode(question_text(question)).input_ids, rows.assistant]
        for question in questions
    ]
    longest = max(map(len, prompts))
    ids = torch.tensor([[rows.pad] * (longest - len(p)) + p for p in prompts])
    ends = [rows.end] if whole else [rows.end, encode.convert_tokens_to_ids(LLAVA_COT.stage("caption").close)]
    output = model.generate(
        input_ids=ids,
        attention_mask=(ids != rows.pad).long(),
        cross_attention_mask=(ids == rows.image).cumsum(1)[:, :, None, None],
        **pool.batch(indices),
        do_sample=True, temperature=TEMPERATURE, top_k=0, top_p=0.95, num_return_sequences=SAMPLES,
        max_new_tokens=220, pad_token_id=rows.pad, eos_token_id=ends,
    )  # fmt: skip
    texts = encode.batch_decode(output[:, longest:], skip_special_tokens=True)
    return [texts[i : i + SAMPLES] for i in range(0, len(texts), SAMPLES)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--captions", type=int, default=5000)
    parser.add_argument("--answers", type=int, default=1500)
    args = parser.parse_args()
    processor, pool = build_processor(), Pool(args.run)
    model = load_weights(build_model(processor), args.run / f"{args.name}.pt").eval()
    rows = Rows(processor.tokenizer)
    path = args.run / "duels.jsonl"
    done = sum(1 for text in path.open() if json.loads(text)["kind"] == "batch") if path.exists() else 0
    sizes = [False] * (args.captions // PICTURES) + [True] * (args.answers // PICTURES)
    random.Random(0).shuffle(sizes)
    with path.open("a") as out:
        for batch, whole in enumerate(sizes):
            if batch < done:
                continue
            rng = random.Random(f"duels/{batch}")
            torch.manual_seed(batch)
            indices = rng.sample(range(1000, len(pool)), PICTURES)
            scenes = [pool.scene(i) for i in indices]
            questions = [ask_about(scene, rng) for scene in scenes]
            texts = sample(model, rows, pool, indices, questions, whole)
            lines = [
                {**item, "picture": index}
                for index, scene, question, drawn in zip(indices, scenes, questions, texts, strict=True)
                for item in duels(scene, question, drawn, rng)
            ]
            out.writelines(json.dumps(item) + "\n" for item in [*lines, {"kind": "batch"}])
            out.flush()
            print(f"\r{batch + 1}/{len(sizes)} batches, {len(lines)} lines", end="", flush=True)
    print()


if __name__ == "__main__":
    main()
