"""Command of the inference process."""
