"""What a page shows or reads aloud, without what is written for machines."""

from html.parser import HTMLParser

UNSEEN = {"script", "style", "svg", "template"}
EMPTY = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}
SAID = ("aria-label", "alt", "title", "placeholder", "data-copied")


class _Reader(HTMLParser):
    def __init__(self):
        super().__init__()
        self.texts: list[str] = []
        self.open: list[tuple[str, bool]] = []  # (tag, whether what is in it is left out)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attributes}
        left_out = self._is_left_out or (
            tag in UNSEEN
            or "material-symbols-outlined" in given.get("class", "").split()  # an icon is named by a word
            or (given.get("lang") == "en" and tag != "html")  # marked as English
        )
        if not left_out:
            self.texts += [given[name] for name in SAID if given.get(name)]
            if tag == "input" and given.get("type") in ("submit", "button"):
                self.texts.append(given.get("value", ""))
        if tag not in EMPTY:
            self.open.append((tag, left_out))

    def handle_endtag(self, tag: str) -> None:
        if tag in (name for name, _left_out in self.open):
            while self.open.pop()[0] != tag:
                pass

    def handle_data(self, data: str) -> None:
        if not self._is_left_out and data.strip():
            self.texts.append(" ".join(data.split()))

    @property
    def _is_left_out(self) -> bool:
        return bool(self.open) and self.open[-1][1]


def visible_texts(html: str) -> list[str]:
    reader = _Reader()
    reader.feed(html)
    reader.close()
    return reader.texts
