"""
What workers are made of: programs that run apps of some type for a Hypha server (``docs/how-to/workers.md``).
"""
