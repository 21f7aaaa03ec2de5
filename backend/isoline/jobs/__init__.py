"""Jobs: the queue, the jobs and their readers, and the journal."""
