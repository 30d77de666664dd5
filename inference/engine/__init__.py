"""The inference process; imports nothing of the web."""
