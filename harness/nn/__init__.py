"""Collapsed graphs, encodings that are kept, stacks of members, weights of others."""
