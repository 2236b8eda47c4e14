from contextlib import contextmanager

from tools import recording_bar


def test_lost_frames_are_told_while_they_are_lost(tmp_path, monkeypatch):
    class Bars:
        def add_task(self, name, total):
            return 0

        def update(self, task, **now):
            told.append(now)

    @contextmanager
    def bars():
        yield Bars()

    told = []
    now_s = iter([10.0, 11.0, 12.0, 20.0])
    monkeypatch.setattr(recording_bar, "progress_bars", bars)
    monkeypatch.setattr(recording_bar.time, "monotonic", lambda: next(now_s))
    with recording_bar.recording_bar(tmp_path) as tell:
        for now in ((10, 100, 0), (110, 1000, 0), (110, 1000, 5), (910, 0, 5)):
            tell(*now)
    words = [now["description"].split(", ") for now in told]
    assert words[0][0] == "recording: 0 lost"
    assert words[1][:2] == ["recording: 100 frames/s", "0 lost"]
    assert words[2][:2] == ["recording: 50 frames/s", "5 lost"]
    assert words[3][:2] == ["recording: 100 frames/s", "5 lost"]  # not the mean of hours
    assert all(word[-1].endswith("GB free") for word in words)
    assert [now["total"] for now in told] == [100, 1000, 1000, None]
