"""Models to take home: a study's architecture as torch code and weights, or as a fitted kernel regression."""
