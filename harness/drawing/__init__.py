"""How figures look: style and heat map."""
