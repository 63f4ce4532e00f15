"""What an HTML page has, and a text that would do harm in one that does not escape it."""

from __future__ import annotations

from html.parser import HTMLParser

HOSTILE = (
    "<script>alert(1)</script><img src=http://x.example/p onerror=alert(1)></style>{{ 7*7 }}\"'\u202e\ud800\0"
)


class Elements(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def count(self, name: str) -> int:
        return sum(name in (attrs.get("class") or "").split() for _, attrs in self.found)
