"""Drawing boxes: what people answer, image by image."""
