"""Chat prompts → text: Go templates, Jinja templates and what Ollama puts into them.

Pure text in, text out. Knows nothing of Django, HTTP, sockets or llama.cpp; runs in the runner.
"""
