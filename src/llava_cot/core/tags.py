"""Pairing up the tags in a text into spans, in linear time. `stages.parse` documents the rules.

Tags are known by their index in a list of (opening, closing) pairs.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache

Pairs = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Tag:
    """A tag found in a text. `stage` is the index of its pair, `exact` whether its case is right."""

    stage: int
    opens: bool
    start: int
    end: int
    exact: bool


@dataclass(frozen=True)
class Span:
    """A stretch of text that belongs to one stage; `inner` is the part between its tags.

    `children` are the complete spans inside it.
    """

    stage: int
    start: int
    inner: tuple[int, int]
    end: int
    opened: bool
    closed: bool
    children: tuple[Span, ...] = ()


@lru_cache(maxsize=64)
def _pattern(pairs: Pairs) -> re.Pattern[str]:
    tags = [tag for pair in pairs for tag in pair]
    # What they all begin with is looked for first, which is ten times as fast as to try each at every place.
    start = tags[0][0] if len({tag[0] for tag in tags}) == 1 else ""
    ends = "|".join(f"({re.escape(tag[len(start) :])})" for tag in tags)
    return re.compile(f"{re.escape(start)}(?:{ends})", re.IGNORECASE)


def find_tags(text: str, pairs: Pairs) -> list[Tag]:
    """All tags in the text, in order, in whatever case."""
    tags = []
    for match in _pattern(pairs).finditer(text):
        group = (match.lastindex or 1) - 1
        stage, side = divmod(group, 2)
        tags.append(Tag(stage, side == 0, match.start(), match.end(), match.group() == pairs[stage][side]))
    return tags


def find_spans(text: str, pairs: Pairs, tags: list[Tag]) -> list[Span]:
    """The spans of a text that are in no other span, in order of their start."""
    page = _Page(text, pairs, tags)
    spans = page.scan(0, len(tags))
    return sorted([*spans, *page.unopened(spans)], key=lambda span: span.start)


def choose(text: str, spans: list[Span]) -> dict[int, Span]:
    """The span that stands for each stage.

    One with text before an empty one; then a complete one, one left open, one inside another span and
    one without an opening tag, in that order; and of equals the last.
    """

    def rank(found: tuple[Span, bool]) -> tuple[bool, int, int]:
        span, inside = found
        standing = 0 if not span.opened else 1 if inside else 3 if span.closed else 2
        return bool(text[slice(*span.inner)].strip()), standing, span.start

    return {span.stage: span for span, _ in sorted(_walk(spans), key=rank)}


def inner_text(text: str, span: Span, chosen: dict[int, Span]) -> str:
    """A span's text without the chosen spans inside it, and without white space at its ends."""
    start, end = span.inner
    parts = []
    for child in sorted(chosen.values(), key=lambda child: child.start):
        if start <= child.start and child.end <= end and child is not span:
            parts.append(text[start : child.start].strip())
            start = child.end
    parts.append(text[start:end].strip())
    return " ".join(part for part in parts if part)


def _walk(spans: list[Span]) -> Iterator[tuple[Span, bool]]:
    """All spans, and whether each is inside another."""
    todo = [(span, False) for span in spans]
    while todo:
        span, inside = todo.pop()
        yield span, inside
        todo.extend((child, True) for child in span.children)


