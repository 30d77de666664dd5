"""Long work that outlives its request: rows that say what is to do, a worker that does it.

`submit` makes a row or finds the one that does the same, `run` is what the worker calls, `watch`
follows a row for whoever waits, `kinds` says which function does what. Knows no HTTP.
"""
