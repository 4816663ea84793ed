"""The pages where people log in. Each works without scripts, and embeds what it is told as text only."""
