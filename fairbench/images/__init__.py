"""Image files, the rows that say which image is which, and where images that are there already come from."""
