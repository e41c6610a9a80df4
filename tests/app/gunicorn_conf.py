"""The settings of gunicorn.conf.py as they are, for a server whose engine needs no adapter."""

from pathlib import Path

_FILE = Path(__file__).parents[2] / "gunicorn.conf.py"
exec(compile(_FILE.read_text(encoding="utf-8"), str(_FILE), "exec"))


def check_start(config):
    """Instead of the real one, which would look for the adapter."""
