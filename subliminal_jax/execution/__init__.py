"""Runs pure functions on one device, with pmap, or on a mesh; no other package names meshes.

`protocol` is the interface that other packages use; `choose` makes an execution from settings.
"""
