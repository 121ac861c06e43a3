"""The one training loop, and the executor of a plan."""
