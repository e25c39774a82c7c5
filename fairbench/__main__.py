"""Let `python -m fairbench` do what `fairbench` does."""

from fairbench.cli.main import main

if __name__ == "__main__":
    main()
