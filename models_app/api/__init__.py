"""The JSON views about accounts, teams, keys, limits, usage and records."""
