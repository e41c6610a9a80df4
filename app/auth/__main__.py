"""`python -m app.auth NAME`: make an API key."""

from __future__ import annotations

import sys

from app.auth.keys import make_key


def main(arguments: list[str]) -> None:
    """Print a new key, which is shown this once, and the line for the file of keys."""
    if len(arguments) != 1 or arguments[0].startswith("-"):
        sys.exit("usage: python -m app.auth NAME")
    try:
        key, line = make_key(arguments[0])
    except ValueError as error:
        sys.exit(f"laconic: {error}")
    print("The key, which nothing can show again:\n")
    print(f"    {key}\n")
    print("The line for the file in LACONIC_API_KEYS_FILE:\n")
    print(f"    {line}")


if __name__ == "__main__":
    main(sys.argv[1:])
