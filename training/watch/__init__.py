"""What is shown and written while a run goes on: progress, logs, status, losses, samples."""
