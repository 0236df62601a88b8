"""The audit of labels: which ones look wrong, and a fixed copy."""
