"""The stages requested by a prompt alone: the baseline of fine-tuning on them.

The comparison of arXiv 2411.10440, version 6, table 7, in our own wording.
"""

from __future__ import annotations

from llava_cot.core.question import Question, question_text
from llava_cot.core.stages import StageFormat
from llava_cot.models.base import Prompt
from llava_cot.search.methods.base import method
from llava_cot.search.restaging import answer_form
from llava_cot.search.search import Search

# What the paper's stages are for (section 3.1). Any other is described by its name and place.
_PURPOSES = {
    "summary": "how you will approach the question; nothing of the answer yet",
    "caption": "what the picture shows that matters to the question",
    "reasoning": "step by step, from what was said before, what leads to the answer",
}


@method("staged-prompt", single=True)
async def staged_prompt(search: Search) -> None:
    """Explain the stages in the prompt, and sample one answer, streamed."""
    question = search.question
    search.start("answer")
    text = f"{instruction(question, search.fmt)}\n\nQuestion:\n{question_text(question)}"
    reply = await search.reply(Prompt.of(text, question.images), stream=True)
    search.keep(search.add(reply))


def instruction(question: Question, fmt: StageFormat) -> str:
    """The instruction that explains the stages of the format, in their order."""
    parts = (f"{s.open} {_purpose(i, question, fmt)} {s.close}" for i, s in enumerate(fmt.stages))
    return "\n".join(
        (
            "Answer the question at the end in these parts, in this order. Write each between its tags, as "
            "they stand here, and nothing outside of them. What belongs between the tags is said there.",
            *parts,
        )
    )


def _purpose(i: int, question: Question, fmt: StageFormat) -> str:
    name = fmt.names[i]
    if name == fmt.final:
        return (
            answer_form(question)
            if name == "conclusion"
            else f'the part called "{name}": {answer_form(question)}'
        )
    place = f'follows the part called "{fmt.names[i - 1]}"' if i else "comes first"
    return _PURPOSES.get(name) or f'the part called "{name}", which {place}'
