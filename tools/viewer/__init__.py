"""The live window of `opu view`: what a camera sees, and the bench at hand.

`live` exposes in a thread of its own, `playback` reads a recording; both offer the newest glimpse.
The window draws it at its own rate and never holds either up. `analysis` measures it at its pace.
Only the modules that draw import Qt.
"""
