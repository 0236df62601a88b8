"""The audit of labels: which ones look wrong, their review by a person, and a corrected copy of the data."""
