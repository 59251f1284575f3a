"""Scores: what an architecture may be judged by, each with its direction and what it needs to be computed."""

from nas_cntk.scores.kinds import PREFIX, SCORES, Direction, Kind, ScoreKind, parse_scores, standard_error

__all__ = ["PREFIX", "SCORES", "Direction", "Kind", "ScoreKind", "parse_scores", "standard_error"]
