"""How pure functions are run: on one device, on many, on many hosts. Nothing else names devices.

`members` runs many members side by side, `steps` one training whose batch and state are spread.
"""
