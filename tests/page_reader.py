"""A page of HTML taken apart by the standard library: its elements, its text, what it would fetch or run."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser

VOID = {"meta", "link", "img", "br", "hr", "input"}
SVG_LEAVES = {"path", "rect", "circle", "polyline"}


@dataclass
class Element:
    """An element with everything below it."""

    tag: str
    attributes: dict[str, str]
    children: list[Element] = field(default_factory=list)
    pieces: list[str] = field(default_factory=list)

    def find(self, tag: str, **wanted: str) -> list[Element]:
        """Return the elements below of a tag whose attributes have these values, class by word."""
        found = []
        for child in self.children:
            words = {name: child.attributes.get(name.rstrip("_"), "") for name in wanted}
            fits = all(wanted[n] in words[n].split() if n == "class_" else words[n] == wanted[n] for n in wanted)
            if child.tag == tag and fits:
                found.append(child)
            found += child.find(tag, **wanted)
        return found

    @property
    def text(self) -> str:
        """All text below, spaces made one."""
        return " ".join(" ".join(self._texts()).split())

    def _texts(self) -> list[str]:
        return [*self.pieces, *(text for child in self.children for text in child._texts())]

    def all(self) -> list[Element]:
        """Return every element below."""
        return [one for child in self.children for one in (child, *child.all())]


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.root = Element("root", {})
        self.open = [self.root]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), f"an attribute twice in <{tag}>"
        element = Element(tag, {name: value or "" for name, value in attrs})
        self.open[-1].children.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in SVG_LEAVES, f"<{tag}/> does not close itself in HTML"
        self.open[-1].children.append(Element(tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open[-1].tag == tag, f"</{tag}> closes <{self.open[-1].tag}>"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        self.open[-1].pieces.append(data)


def read_page(text: str) -> Element:
    """Return the page; an element that is not closed, or closed in another's place, fails."""
    reader = _Reader()
    reader.feed(text)
    reader.close()
    assert [one.tag for one in reader.open] == ["root"], "everything is closed"
    return reader.root


def section(page: Element, name: str) -> Element:
    """Return a section by the id of its heading."""
    (found,) = page.find("section", **{"aria-labelledby": name})
    return found
