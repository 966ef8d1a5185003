"""How state is kept: records in a database, bytes in a blob store."""
