"""Faults under load: what is killed, stopped, filled or cut, and what must hold all the same."""
