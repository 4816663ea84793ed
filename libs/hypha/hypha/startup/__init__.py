"""
Startup functions and the process that runs them:
``python -m hypha.startup serve --startup-functions file.py:function``.
"""
