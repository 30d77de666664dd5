"""From a prompt to tokens: dialects, generation, engine."""
