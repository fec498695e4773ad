"""Read and check a checkpoint's files."""
