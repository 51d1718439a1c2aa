"""The two verbs: quote and execute."""
