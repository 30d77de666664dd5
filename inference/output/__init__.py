"""What a model says → content, thinking and tool calls, while it is being said.

Pure text in, text out. Knows nothing of tokens, sockets, HTTP or llama.cpp.
"""
