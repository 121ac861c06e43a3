"""From predicted rows to scores, and from scores of runs to statistics."""
