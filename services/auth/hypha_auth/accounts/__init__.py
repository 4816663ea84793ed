"""Accounts of people on this server itself: e-mail address and password (contract 01 §4.7)."""
