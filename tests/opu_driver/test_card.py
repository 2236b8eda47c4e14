"""How benches and recordings show themselves in a notebook."""

from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from opu_driver import simulated_bench
from opu_driver.card import card, picture
from opu_driver.recording import Recording, record


class Words(HTMLParser):
    """The text of a page, and that its tags are closed."""

    def __init__(self, page):
        super().__init__()
        self.words, self._open = [], []
        self.feed(page)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        if tag != "img":
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


@given(
    st.text(st.characters(exclude_categories=["C"]), min_size=1),
    st.text(st.characters(exclude_categories=["C"]), min_size=1),
)
def test_what_is_said_is_shown_and_nothing_else_happens(name, value):
    words = Words(card(name, {name: value})).words
    assert "".join(words) == name + name + value


def test_empty_facts_are_left_out():
    assert "nothing" not in card("a", {"nothing": "", "something": "1"})


@pytest.mark.parametrize("shape", [(4, 4), (700, 90), (1024, 1088), (1, 1)])
def test_pictures_are_small_whatever_the_frame(shape):
    from io import BytesIO

    from PIL import Image

    image = Image.open(BytesIO(picture(np.arange(np.prod(shape)).reshape(shape))))
    assert max(image.size) <= 320
    assert image.getextrema() == ((0, 255) if image.size != (1, 1) else (0, 0))


def test_a_bench_tells_of_itself_without_touching_the_light():
    bench = simulated_bench("quiet", 0)
    assert "closed" in Words(bench._repr_html_()).words
    with bench:
        words = Words(bench._repr_html_()).words
        assert "open" in words
        assert any("at most 10 mW" in word for word in words)
        assert not bench.laser.status.emitting
        assert bench.exposures == 0


def test_a_recording_shows_its_first_frame(tmp_path):
    with simulated_bench("quiet", 0) as bench:
        record(bench, bench.layout(4).all_on(), 2, tmp_path / "a.h5", subject="<on>")
    with Recording(tmp_path / "a.h5") as recording:
        page = recording._repr_html_()
        words = Words(page).words
    assert "<on>" in words
    assert "complete" in words
    assert page.count("data:image/png;base64,") == 1
    assert "closed" in Words(recording._repr_html_()).words
