"""What limits the memory of a process."""

import sys

import psutil
import pytest

from training.memory import _of_control_groups, is_shortage, memory_limits


def group(folder, **files):
    """A control group: files by their names, two underlines for a dot."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name.replace("__", ".")).write_text(f"{content}\n")


def allowed(tmp_path, membership):
    """What the groups of a process allow and leave, the innermost first."""
    (tmp_path / "membership").write_text(membership)
    found = _of_control_groups(tmp_path / "membership", tmp_path / "groups")
    return [(limit.total, limit.free) for limit in found]


def test_a_group_limits_with_all_groups_around_it(tmp_path):
    root = tmp_path / "groups"
    group(root / "user/job", memory__max=1000, memory__current=700, memory__stat="inactive_file 50")
    group(root / "user", memory__max=900, memory__current=800, memory__stat="anon 1\nfile 2")
    group(root, memory__stat="anon 1")
    group(tmp_path, memory__max=1, memory__current=1, memory__stat="anon 1")
    assert allowed(tmp_path, "0::/user/job\n") == [(1000, 350), (900, 100)]


def test_a_group_without_a_limit_allows_all(tmp_path):
    group(
        tmp_path / "groups/job",
        memory__max="max",
        memory__current=7,
        memory__stat="inactive_file 5",
    )
    assert allowed(tmp_path, "0::/job\n") == []


def test_groups_of_the_first_version_stand_beside_those_of_the_second(tmp_path):
    group(
        tmp_path / "groups/memory/job",
        memory__limit_in_bytes=1000,
        memory__usage_in_bytes=1200,
        memory__stat="inactive_file 1\ntotal_inactive_file 300",
    )
    membership = "9:name=systemd:/\n4:cpu,memory:/job\n3:cpuset:/\n0::/\n"
    assert allowed(tmp_path, membership) == [(1000, 100)]


def test_a_container_sees_its_own_group_as_the_outermost_one(tmp_path):
    group(tmp_path / "groups", memory__max=10, memory__current=20, memory__stat="inactive_file 0")
    assert allowed(tmp_path, "0::/docker/0123\n") == [(10, 0)]


def test_without_groups_there_are_no_limits_of_theirs(tmp_path):
    assert not list(_of_control_groups(tmp_path / "none", tmp_path))


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limit")
def test_the_address_space_may_be_limited(mocker):
    import resource

    before = memory_limits()
    taken = psutil.Process().memory_info().vms
    mocker.patch("resource.getrlimit", return_value=(taken + 10**9, resource.RLIM_INFINITY))
    (limit,) = [each for each in memory_limits() if "ulimit" in each.where]
    assert limit.total == taken + 10**9
    assert limit.free == pytest.approx(10**9, rel=0.1)
    assert before[0].total == psutil.virtual_memory().total
    mocker.patch("resource.getrlimit", return_value=(10**6, resource.RLIM_INFINITY))
    assert min(each.free for each in memory_limits()) == 0


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("std::bad_alloc")])
def test_a_shortage_is_known_by_its_error(error):
    assert is_shortage(error)
    assert not is_shortage(ValueError("std::vector"))
