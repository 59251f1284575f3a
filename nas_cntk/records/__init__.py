"""The records of every study, in one database with Optuna's tables: the only room that knows SQLAlchemy."""
