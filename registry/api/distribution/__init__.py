"""The registry's dialect below /v2 (contract/registry.md 2), its files aside."""
