"""What an operator does with tokens, keys, blocks and the record of events: ``hypha-auth <verb>``."""
