"""The options of a model and of its training, as plain data. Imports no torch."""
