"""Evaluation: metrics, bootstrap intervals, comparison of runs, the HTML report, and the audit of labels."""
