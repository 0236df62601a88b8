"""Images: reading any file or bytes, and drawing boxes on them."""
