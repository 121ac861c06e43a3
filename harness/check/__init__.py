"""What may be doubted, looked up again: stored results, and datasets."""
