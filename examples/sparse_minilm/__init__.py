"""A pruned sentence-embedding model whose layers skip what was pruned."""
