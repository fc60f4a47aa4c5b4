"""The gallery: a run's categories as one page to look at, and the corrections that come back from it."""
