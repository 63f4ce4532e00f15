"""What a judge that knew the scene would say of a model's texts about it, and why.

Owns reading a caption back, and the verdicts on captions, reasonings and whole answers. How
captions and reasonings are laid beside the truth is in `comparing.py`. Knows no prompt and no model.
"""

from __future__ import annotations

from llava_cot.core.stages import Answer
from llava_cot.scenes.comparing import align, caption_verdict, reasoning_verdict
from llava_cot.scenes.questions import SceneQuestion
from llava_cot.scenes.slips import seen_answer
from llava_cot.scenes.teacher import MENTION, ORDINALS, describe, described, steps
from llava_cot.scenes.world import Scene

AGREES = "it agrees with the reasoning"  # why a conclusion is the better one

# The better one of two, 1 or 2, and why; None where the truth does not tell.
Verdict = tuple[int, str] | None


def read_caption(caption: str | None) -> list[str] | None:
    """The objects of a caption, from left to right; None if it is not as the teacher would write it."""
    found = [" ".join(match.groups()[1:]) for match in MENTION.finditer(caption or "")]
    listed = ", ".join(f"{ORDINALS[i]} a {what}" for i, what in enumerate(found[: len(ORDINALS)]))
    return found if caption == f"There are {len(found)} objects. From left to right: {listed}." else None


def caption_error(scene: Scene, caption: str | None) -> float | None:
    """How far a caption is from the truth, in wrong words; None if it cannot be read."""
    seen = read_caption(caption)
    return None if seen is None else align(tuple(seen), _truth(scene))[0]


def which_caption(scene: Scene, a: str | None, b: str | None) -> Verdict:
    seen = read_caption(a), read_caption(b)
    if seen[0] is None or seen[1] is None:
        return None
    return caption_verdict(seen[0], seen[1], _truth(scene))


def which_reasoning(
    scene: Scene, question: SceneQuestion, caption: str | None, a: str | None, b: str | None
) -> Verdict:
    """Only after a caption without a fault: what follows from another is not what the image shows."""
    if a is None or b is None or caption_error(scene, caption) != 0:
        return None
    return reasoning_verdict(a, b, steps(scene, question))


def which_answer(scene: Scene, question: SceneQuestion, a: Answer, b: Answer) -> Verdict:
    """Of two complete answers: the one with the better caption, or of two true captions, the true reasoning.

    Never one that concludes wrongly where the other is right.
    """
    if a.stages["conclusion"] is None or b.stages["conclusion"] is None:
        return None
    captions = a.stages["caption"], b.stages["caption"]
    verdict = which_caption(scene, *captions)
    if verdict is None and captions[0] == captions[1]:
        verdict = which_reasoning(scene, question, captions[0], a.stages["reasoning"], b.stages["reasoning"])
    right = [side.stages["conclusion"] == question.conclusion for side in (a, b)]
    if verdict is None or (right[0] != right[1] and verdict[0] != (1 if right[0] else 2)):
        return None
    return verdict


def believed(
    scene: Scene, question: SceneQuestion, caption: str | None
) -> tuple[SceneQuestion, Scene] | None:
    """The question and scene as they are for someone who takes the caption to be true."""
    names = read_caption(caption)
    if not names:
        return None
    return seen_answer(scene, [described(name) for name in names], question)


def check_verdict(question: SceneQuestion, seen: Scene, said: str) -> tuple[bool, str]:
    """Whether a reasoning is true of what was seen, and the work of its steps, up to the first wrong one."""
    truth = steps(seen, question)
    sentences = [f"{sentence}." for sentence in said.rstrip(".").split(". ")]
    done: list[str] = []
    for place, (sentence, work) in enumerate(truth):
        done.append(f"{work[0].upper()}{work[1:]}.")
        if place >= len(sentences) or sentences[place] != sentence:
            break
    return said == " ".join(sentence for sentence, _ in truth), " ".join(done)


def _truth(scene: Scene) -> tuple[str, ...]:
    return tuple(describe(item) for item in scene.objects)
