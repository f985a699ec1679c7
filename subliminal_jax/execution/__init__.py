"""How pure functions are run: on one device, with pmap, or on a mesh. Nothing else names devices.

`protocol` is what the rest of the code sees; `choose` makes the execution that a config asks for.
"""
