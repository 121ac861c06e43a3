"""What is built on the core: each imports the core, never another of these."""
