#!/usr/bin/env python
"""The console script `ollamasite`, for a tree that is not installed."""

from ollamasite.cli import main

if __name__ == "__main__":
    main()
