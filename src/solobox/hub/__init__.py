"""Models to and from the Hugging Face Hub; `download` needs no torch."""
