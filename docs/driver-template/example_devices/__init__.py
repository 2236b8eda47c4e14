"""Drivers of a modulator, a camera and a laser: a template to start from."""
