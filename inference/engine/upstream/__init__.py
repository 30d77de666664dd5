"""Requests → an OpenAI-compatible engine elsewhere, and its answers → events.

`bodies` and `options` write what is asked, `events` and `chunks` read what is answered, `asking`
speaks HTTP. Knows no scheduling, no llama.cpp and no Django.
"""
