"""What can keep a training run from working, one file for each thing that is looked at."""
