"""Commands for accounts and keys."""
