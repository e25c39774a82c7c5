"""The proof of the numbers: models and judges that are known exactly, through every estimate and test.

`fairbench validate` runs it; results/validity/ keeps what it found.
"""
