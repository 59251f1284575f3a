"""What this machine has for a search, what is missing, and what to do about it."""
