"""Sources: adapters that read public data sets in the layouts that their authors publish."""

from __future__ import annotations

from llava_cot.data.sources.base import Source

SOURCES: dict[str, Source] = {}
