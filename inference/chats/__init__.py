"""Chats that are kept: what is asked in them, and the answers that run."""
