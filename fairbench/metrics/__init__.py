"""Every number that is printed: bias, its noise floor and intervals, similarity, image quality."""
