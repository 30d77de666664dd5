"""Makes `python -m ollamasite` the console script; `serve` starts its children this way."""

from ollamasite.cli import main

if __name__ == "__main__":
    main()
