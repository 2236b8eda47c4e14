"""What every modulator, camera, laser and bench must do, as tests that run on any of them.

    pytest --pyargs opu_driver.conformance --bench my_bench.toml --disturb 1

`--disturb` caps how far the devices may be disturbed: 0 reads only; 1, the default, shows patterns
and emits shortly, at a hundredth of the bench file's power or as much more as the proof of frames
takes; 2 uses the full range that the bench file allows; 3 causes faults, such as the death of the
process that owns the laser. Tests beyond the cap are skipped.

pytest comes with the extra `opu[conformance]`.

One device alone: `pytest --pyargs opu_driver.conformance.test_camera --bench my_bench.toml`.
"""
