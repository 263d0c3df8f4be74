"""From text and tables to batches of tokens."""
