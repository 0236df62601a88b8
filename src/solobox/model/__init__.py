"""The model: a backbone gives feature maps, a vectorizer condenses them, a head says where the box is."""
