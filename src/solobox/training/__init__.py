"""Training: from labelled pictures to a saved localizer."""
