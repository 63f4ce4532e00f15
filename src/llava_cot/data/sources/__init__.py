"""Sources: adapters that read public data sets in the layouts that their authors publish."""

from __future__ import annotations

from llava_cot.data.sources.ai2d import AI2D
from llava_cot.data.sources.aokvqa import AOKVQA
from llava_cot.data.sources.base import Source
from llava_cot.data.sources.chartqa import CHARTQA
from llava_cot.data.sources.clevr import CLEVR, CLEVR_MATH
from llava_cot.data.sources.docvqa import DOCVQA
from llava_cot.data.sources.geoqa_plus import GEOQA_PLUS
from llava_cot.data.sources.pisc import PISC
from llava_cot.data.sources.scienceqa import SCIENCEQA
from llava_cot.data.sources.sharegpt4v import SHAREGPT4V

SOURCES: dict[str, Source] = {
    source.name: source
    for source in (
        SHAREGPT4V,
        CHARTQA,
        AOKVQA,
        AI2D,
        GEOQA_PLUS,
        SCIENCEQA,
        DOCVQA,
        PISC,
        CLEVR,
        CLEVR_MATH,
    )
}
