"""The records of every study, in one SQLite file with Optuna's tables: the only room that knows SQLAlchemy."""
