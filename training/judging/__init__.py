"""What is asked of a finished adapter, and what the answers say about it."""
