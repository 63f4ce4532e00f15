"""Sources: public data sets, read in the layouts that their authors publish."""

from __future__ import annotations

from llava_cot.core.plugins import Registry
from llava_cot.data.sources.base import Source
from llava_cot.data.sources.photographs import AOKVQA, PISC, SHAREGPT4V
from llava_cot.data.sources.rendered import CHARTQA, CLEVR, CLEVR_MATH, DOCVQA
from llava_cot.data.sources.school import AI2D, GEOQA_PLUS, SCIENCEQA

# The paper's ten data sets, and those of other packages.
SOURCES: Registry[Source] = Registry("llava_cot.sources", "source")
for source in (
    SHAREGPT4V, CHARTQA, AOKVQA, AI2D, GEOQA_PLUS, SCIENCEQA, DOCVQA, PISC, CLEVR, CLEVR_MATH
):  # fmt: skip
    SOURCES.add(source.name, source)
