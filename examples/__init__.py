"""Programs that show strop on real work."""
