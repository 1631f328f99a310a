"""A sentence-embedding model whose linear layers are packed, beside torch's own ways."""
