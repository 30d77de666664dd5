"""Pages about accounts: keys, usage, teams, oneself. One module for each."""
