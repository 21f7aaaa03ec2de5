"""Jobs: the queue, a job and its readers, the journal."""
