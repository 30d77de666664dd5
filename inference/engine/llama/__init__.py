"""llama.cpp through llama-cpp-python's low-level functions. The only package that imports it.

Knows no sockets, requests or templates. Not thread-safe except where `engine.model` says so: one
runner process, one computing thread.
"""
