"""All that lies in a run's folder: configuration, checkpoints, environment, names, and its copy in a storage."""