@dataclass(frozen=True)
class _Page:
    text: str
    pairs: Pairs
    tags: list[Tag]

    @cached_property
    def places(self) -> dict[tuple[int, bool], list[int]]:
        """Of each stage's opening (True) and closing tag, the indices in `tags`."""
        places: dict[tuple[int, bool], list[int]] = {
            (stage, opens): [] for stage in range(len(self.pairs)) for opens in (True, False)
        }
        for i, tag in enumerate(self.tags):
            places[tag.stage, tag.opens].append(i)
        return places

    def next(self, stage: int, opens: bool, after: int, before: int) -> int | None:
        """The first such tag with `after` < index < `before`."""
        places = self.places[stage, opens]
        k = bisect_right(places, after)
        return places[k] if k < len(places) and places[k] < before else None

    def scan(self, low: int, high: int) -> list[Span]:
        """The outermost spans among the tags `low` to `high`."""
        spans = []
        i = low
        while i < high:
            if not self.tags[i].opens:
                i += 1
                continue
            span, i = self.read(i, high)
            if span is not None:
                spans.append(span)
        return spans

    def read(self, first: int, high: int) -> tuple[Span | None, int]:
        """The span that tag `first` opens, or None if it opens none; and the tag to go on from."""
        stage = self.tags[first].stage
        only_mentioned = not self.starts_line(first)
        j = first + 1
        while j < high:
            tag = self.tags[j]
            if tag.stage == stage:
                if not tag.opens:
                    return self.closed(first, j), j + 1
                if only_mentioned:
                    return None, first + 1  # the stage itself opens at `j` or later
                j += 1
            elif not tag.opens:
                j += 1
            else:
                after = self.after_other(stage, j, high)
                if after is None:
                    if only_mentioned and self.next(stage, True, j, high) is not None:
                        return None, first + 1
                    return self.left_open(first, j), j
                j = after
        return self.left_open(first, high), high

    def after_other(self, stage: int, j: int, high: int) -> int | None:
        """Where to go on in an open stage after tag `j`, which opens another stage.

        None if the open stage ends there: it has no closing tag, or begins anew before that, or the
        other stage closes beyond it.
        """
        other = self.tags[j].stage
        close = self.next(stage, False, j, high)
        other_close = self.next(other, False, j, high)
        if close is None:
            return None
        if other_close is not None and other_close < close:
            return None if self.next(stage, True, other_close, close) is not None else other_close + 1
        if other_close is not None and self.next(other, True, close, other_close) is None:
            return None
        return j + 1

    def starts_line(self, i: int) -> bool:
        """Whether tag `i` begins a line or follows another tag, as the tags of real stages do."""
        before = self.text[self.tags[i - 1].end if i else 0 : self.tags[i].start].rstrip(" \t")
        return not before or before.endswith("\n")

    def closed(self, first: int, last: int) -> Span:
        opening, closing = self.tags[first], self.tags[last]
        inside = [span for span in self.scan(first + 1, last) if span.closed] if last > first + 2 else []
        inner = (opening.end, closing.start)
        return Span(opening.stage, opening.start, inner, closing.end, True, True, tuple(inside))

    def left_open(self, first: int, after: int) -> Span:
        opening = self.tags[first]
        end = inner_end = self.tags[after].start if after < len(self.tags) else len(self.text)
        if end == len(self.text):
            inner_end = self.without_cut_tag(opening.end, self.pairs[opening.stage][1])
        return Span(opening.stage, opening.start, (opening.end, inner_end), end, True, False)

    def without_cut_tag(self, start: int, close: str) -> int:
        """The end of the text from `start` on, less two or more characters that begin `close`."""
        end = len(self.text)
        if close[0].isalnum():
            return end  # the end of any word might look like its beginning
        for size in range(min(len(close) - 1, end - start), 1, -1):
            if self.text[end - size :].casefold() == close[:size].casefold():
                return end - size
        return end

    def unopened(self, spans: list[Span]) -> list[Span]:
        """For a closing tag of a stage found nowhere else: the text since the span before it."""
        found = {span.stage for span, _ in _walk(spans)}
        added: list[Span] = []
        k = last = 0
        for tag in self.tags:
            while k < len(spans) and spans[k].start <= tag.start:
                last = max(last, spans[k].end)
                k += 1
            if not tag.opens and tag.stage not in found and tag.start >= last:
                added.append(Span(tag.stage, last, (last, tag.start), tag.end, False, True))
                found.add(tag.stage)
                last = tag.end
        return added
