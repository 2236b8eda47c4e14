"""Modules in, trained modules out: direct feedback alignment through any projector.

A projector is anything that multiplies codes by one fixed random matrix: light on a bench, or one
of the digital ones in `training.projector`. Nothing here knows which.
"""
