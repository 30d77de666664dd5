"""Accounts, keys, and who may use which model."""
