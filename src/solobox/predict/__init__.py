"""Using a localizer: which images to read, and where the boxes go. Imports no torch."""
