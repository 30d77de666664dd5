"""Jinja for templates that nobody vouches for: jinja2's sandbox with budgets.

jinja2's own sandbox stops code from escaping but neither endless work nor endless memory. Here
every loop, call, filter and text costs, and every container stays small. Knows nothing of chats.
"""

from inference.prompting.sandbox.environment import render

__all__ = ["render"]
