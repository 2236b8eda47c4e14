import json


def test_it_prints_writes_and_ends_well_on_a_good_bench(opu, tmp_path):
    ending = opu("doctor", "--preset=quiet", "--stability-s=0.1", "--json=d.json", "--html=d.html")
    assert ending.code == 0
    assert "fringe visibility" in ending.out
    content = json.loads((tmp_path / "d.json").read_text())
    assert {finding["verdict"] for finding in content["findings"]} == {"pass"}
    page = (tmp_path / "d.html").read_text()
    assert "speckle grain" in page
    assert "simulated, quiet" in page


def test_it_ends_with_1_and_advice_on_a_bad_bench(opu):
    ending = opu("doctor", "--preset=quiet", "--scene=leakage=0.4", "--stability-s=0.1")
    assert ending.code == 1
    assert "fail" in ending.out
    assert "mirrors" in " ".join(ending.out.split())


def test_wrong_numbers_are_refused(opu):
    assert opu("doctor", "--preset=quiet", "--stability-s=0").code == 2
    assert opu("doctor", "--preset=quiet", "--seed=-1").code == 2
