"""From results to cells, tables, figures and comparisons; results of others as data."""
