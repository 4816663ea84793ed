"""Schema of the artifacts service; every database that holds partitions has all of it."""
