"""The simulated bench: a modulator, a camera and a laser that meet in one optical scene.

The bench code cannot tell them from hardware. Physics and approximations stand where they are
computed: the medium in `medium.py`, what drifts in `drift.py`, the camera's pixels in `kernels.py`.
"""
