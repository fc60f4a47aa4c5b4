"""Ray: connect to a cluster, start and follow workers, and what each of them does."""
