"""Chats: what their texts become, and the answers that run."""
