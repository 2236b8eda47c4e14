import json

import pytest


@pytest.fixture
def calibrations(opu, tmp_path, realistic_calibration):
    from dataclasses import replace

    realistic_calibration.save(tmp_path / "a.h5")
    later = replace(realistic_calibration, T=2j * realistic_calibration.T, power_mw=3.0)
    later.save(tmp_path / "b.h5")
    return tmp_path


def test_two_calibrations_are_compared(opu, calibrations):
    ending = opu("compare", "a.h5", "b.h5", "--json=c.json", "--html=c.html")
    assert ending.code == 0, ending.err
    assert "Fidelity of the two matrices: 1.0000" in ending.out
    assert "The laser power is 3 mW" in ending.out
    figures = json.loads((calibrations / "c.json").read_text())
    assert figures["gain"] == pytest.approx(2.0, rel=1e-4)
    assert figures["phase_rad"] == pytest.approx(1.5708, abs=1e-3)
    page = (calibrations / "c.html").read_text()
    assert page.count("data:image/png;base64,") == 2
    assert "times as strong" in page


def test_a_calibration_beside_itself_has_not_changed(opu, calibrations):
    ending = opu("compare", "a.h5", "a.h5")
    assert ending.code == 0
    assert "Nothing else has changed" in ending.out


@pytest.mark.parametrize(
    ("files", "told"),
    [
        (["a.h5", "gone.h5"], "gone.h5 does not exist"),
        (["runs", "gone"], "gone does not exist"),
        (["gone.h5", "runs"], "gone.h5 does not exist"),
        (["runs", "b.h5"], "runs is a folder, as training runs are, and b.h5 a file"),
        (["a.h5", "runs"], "runs is a folder, as training runs are, and a.h5 a file"),
        (["a.h5", "text.h5"], "text.h5 is no calibration"),
        (["a.h5", "b.h5", "--html=nowhere/c.html"], "no folder"),
    ],
)
def test_what_cannot_be_compared_is_refused(opu, calibrations, files, told):
    (calibrations / "text.h5").write_text("not a calibration")
    (calibrations / "runs").mkdir()
    ending = opu("compare", *files)
    assert ending.code == 2
    assert told in ending.err
    assert "Traceback" not in ending.err
