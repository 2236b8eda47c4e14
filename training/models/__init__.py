"""The networks of the experiments, as named blocks that taps can find."""
