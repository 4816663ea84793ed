"""Schema of the workspace service; every database that holds partitions has all of it."""
