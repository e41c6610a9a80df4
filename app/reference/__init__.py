"""What the reference says of each route beyond what its rule and its schemas say themselves."""
