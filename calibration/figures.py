"""The pictures of a calibration: matplotlib figures, made to be read at a glance."""
