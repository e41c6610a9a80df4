"""Whatever ends a run before its time, nothing that was learned is lost."""
