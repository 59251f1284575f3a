"""The tables of nas-cntk, beside Optuna's in the same database, and those of Optuna's that are read."""

from __future__ import annotations

import sqlalchemy as sa

METADATA = sa.MetaData()

SCHEMA = sa.Table(
    "ncntk_schema",
    METADATA,
    sa.Column("version", sa.Integer, primary_key=True),
    sa.Column("applied", sa.Text, nullable=False),
    sa.Column("package", sa.Text, nullable=False),
)

STUDIES = sa.Table(
    "ncntk_studies",
    METADATA,
    sa.Column("study_id", sa.Integer, primary_key=True, autoincrement=False),  # Optuna's; its name is there too
    sa.Column("created", sa.Text, nullable=False),
    sa.Column("target", sa.Integer, nullable=False),
    sa.Column("identity", sa.Text, nullable=False),  # JSON: what may never change
    sa.Column("config", sa.Text, nullable=False),  # JSON: everything else that resume needs
    sa.Column("sampler", sa.Text, nullable=False),  # JSON
    sa.Column("versions", sa.Text, nullable=False),  # JSON
    sa.Column("space_source", sa.Text, nullable=False),
    sa.Column("rate", sa.Float, nullable=True),  # entry-layers/s at the first calibration
    sa.Column("rate_backend", sa.Text, nullable=True),
)

# One row an ordinal: first its lease, then what became of it. It is finished when Optuna's trial of that number is.
TRIALS = sa.Table(
    "ncntk_trials",
    METADATA,
    sa.Column("study_id", sa.Integer, primary_key=True),
    sa.Column("ordinal", sa.Integer, primary_key=True),
    sa.Column("phase", sa.Text, nullable=False),  # open | asking | scoring | recorded | done
    sa.Column("kills", sa.Integer, nullable=False, default=0),
    sa.Column("number", sa.Integer, nullable=True),  # of Optuna's trial
    sa.Column("owner", sa.Text, nullable=True),
    sa.Column("host", sa.Text, nullable=True),
    sa.Column("pid", sa.Integer, nullable=True),
    sa.Column("started", sa.Text, nullable=True),
    sa.Column("heartbeat", sa.Float, nullable=True),
    sa.Column("key", sa.Text, nullable=True),
    sa.Column("outcome", sa.Text, nullable=True),  # COMPLETE | PRUNED
    sa.Column("reason", sa.Text, nullable=True),
    sa.Column("duplicate_of", sa.Integer, nullable=True),
    sa.Column("sibling_of", sa.Integer, nullable=True),  # the number of the trial whose score this one came with
    sa.Column("parameters", sa.Text, nullable=True),  # JSON
    sa.Column("params", sa.Integer, nullable=True),
    sa.Column("flops", sa.Integer, nullable=True),
    sa.Column("subset", sa.Integer, nullable=True),
    sa.Column("predicted_seconds", sa.Float, nullable=True),
    sa.Column("seconds", sa.Float, nullable=True),
    sa.Index("ncntk_trials_number", "study_id", "number"),
)

SCORES = sa.Table(
    "ncntk_scores",
    METADATA,
    sa.Column("study_id", sa.Integer, primary_key=True),
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("subset", sa.Integer, primary_key=True),
    sa.Column("holdout", sa.Integer, nullable=False),
    sa.Column("measured", sa.Text, nullable=False),
    sa.Column("result", sa.Text, nullable=False),  # JSON: everything that scoring returned, arrays aside
    sa.Column("correct", sa.LargeBinary, nullable=True),  # one bit a held-out image
)

ARCHITECTURES = sa.Table(
    "ncntk_architectures",
    METADATA,
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("json", sa.Text, nullable=False),
)

CHANGES = sa.Table(
    "ncntk_changes",
    METADATA,
    sa.Column("change_id", sa.Integer, primary_key=True),
    sa.Column("study_id", sa.Integer, nullable=False),
    sa.Column("finished", sa.Integer, nullable=False),  # trials at that moment
    sa.Column("changed", sa.Text, nullable=False),
    sa.Column("setting", sa.Text, nullable=False),
    sa.Column("before", sa.Text, nullable=False),  # JSON
    sa.Column("after", sa.Text, nullable=False),  # JSON
)

