"""Annotation formats: one module each, with the same two verbs, `read` and `write`."""
