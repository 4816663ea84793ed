"""Schema of the auth service, in the home database."""
