"""What records and traces say: pages, tables and figures, as pure functions."""
