"""What a run needs of the machine, and how it is laid out to fit."""
