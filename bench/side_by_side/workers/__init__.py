"""What runs in a system's own environment; nothing here may import more than that environment has."""
