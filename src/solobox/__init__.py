"""Solobox finds the one thing that matters in each picture."""
