"""The `opu` command: thin, one file a subcommand, and the report that binds figures to one page."""
