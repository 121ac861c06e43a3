"""What datasets are made of: files and formats read, rows doubted, datasets loaded by name."""
