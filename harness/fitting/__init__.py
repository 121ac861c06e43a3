"""The one training loop, and what puts stages together and carries a plan out."""
