"""Moving partitions between databases, and what operators see of them."""
