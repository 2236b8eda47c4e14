from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

from training.whereabouts import Whereabouts, ranks_gone


def test_a_process_that_has_ended_is_gone_and_one_elsewhere_may_not_be() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    own = Whereabouts.own()
    other = replace(own, pid=child.pid)
    elsewhere = replace(other, machine="elsewhere")
    try:
        assert not other.gone()
    finally:
        child.kill()
    assert ranks_gone([own, elsewhere, other]) == [2]
    child.communicate()
    assert ranks_gone([own, elsewhere, other]) == [2]
    assert not elsewhere.gone()


def test_where_nobody_is_known_to_be_gone_nobody_is_named() -> None:
    assert ranks_gone([Whereabouts.own()]) == []
