"""Options from a TOML file, and the options in effect as TOML."""
