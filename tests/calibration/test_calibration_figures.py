import io

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.patches import Circle

from calibration import figures
from calibration.carrier import Carrier
from calibration.demodulation import Demodulator
from calibration.quality import Quality, normalised_singular_values

CARRIER = Carrier(0.27, 0.25, 1e-4, 1e-4, 0.12, 2e-4)


def rendered(figure: Figure) -> np.ndarray:
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=40)
    stream.seek(0)
    return mpl.image.imread(stream)


def all_text(figure: Figure) -> str:
    figure.draw_without_rendering()
    return "\n".join(text.get_text() for text in figure.findobj(mpl.text.Text))


@pytest.fixture
def frames(holograms):
    rng = np.random.default_rng(0)
    return holograms(rng, (64, 96), count=2).grey(rng)


def test_frame(frames):
    figure = figures.frame_figure(frames[0], CARRIER, saturation_level=255)
    assert rendered(figure).std() > 0.05
    text = all_text(figure)
    assert "64 × 96 pixels" in text
    assert f"{1 / CARRIER.modulus:.2f} px" in text
    assert "full: 255" in text


def test_spectrum_circles_lie_on_the_light(frames):
    figure = figures.spectrum_figure(frames, CARRIER)
    assert rendered(figure).std() > 0.05
    circles = {
        (tuple(patch.center), patch.radius) for patch in figure.findobj(Circle) if patch.radius
    }
    expected = {((0.25, 0.27), 0.12), ((-0.25, -0.27), 0.12), ((0.0, 0.0), 0.24)}
    assert circles == expected
    image = figure.axes[0].images[0]
    left, right, bottom, top = image.get_extent()
    level = np.asarray(image.get_array())
    row = int((0.27 - top) / (bottom - top) * level.shape[0])
    column = int((0.25 - left) / (right - left) * level.shape[1])
    around = level[row - 3 : row + 4, column - 3 : column + 4].mean()
    assert around > level[row - 3 : row + 4, ::-1][:, column - 3 : column + 4].mean() + 10


def test_singular_values(frames):
    rng = np.random.default_rng(1)
    T = rng.standard_normal((300, 64)) + 1j * rng.standard_normal((300, 64))
    quality = Quality(
        held_out_correlation=0.9991,
        held_out_error=0.04,
        split_half=0.9984,
        linearity=0.03,
        snr=312.0,
        singular_values=normalised_singular_values(T),
        effective_modes=300.0,
        visibility=0.7,
        saturated_fraction=0.0,
    )
    figure = figures.singular_values_figure(quality)
    assert rendered(figure).std() > 0.05
    text = all_text(figure)
    assert "64 inputs, 300 modes" in text
    assert "0.9991" in text  # never alone
    assert "0.9984" in text


@pytest.mark.parametrize("kind", [float, complex])
def test_projections(kind):
    rng = np.random.default_rng(2)
    predicted = rng.standard_normal((50, 40)).astype(kind)
    figure = figures.projections_figure(1.1 * predicted, predicted)
    assert rendered(figure).std() > 0.05
    text = all_text(figure)
    assert "correlation 1.0000" in text
    assert "relative error 10.0%" in text


def test_field(frames):
    field = Demodulator((64, 96), CARRIER)(frames)[0]
    figure = figures.field_figure(field, CARRIER, 4)
    assert rendered(figure).std() > 0.05
    shown = np.asarray(figure.axes[0].images[0].get_array())
    times = shown.shape[0] // field.shape[0]
    assert np.allclose(shown[::times, ::times], np.abs(field), atol=1e-4)


@pytest.mark.parametrize("count", [0, 1, 30, 500])
def test_drift(count):
    rng = np.random.default_rng(3)
    phases = np.cumsum(rng.normal(0, 0.02, count))
    quality = Quality(
        held_out_correlation=1.0,
        held_out_error=0.0,
        split_half=1.0,
        linearity=0.0,
        snr=1.0,
        singular_values=np.ones(1, np.float32),
        effective_modes=300.0,
        visibility=0.7,
        saturated_fraction=0.0,
        gains=np.exp(1j * phases).astype(np.complex64),
        fidelities=np.linspace(1, 0.97, count // 10).astype(np.float32),
    )
    figure = figures.drift_figure(quality)
    assert rendered(figure).std() > 0.02
    text = all_text(figure)
    if count == 500:
        assert "steps of 0.02 rad rms" in text
        low, high = figure.axes[2].get_ylim()
        assert low < 0.97 < 1 < high


def test_exposure():
    grey = np.random.default_rng(4).integers(5, 200, (3, 40, 40)).astype(np.uint8)
    grey[0, 0, :6] = 255
    figure = figures.exposure_figure(grey, black_level=5, saturation_level=255)
    assert rendered(figure).std() > 0.02
    text = all_text(figure)
    assert f"mean, {(grey.mean() - 5) / 250:.0%} of full scale" in text
    assert "full: 0.0013 of the pixels" in text


def test_the_grain_is_that_of_the_disc(holograms):
    made = holograms(np.random.default_rng(5), (128, 128), count=8, waist=50.0)
    carrier = Carrier(0.27, 0.25, 1e-4, 1e-4, 0.12, 2e-4)
    figure = figures.grain_figure(made.field[:, ::4, ::4].astype(np.complex64), carrier, 4)
    assert rendered(figure).std() > 0.02
    axes = figure.axes[0]
    *measured, theory = [line for line in axes.lines if len(line.get_xdata()) > 2]
    for line in measured:
        apart, coherence = line.get_xdata(), line.get_ydata()
        within = apart < 8
        expected = np.interp(apart[within], theory.get_xdata(), theory.get_ydata())
        assert np.abs(coherence[within] - expected).max() < 0.1


def test_settings_of_others_stay(frames):
    before = dict(mpl.rcParams)
    figures.frame_figure(frames[0], CARRIER)
    assert dict(mpl.rcParams) == before
