"""Frames in, a calibrated linear map out.

`carrier` finds the fringes, `demodulation` turns frames into fields, `transmission_matrix` makes
a matrix of them, `quality` says how good it is, and `pipeline.calibrate` does it all on a bench.
"""
