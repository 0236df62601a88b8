"""From images to boxes in a file: inputs, predictors, the job, writers, clips. Imports no torch."""
