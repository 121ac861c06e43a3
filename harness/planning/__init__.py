"""What a benchmark file says, laid out: from names to a graph of stages and scorings."""