# One row a finished validation of an architecture: a trained CNN (one a recipe) or the full-dataset kernel.
VALIDATIONS = sa.Table(
    "ncntk_validations",
    METADATA,
    sa.Column("study_id", sa.Integer, primary_key=True),
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("kind", sa.Text, primary_key=True),  # cnn | kernel
    sa.Column("recipe", sa.Text, primary_key=True),  # standard | paper; empty for a kernel
    sa.Column("number", sa.Integer, nullable=False),  # of the trial that was asked for
    sa.Column("accuracy", sa.Float, nullable=True),  # none where every training diverged
    sa.Column("stderr", sa.Float, nullable=True),
    sa.Column("train_images", sa.Integer, nullable=False),
    sa.Column("test_images", sa.Integer, nullable=False),
    sa.Column("seconds", sa.Float, nullable=False),
    sa.Column("finished", sa.Text, nullable=False),
    sa.Column("details", sa.Text, nullable=False),  # JSON
)

# The points of a grid that are trained while others are not yet; gone when the validation is recorded.
POINTS = sa.Table(
    "ncntk_validation_points",
    METADATA,
    sa.Column("study_id", sa.Integer, primary_key=True),
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("recipe", sa.Text, primary_key=True),
    sa.Column("settings", sa.Text, primary_key=True),  # hash of everything that the result depends on
    sa.Column("result", sa.Text, nullable=False),  # JSON
)

# One row a finished cell of a table or plot of the paper; `settings` is a hash of everything that it depends on.
PAPER_CELLS = sa.Table(
    "ncntk_paper_cells",
    METADATA,
    sa.Column("settings", sa.Text, primary_key=True),
    sa.Column("experiment", sa.Text, nullable=False),  # table1 | table2 | theorem1 | theorem2 | gp
    sa.Column("column_name", sa.Text, nullable=False),
    sa.Column("depth", sa.Integer, nullable=False),
    sa.Column("accuracy", sa.Float, nullable=True),  # none where a distance is measured, or every training diverged
    sa.Column("stderr", sa.Float, nullable=True),
    sa.Column("train_images", sa.Integer, nullable=False),
    sa.Column("test_images", sa.Integer, nullable=False),
    sa.Column("seconds", sa.Float, nullable=False),
    sa.Column("finished", sa.Text, nullable=False),
    sa.Column("details", sa.Text, nullable=False),  # JSON
)

# Draws, seeds and grid points of cells that are not finished; gone when the cell is.
PAPER_PARTS = sa.Table(
    "ncntk_paper_parts",
    METADATA,
    sa.Column("settings", sa.Text, primary_key=True),
    sa.Column("part", sa.Text, primary_key=True),
    sa.Column("result", sa.Text, nullable=False),  # JSON
)

# What a benchmark measured of one subject (a cell), by a hash of everything that it depends on.
BENCHMARK_SCORES = sa.Table(
    "ncntk_benchmark_scores",
    METADATA,
    sa.Column("settings", sa.Text, primary_key=True),
    sa.Column("benchmark", sa.Text, nullable=False),  # nasbench201
    sa.Column("subject", sa.Text, nullable=False),  # canonical key
    sa.Column("part", sa.Text, nullable=False),  # kernels, or a score of its own
    sa.Column("seconds", sa.Float, nullable=False),
    sa.Column("finished", sa.Text, nullable=False),
    sa.Column("result", sa.Text, nullable=False),  # JSON: scores by name, null where undefined
)

OPTUNA_STUDIES = sa.table("studies", sa.column("study_id", sa.Integer), sa.column("study_name", sa.Text))
OPTUNA_TRIALS = sa.table(
    "trials",
    sa.column("trial_id", sa.Integer),
    sa.column("study_id", sa.Integer),
    sa.column("number", sa.Integer),
    sa.column("state", sa.Enum("RUNNING", "WAITING", "COMPLETE", "PRUNED", "FAIL", name="trialstate")),
    sa.column("datetime_start", sa.DateTime),
    sa.column("datetime_complete", sa.DateTime),
)
OPTUNA_PARAMS = sa.table(
    "trial_params",
    sa.column("trial_id", sa.Integer),
    sa.column("param_name", sa.Text),
    sa.column("param_value", sa.Float),
    sa.column("distribution_json", sa.Text),
)
