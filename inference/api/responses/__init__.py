"""OpenAI's `/v1/responses`: answers that are kept."""
