"""Measurements of the whole stack. `python -m bench --help` lists them.

Nothing of the site imports this package; it starts the site like anyone would and talks HTTP to it.
"""
