"""A model behind HTTP: limits, micro-batches, a page for people and two protocols for programs. Imports no torch."""
