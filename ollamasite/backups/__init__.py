"""Backup and restore of the whole site. Knows nothing of what the tables and files mean."""
