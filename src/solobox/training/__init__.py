"""Training: from labelled images to a saved localizer."""
