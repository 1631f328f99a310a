"""strop on a real sentence-embedding model; one part for each family of ops."""
