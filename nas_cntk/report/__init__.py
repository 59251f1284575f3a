"""What people see: leaderboards, trials, the live view of a search."""
