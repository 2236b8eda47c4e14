"""What decides the light through which a network is trained, as the record of a run tells it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tools.json_file import plain

if TYPE_CHECKING:
    from opu_driver import Bench


def light_conditions(
    bench: Bench,
    scene: Mapping[str, Any] | None,
    *,
    drift_tracking: bool,
    min_fidelity: float,
    recalibrate: bool,
) -> dict[str, Any]:
    """The conditions of optical runs, as JSON values.

    Devices are told by who they are, not by where they are plugged in: after a restart a laser may
    be at another port, and is the same.

    Args:
        bench: An open bench, set as its file says.
        scene: The optics of a simulated one, as a bench file tells them.
        drift_tracking: Whether the interferometer's phase is followed.
        min_fidelity: Below it the medium counts as another one.
        recalibrate: Whether it is calibrated anew then.
    """
    settings = plain(bench.settings)
    del settings["exposure_us"]  # a calibration's, which its fingerprint tells, takes its place
    told: dict[str, Any] = plain(
        {
            "bench": {
                **{kind: str(identity) for kind, identity in bench.identities.items()},
                "modulator_shape": bench.modulator.shape,
                "power_mw": bench.power_mw,
                **settings,
                **({} if scene is None else {"scene": scene}),
            },
            "drift_tracking": drift_tracking,
            "min_fidelity": min_fidelity,
            "recalibrate": recalibrate,
        }
    )
    return told
