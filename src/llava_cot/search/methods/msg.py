"""Multimodal structured generation (MSG, arXiv 2406.11403): constrained decoding of the stages.

A frozen model is held to a form whose fields come in the order of the reasoning, so that it reasons before it
answers. Nothing is searched: one sample.
"""

from __future__ import annotations

from dataclasses import replace

from llava_cot.core.question import question_text
from llava_cot.models.base import Prompt, constraints_of
from llava_cot.search.methods.base import method
from llava_cot.search.search import Search
from llava_cot.search.stage_constraints import stage_grammar, stage_schema, staged

# Most servers hold a model to a schema without showing it.
_AS_JSON = "Answer in JSON, with the fields {}, in this order."


@method("msg", single=True, constrained=True)
async def msg(search: Search) -> None:
    """Sample one whole answer that is constrained to every stage of the format, in order.

    A model that can follow a grammar writes the tags themselves, and gets the question as it is. One that can
    follow only a JSON schema gets a schema, and its reply is put into the tags, without its token ids. With
    options, the final stage is one of them or its letter.
    """
    model, fmt, question = search.model, search.fmt, search.question
    in_tags = "grammar" in constraints_of(model)
    constraint = (stage_grammar if in_tags else stage_schema)(fmt, question.options)
    sampling = replace(search.sampling(), constraint=constraint)
    search.start("answer")
    if in_tags:
        prompt = Prompt.of(question_text(question), question.images)
        [continuation] = await search.draw(prompt, 1, sampling, search.delta)
    else:
        fields = _AS_JSON.format(", ".join(fmt.names))
        prompt = Prompt.of(f"{question_text(question)}\n\n{fields}", question.images)
        [continuation] = await search.draw(prompt, 1, sampling)
        continuation = replace(continuation, text=staged(continuation.text, fmt), tokens=())
    search.keep(search.add(continuation))
