"""A folder of pictures in, labels for every file out: the verbs that exist, one after the other, and again."""
