"""Serve a model over HTTP: limits, dynamic batching, a page for people and two protocols for programs. No torch."""
