"""The commands of `python -m training`, one file each; light until one of them runs."""
