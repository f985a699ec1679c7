"""Several finished runs of different seeds, reported on as one."""
