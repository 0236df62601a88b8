"""How good the boxes are: the metrics, and the report a person reads."""
