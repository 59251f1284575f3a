"""The commands: each parses, calls and prints, and imports what it needs inside, so that --help is instant."""
