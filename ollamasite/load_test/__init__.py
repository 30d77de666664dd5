"""The built-in load test: users who ask a running site over HTTP, and what they had of it.

What `ollamasite bench` calls. Knows a site by its address alone, and nothing of how it works.
"""
