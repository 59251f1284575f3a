"""The results of Arora et al. 2019, each recomputed by one command: `nas-cntk paper`."""
