"""Wiring of the site and its HTTP edge; no features."""
