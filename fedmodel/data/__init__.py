"""Records of a federation: read, divided among clients, split, encoded and laid out."""
