import re
from html.parser import HTMLParser

import pytest
from matplotlib.figure import Figure

from tools.report import Report


class Reader(HTMLParser):
    """Text and links of a page; fails on tags that do not close."""

    VOID = frozenset({"meta", "img", "br"})

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.words: list[str] = []
        self.sources: list[str] = []
        self.srcdocs: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.sources += [value for name, value in attrs if name in ("src", "href", "srcset")]
        self.srcdocs += [value for name, value in attrs if name == "srcdoc"]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


@pytest.fixture
def page() -> str:
    figure = Figure(figsize=(4, 2))
    figure.subplots().plot([0, 1])
    report = Report("A <title>", "Summary & more", {"fact": "1 < 2"})
    report.section("Heading", "Text")
    report.figure(figure, "Name", "Caption <b>", width_px=300)
    report.table(["a", "b"], [["x", "1"], ["y", "<2>"]], note="a note", marked=1)
    report.settings({"key": "value & co"})
    return report.html("footer")


def test_a_page_is_well_formed_and_needs_nothing_but_itself(page):
    reader = Reader(page)
    assert not reader.open
    assert len(reader.sources) == 1
    assert reader.sources[0].startswith("data:image/png;base64,")
    assert not re.search(r"https?:|@import|url\(", page)


def test_words_are_shown_as_they_were_given(page):
    words = "".join(Reader(page).words)
    for given in ("A <title>", "Summary & more", "1 < 2", "Caption <b>", "<2>", "value & co"):
        assert given in words


def test_a_notebook_shows_the_page_in_a_frame_of_its_own():
    frame = Reader(Report("A <title>", "Summary", {"fact": "1 < 2"})._repr_html_())
    assert not frame.open
    (inner,) = frame.srcdocs
    assert "A <title>" in "".join(Reader(inner).words)


def test_pictures_are_embedded_at_twice_their_size(page):
    import base64
    import io

    from PIL import Image

    data = re.search(r"base64,([^\"]+)", page)
    assert data
    assert Image.open(io.BytesIO(base64.b64decode(data.group(1)))).width == pytest.approx(
        600, abs=2
    )
