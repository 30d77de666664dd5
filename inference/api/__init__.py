"""The HTTP dialects of generation: Ollama's and OpenAI's."""
