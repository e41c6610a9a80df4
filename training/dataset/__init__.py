"""From files as people have them to the ids that a trainer reads: `load.load_examples`."""
