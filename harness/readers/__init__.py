"""Files with structures and tables of κ, read without running anything in them."""
