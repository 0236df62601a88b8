"""Using a localizer: which pictures to read, and where the boxes go. Imports no torch."""
